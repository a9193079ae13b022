//! The sockets of connections: plain TCP, or any `AsyncRead + AsyncWrite`.
//!
//! A [`Link`] is what a room sees of a socket. The room's driver queues frames in it and writes them on its
//! own thread. The socket's [`SocketTask`](task::SocketTask) reads, and writes what the socket did not take at
//! once. It reads into a buffer that all sockets of a thread share. So between two messages a connection
//! consists of its `SocketTask`, its `Link` and the core's `Connection`, and none of them holds a buffer. For
//! plain TCP the loops of the `Reactor` run the `SocketTask`s; any other transport gets a task of Tokio for
//! each. The [`Sweeper`], one for all links, sends pings and watches time limits: no link has a
//! timer.

mod carriage;
mod charge;
mod io;
#[cfg(unix)]
mod left;
mod link;
mod open;
mod outbound;
mod pace;
#[cfg(unix)]
mod plain;
mod queue;
#[cfg(unix)]
mod reactor;
#[cfg(unix)]
mod runner;
pub(crate) mod scratch;
mod settings;
mod spare;
mod state;
mod sweeper;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use io::{Carrier, Io, Never, Resets};
#[cfg(unix)]
pub(crate) use left::{Arrived, Exit, Left, Out, SocketState};
pub(crate) use link::{Link, Verdict};
pub(crate) use open::open;
pub(crate) use outbound::{Ledger, Outbound, OutboundLimits};
#[cfg(unix)]
pub(crate) use reactor::Reactor;
pub(crate) use settings::LinkSettings;
pub(crate) use sweeper::Sweeper;
#[cfg(test)]
pub(crate) use task::SocketTask;
