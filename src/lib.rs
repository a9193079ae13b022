//! PartyKit for Rust.
#![forbid(unsafe_code)]
pub use partykit_core::*;
