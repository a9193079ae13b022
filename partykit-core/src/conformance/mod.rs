//! Suites that tell whether an implementation keeps a contract. (Feature `testing`.)
//!
//! A suite panics and names the broken line of the contract. New releases may add cases.

pub mod storage;
