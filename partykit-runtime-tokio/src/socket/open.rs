use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use partykit_core::runtime::{ConnectionKey, RoomCell};
#[cfg(unix)]
use tokio::net::TcpStream;

use super::{Io, Link, task::SocketTask};
use crate::shutdown::Alive;
#[cfg(unix)]
use crate::{limits::Place, socket::plain::Plain};

/// Runs a socket to its end, after the handshake was answered with 101. Gives the client's messages to the
/// room, and tells the room how the connection ended. A shutdown waits for `alive`.
///
/// `already_read` is what the client sent right after its handshake.
///
/// Plain TCP goes to a loop of the [`Reactor`](super::Reactor), anything else gets a task of its own.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub(crate) fn open(
    io: Box<dyn Io>,
    already_read: Bytes,
    link: Arc<Link>,
    room: Arc<RoomCell>,
    connection: ConnectionKey,
    alive: Alive,
) {
    #[cfg(unix)]
    let io = match link.settings().reactor {
        Some(_) => match io.into_tcp() {
            Ok((stream, place)) => {
                return open_tcp(stream, place, already_read, link, room, connection, alive);
            }
            Err(io) => io,
        },
        None => io,
    };
    let task = SocketTask::new(io, already_read, link, room, connection);
    tokio::spawn(task.map(|()| drop(alive)));
}

/// The same for plain TCP, of a party whose settings have a [`Reactor`](super::Reactor).
#[cfg(unix)]
pub(crate) fn open_tcp(
    stream: TcpStream,
    place: Arc<Place>,
    already_read: Bytes,
    link: Arc<Link>,
    room: Arc<RoomCell>,
    connection: ConnectionKey,
    alive: Alive,
) {
    match Plain::new(stream, Some(place)) {
        Ok(io) => {
            let reactor = link.settings().reactor.clone();
            let task = SocketTask::new(io, already_read, link, room, connection);
            if let Some(reactor) = reactor {
                reactor.open(task, alive);
            }
        }
        Err(error) => {
            tracing::debug!("a socket is lost: {error}");
            room.closed(connection, partykit_core::runtime::CloseReason::Broken.close());
        }
    }
}
