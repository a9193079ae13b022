//! What every PartyKit runtime has to do, as black-box cases that speak HTTP and WebSocket, and the
//! parties that they talk to.
//!
//! * The parties ([`Probe`], [`Starter`], [`Small`], [`Switchboard`]) know nothing but `partykit`: any runtime can serve
//!   them. A client scripts them with [`Command`]s.
//! * The cases ([`suite`]) know nothing but an address, and a way to put a room to sleep.
//! * The binary `probe` serves the parties on Tokio; with the feature `workers`, the library is a Worker
//!   of them.
//!
//! To check another runtime, serve [the parties](PARTIES) on it and [run](suite::run) the suite on its
//! address.
#![forbid(unsafe_code)]

mod probe;
#[cfg(feature = "suite")]
mod serve;
#[cfg(feature = "suite")]
pub mod suite;
#[cfg(feature = "workers")]
mod workers;

pub use probe::{
    ANNEX, ANNEX_PAGE, ANNEX_PREFIX, AUTO_REQUEST, AUTO_RESPONSE, Arrival, Call, Command,
    IN_MEMORY, Motto, PARTIES, PROBE, Probe, Range, SECRET, SMALL, SMALL_BODY, SMALL_CONNECTIONS,
    SMALL_MESSAGE, STARTER, STRICT, SWITCHBOARD, Small, Starter, Switchboard, Wanted,
};
#[cfg(feature = "suite")]
pub use serve::{Server, serve};
