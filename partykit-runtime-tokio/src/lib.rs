//! PartyKit for Rust on Tokio.
#![forbid(unsafe_code)]
