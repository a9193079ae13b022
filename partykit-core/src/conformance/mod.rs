//! Suites that tell whether an implementation keeps a contract. (Feature `testing`.)
//!
//! They panic with the broken line of the contract. New releases may add cases.

pub mod storage;
