//! PartyKit for Rust on Cloudflare Workers: each room is a Durable Object, which sleeps with the platform's
//! WebSocket hibernation.
//!
//! Depend on the crate `partykit` with its feature `workers`, which re-exports this one as
//! `partykit::workers`. [`export!`] makes a Worker of parties; the same parties run, unchanged, on the
//! Tokio runtime.
//!
//! The crate compiles for every target, so that a whole project can be checked, but it works only on
//! `wasm32-unknown-unknown`.
#![deny(unsafe_code)]

mod backend;
mod clock;
mod convert;
mod entry;
mod env;
mod envelope;
mod export;
mod host;
mod hosted;
mod inbox;
mod js;
mod local;
mod log;
mod object;
mod parties;
mod settings;
mod settled;
mod socket;
mod stub;
mod tasks;
mod timers;

pub use env::Env;
pub use local::local;
pub use settings::Settings;

/// JavaScript's own types, which bindings are made of.
pub use js_sys;

/// For the code that [`export!`] makes.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        entry::fetch,
        object::Object,
        parties::{Parties, Party},
    };
    pub use js_sys::Promise;
    pub use wasm_bindgen::{self, JsValue};
}
