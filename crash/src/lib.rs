//! Kills a server over and over, by SIGKILL or by a power loss, and checks that it kept its word.

#![forbid(unsafe_code)]

mod power;

pub use power::{Loss, scribe, self_test, shim};
