//! The sockets of connections: any `AsyncRead + AsyncWrite`, one small task each.
//!
//! A [`Link`] is what a room sees of a socket. The room's driver queues frames at it and has them
//! written from its own thread; the socket's task, [`run`], writes only what did not fit, and reads. It
//! reads into a buffer that all sockets of a thread share, so that between two messages a connection
//! is its task, its `Link` and the core's `Connection`, and none of the three holds a buffer. Pings,
//! time limits and hanging up are the [`Sweeper`]'s, one for all links: no link has a timer.

mod charge;
mod io;
mod link;
mod outbound;
mod pace;
mod queue;
mod scratch;
mod settings;
mod state;
mod sweeper;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use io::{Carrier, Io, Never, Resets};
pub(crate) use link::{Link, Verdict};
pub(crate) use outbound::{Ledger, Outbound, OutboundLimits};
pub(crate) use settings::LinkSettings;
pub(crate) use sweeper::Sweeper;
pub(crate) use task::run;
