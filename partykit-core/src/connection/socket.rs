use std::task::{Context, Poll};

use super::outgoing::Outgoing;
use crate::{Close, Connection};

/// A socket that a runtime owns: the other end of a [`Connection`](crate::Connection). Its methods
/// are called by the room's driver, in order and never two at once, and must not block.
///
/// ```
/// use std::sync::Mutex;
/// use partykit_core::{Close, Message, runtime::{Outgoing, Socket}};
///
/// /// Notes what a room says, for a test.
/// #[derive(Default)]
/// struct Notebook(Mutex<Vec<Message>>);
///
/// impl Socket for Notebook {
///     fn accept(&self) {}
///     fn refuse(&self, _: Close) {}
///     fn send(&self, message: &Outgoing) {
///         self.0.lock().unwrap().push(message.message().clone());
///     }
///     fn close(&self, _: Close) {}
///     fn flush(&self) {}
/// }
/// ```
pub trait Socket: Send + Sync + 'static {
    /// `on_connect` succeeded and its writes are durable: answer the handshake.
    fn accept(&self);

    /// The connect failed: answer the handshake, send this Close and nothing else.
    fn refuse(&self, close: Close);

    /// The attachment has changed: on accept, when a state is committed, and when a failed commit restores
    /// the former state. A runtime that keeps [attachments](crate::runtime::Attachment) outside of itself
    /// writes it there. Also called before the socket is accepted. Default: does nothing.
    fn attach(&self, connection: &Connection) {
        let _ = connection;
    }

    /// Queues a message. It may leave at once, and has to after [`Socket::flush`]. A socket that is
    /// closed, or too far behind, drops it.
    fn send(&self, message: &Outgoing);

    /// Queues a Close behind what is queued. When the socket has ended, the runtime says so with
    /// [`RoomCell::closed`](crate::runtime::RoomCell::closed).
    fn close(&self, close: Close);

    /// Another connection of the room has come with this one's id: its client may have lost this socket
    /// and come back. Finds out soon whether anybody is at the other end. Does nothing unless
    /// implemented.
    fn probe(&self) {}

    /// How many bytes wait for the client to take them. 0 unless implemented.
    fn queued(&self) -> usize {
        0
    }

    /// Ready when at most `at_most` bytes wait for the client, or the socket takes no more messages.
    /// While it is not, `cx` is woken when it may have become so. Called from anywhere. Always ready
    /// unless implemented.
    fn poll_drained(&self, at_most: usize, cx: &mut Context<'_>) -> Poll<()> {
        let _ = (at_most, cx);
        Poll::Ready(())
    }

    /// Lets what is queued leave. Called once for each socket after a turn, so that what a room said to
    /// one client in it leaves in one write.
    fn flush(&self);
}
