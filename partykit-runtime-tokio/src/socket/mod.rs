//! The sockets of connections: any `AsyncRead + AsyncWrite`, one small task each.
//!
//! A [`Link`] is what a room sees of a socket. The room's driver queues frames in it and writes them on its
//! own thread. The socket's task, [`run`], reads, and writes what the socket did not take at once. It reads
//! into a buffer that all sockets of a thread share. So between two messages a connection consists of its
//! task, its `Link` and the core's `Connection`, and none of them holds a buffer. The [`Sweeper`], one for
//! all links, sends pings and watches time limits: no link has a timer.

mod charge;
mod io;
mod link;
mod outbound;
mod pace;
mod queue;
pub(crate) mod scratch;
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
