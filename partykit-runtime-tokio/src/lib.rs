//! PartyKit for Rust in one self-hosted binary. A [`Runtime`] listens for clients, gives every room sockets,
//! storage and time on Tokio, and lets idle rooms sleep while their sockets stay open.
//!
//! Depend on the crate `partykit` instead. It re-exports this crate together with everything that parties are
//! written with.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![allow(
    clippy::result_large_err,
    reason = "an answer given early is an Err, at most once a request"
)]
#![cfg_attr(
    not(unix),
    allow(
        dead_code,
        unused_imports,
        reason = "what only loops and hand-overs need, which are for Unix"
    )
)]

mod admitted;
mod alarms;
mod builder;
mod clock;
mod codec;
mod crowd;
mod error;
mod farewell;
mod front;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod gather;
#[cfg(unix)]
mod given;
mod handle;
#[cfg(unix)]
mod handover;
mod host;
mod ingress;
mod limits;
mod listen;
mod memory;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics_off.rs"]
mod metrics;
mod party;
mod proxies;
mod registry;
mod rewind;
mod ringer;
mod runtime;
mod shutdown;
mod signals;
mod socket;
mod stats;
pub mod store;
#[cfg(unix)]
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod watch;

pub use builder::Builder;
pub use error::ServeError;
pub use front::RuntimeService;
pub use handle::{Handle, RoomListing};
#[cfg(unix)]
pub use handover::HandOverError;
#[cfg(unix)]
pub use listen::bind_unix;
pub use listen::{Listener, bind};
pub use proxies::{ClientAddress, ProxyHeaders};
pub use runtime::Runtime;
/// The crate whose configuration a [`TlsListener`] takes, with `ring` as its default cryptography.
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use rustls;
pub use stats::{PartyStats, RuntimeStats};
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use tls::{TlsListener, TlsStream};
