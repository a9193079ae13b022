//! PartyKit for Rust in one self-hosted binary: a [`Runtime`] listens, gives every room of its parties
//! sockets, storage and time on Tokio, and lets idle rooms sleep while their sockets stay open.
//!
//! Depend on the crate `partykit` instead, which re-exports this beside what parties are written with.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![allow(
    clippy::result_large_err,
    reason = "an answer given early is an Err, at most once a request"
)]

mod admission;
mod answer;
mod arrival;
mod body;
mod builder;
mod clock;
mod codec;
mod error;
mod front;
mod handle;
mod hook;
mod host;
mod origins;
mod party;
mod registry;
mod room_rate;
mod runtime;
mod serve;
mod shutdown;
mod signals;
mod socket;
mod stats;
mod upgrade;

pub use builder::Builder;
pub use error::ServeError;
pub use handle::Handle;
pub use runtime::Runtime;
pub use stats::{PartyStats, RuntimeStats};
