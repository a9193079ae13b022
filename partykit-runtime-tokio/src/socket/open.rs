use std::sync::Arc;

use futures_util::FutureExt;
use partykit_core::runtime::{ConnectionKey, RoomCell};

use super::{
    Link,
    task::{SocketTask, Start},
};
#[cfg(unix)]
use super::{carriage::Carriage, plain::Plain, reactor::shared};
use crate::{ingress::Transport, shutdown::Alive};

/// Runs a socket to its end, after the handshake was answered with 101. Gives the client's messages to the
/// room, and tells the room how the connection ended. A shutdown waits for `alive`.
///
/// Plain TCP goes to a loop of the [`Reactor`](super::Reactor), anything else gets a task of its own.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub(crate) fn open(
    transport: Transport,
    start: impl Into<Start>,
    link: Arc<Link>,
    room: Arc<RoomCell>,
    connection: ConnectionKey,
    alive: Alive,
) {
    #[cfg(unix)]
    let transport = match (transport, link.settings().reactor.clone()) {
        (Transport::Tcp(io), Some(reactor)) => {
            let (stream, place) = io.into_parts();
            return match stream.into_std() {
                Ok(stream) => {
                    let io = Plain::new(stream, Some(place));
                    let shared = shared(&room, connection);
                    let task = SocketTask::new(io, start, link, room, connection);
                    reactor.open(task, shared, alive);
                }
                Err(error) => {
                    tracing::debug!("a socket is lost: {error}");
                    room.closed(connection, partykit_core::runtime::CloseReason::Broken.close());
                }
            };
        }
        (transport, _) => transport,
    };
    let task = SocketTask::new(transport.into_io(), start, link, room, connection);
    tokio::spawn(task.map(|()| drop(alive)));
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
    let shared = shared(&room, connection);
    let task = SocketTask::new(carriage, start, link, room, connection);
    match reactor.filter(|_| is_plain) {
        Some(reactor) => reactor.open(task, shared, alive),
        None => drop(tokio::spawn(task.map(|()| drop(alive)))),
    }
}
