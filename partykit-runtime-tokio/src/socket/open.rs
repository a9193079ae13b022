use std::sync::Arc;

use futures_util::FutureExt;
use partykit_core::runtime::{ConnectionKey, RoomCell};
#[cfg(unix)]
use tokio::net::TcpStream;

use super::{
    Io, Link,
    task::{SocketTask, Start},
};
use crate::shutdown::Alive;
#[cfg(unix)]
use crate::{
    limits::Place,
    socket::{carriage::Carriage, plain::Plain},
};

/// Runs a socket to its end, after the handshake was answered with 101. Gives the client's messages to the
/// room, and tells the room how the connection ended. A shutdown waits for `alive`.
///
/// Plain TCP goes to a loop of the [`Reactor`](super::Reactor), anything else gets a task of its own.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub(crate) fn open(
    io: Box<dyn Io>,
    start: impl Into<Start>,
    link: Arc<Link>,
    room: Arc<RoomCell>,
    connection: ConnectionKey,
    alive: Alive,
) {
    #[cfg(unix)]
    let io = match link.settings().reactor {
        Some(_) => match io.into_tcp() {
            Ok((stream, place)) => {
                return open_tcp(stream, place, start, link, room, connection, alive);
            }
            Err(io) => io,
        },
        None => io,
    };
    let task = SocketTask::new(io, start, link, room, connection);
    tokio::spawn(task.map(|()| drop(alive)));
}

/// The same for plain TCP, of a party whose settings have a [`Reactor`](super::Reactor).
#[cfg(unix)]
pub(crate) fn open_tcp(
    stream: TcpStream,
    place: Arc<Place>,
    start: impl Into<Start>,
    link: Arc<Link>,
    room: Arc<RoomCell>,
    connection: ConnectionKey,
    alive: Alive,
) {
    match Plain::new(stream, Some(place)) {
        Ok(io) => {
            let reactor = link.settings().reactor.clone();
            let task = SocketTask::new(io, start, link, room, connection);
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

/// The same for a socket that comes back from another process.
#[cfg(unix)]
pub(super) fn open_again(
    carriage: Carriage,
    start: Start,
    link: Arc<Link>,
    room: Arc<RoomCell>,
    connection: ConnectionKey,
    alive: Alive,
) {
    let reactor = link.settings().reactor.clone();
    let is_plain = matches!(carriage, Carriage::Plain(_));
    let task = SocketTask::new(carriage, start, link, room, connection);
    match reactor.filter(|_| is_plain) {
        Some(reactor) => reactor.open(task, alive),
        None => drop(tokio::spawn(task.map(|()| drop(alive)))),
    }
}
