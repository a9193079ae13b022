use std::{
    any::Any,
    task::{Context, Poll},
};

use super::outgoing::Outgoing;
use crate::{Close, Connection};

/// A socket that a runtime owns: the other end of a [`Connection`](crate::Connection). Its methods
/// are called by the room's driver, in order and never two at once, and must not block.
///
/// It is [`Any`], so that a runtime that asks a room for its [sockets](crate::runtime::RoomCell::records) can
/// find its own type behind each.
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
///     fn send(&self, message: Outgoing<'_>) {
///         self.0.lock().unwrap().push(message.message().clone());
///     }
///     fn close(&self, _: Close) {}
///     fn flush(&self) {}
/// }
/// ```
pub trait Socket: Any + Send + Sync {
    /// `on_connect` succeeded and its writes are durable: answer the handshake.
    fn accept(&self);

    /// The connect failed: answer the handshake with 101, and send only this Close.
    fn refuse(&self, close: Close);

    /// The attachment has changed: on accept, when a state is committed, and when a failed commit restores
    /// the former state. A runtime that keeps [attachments](crate::runtime::Attachment) outside of itself
    /// writes it there. Also called before the socket is accepted. Default: does nothing.
    fn attach(&self, connection: &Connection) {
        let _ = connection;
    }

    /// Queues a message. It may leave at once; after [`Socket::flush`] it must leave. A socket that is closed
    /// or too far behind drops it.
    fn send(&self, message: Outgoing<'_>);

    /// Does what [`Socket::send`] does for each of these messages, and after the last one, if it `flushes`,
    /// what [`Socket::flush`] does. A socket with a lock can take it once for all of this. Default: calls both.
    fn send_all(&self, messages: &mut dyn Iterator<Item = Outgoing<'_>>, flushes: bool) {
        messages.for_each(|message| self.send(message));
        if flushes {
            self.flush();
        }
    }

    /// Queues a Close behind what is queued. When the socket has ended, the runtime says so with
    /// [`RoomCell::closed`](crate::runtime::RoomCell::closed).
    fn close(&self, close: Close);

    /// A new connection of the room has the same id: the client may have lost this socket and come back.
    /// Check soon whether the client is still there. Default: does nothing.
    fn probe(&self) {}

    /// How many bytes wait to be read by the client. Default: 0.
    fn queued(&self) -> usize {
        0
    }

    /// Ready when at most `at_most` bytes wait for the client, or when the socket takes no more messages.
    /// Otherwise it wakes `cx` when this may have changed. Called from any thread. Default: always ready.
    fn poll_drained(&self, at_most: usize, cx: &mut Context<'_>) -> Poll<()> {
        let _ = (at_most, cx);
        Poll::Ready(())
    }

    /// Sends the queued messages. Called once for each socket after a turn, so that all messages of a turn to
    /// one client leave in one write.
    fn flush(&self);
}
