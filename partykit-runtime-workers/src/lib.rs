//! PartyKit for Rust on Cloudflare Workers: one Durable Object for each room, sleeping with the
//! platform's own WebSocket hibernation.
//!
//! **Not there yet.** This crate reserves the place and the dependency: it re-exports
//! [`partykit_core`], which already compiles for `wasm32-unknown-unknown`, so that a party can be
//! written and checked for that target today. Running it on Workers is the next large piece of
//! work; until it lands, use the Tokio runtime.
#![forbid(unsafe_code)]

pub use partykit_core;
