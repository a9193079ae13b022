//! PartyKit for Rust on Tokio.
#![forbid(unsafe_code)]

#[allow(dead_code, unused_imports)]
mod codec;
#[allow(dead_code, unused_imports)]
mod socket;
