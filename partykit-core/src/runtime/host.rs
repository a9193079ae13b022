use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::future::BoxFuture;

use crate::{
    Backend, CallError, Close, Message, Request, Response, RoomAddress, Timestamp,
    engine::cell::RoomCell, machine::fact::Fact, machine::mailboxes::Mailboxes, user::calls::Chain,
};

/// What a runtime gives to its rooms: time, chance, named values, storage, timers, tasks, and the way
/// to other rooms. One for all rooms of a runtime.
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::runtime::{Host, RoomCell, drive};
/// # use partykit_core::Server;
/// # struct Chat;
/// # impl Server for Chat {}
///
/// /// What `Host::start` of a runtime for one party comes down to.
/// fn start(host: &dyn Host, room: &Arc<RoomCell>) {
///     host.spawn(Box::pin(drive(room.clone(), |_| Chat)));
/// }
/// # let _ = start;
/// ```
pub trait Host: Send + Sync + 'static {
    /// A monotonic clock: the time since an origin of the runtime's choosing.
    fn elapsed(&self) -> Duration;

    /// What [`Host::elapsed`] showed when this process began to run rooms: an alarm in which an earlier
    /// process has ended is left alone for a while after that. The origin of the clock unless implemented.
    fn started(&self) -> Duration {
        Duration::ZERO
    }

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Fills `bytes` with random ones, good enough for ids that must not be guessed.
    fn random(&self, bytes: &mut [u8]);

    /// A named value: an environment variable, a secret.
    fn var(&self, name: &str) -> Option<String>;

    /// Where the rooms store.
    fn backend(&self) -> &Arc<dyn Backend>;

    /// Ends when [`Host::elapsed`] is `at` or later.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()>;

    /// Runs a task of a room to its end, beside the room.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Lets other tasks of this thread run first, and the runtime look at its sockets and timers. A busy
    /// room calls it about every 200 µs. Lets other tasks run unless implemented.
    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(crate::engine::driver::yield_now())
    }

    /// Whether there are so many rooms in memory that one which holds nothing (no connection, nothing
    /// stored, nothing that keeps it awake) should go at once, not after its idle time. `false` unless
    /// implemented.
    fn is_crowded(&self) -> bool {
        false
    }

    /// Counts what waits in the mailboxes of all rooms together. `None`, as it is unless implemented, if only
    /// the limit of each room is to hold.
    fn mailboxes(&self) -> Option<Arc<Mailboxes>> {
        None
    }

    /// Runs [`drive`](crate::runtime::drive) for this room, with the server of its party. Called when
    /// something is to be done and no driver runs, so never twice at once for one room.
    fn start(&self, room: &Arc<RoomCell>);

    /// The room sleeps, nobody is connected, nothing waits. The runtime should forget the cell, if
    /// [`RoomCell::is_vacant`] still holds while nobody can reach it: an event for a forgotten cell
    /// would meet a second life of its room.
    fn vacant(&self, room: &Arc<RoomCell>);

    /// Sends a request to another room and waits for its answer.
    fn call(
        &self,
        to: RoomAddress,
        request: Request,
        chain: Chain,
    ) -> BoxFuture<'static, Result<Response, CallError>>;

    /// Sends a request to another room, without an answer.
    fn tell(&self, to: RoomAddress, request: Request);

    /// Whether a party of this name is registered.
    fn knows_party(&self, name: &str) -> bool;

    /// A commit has ended that says when the room is to be woken: from then on,
    /// [`Backend::wake_ups`] may have an earlier time than before. At that time, or as soon as
    /// possible, the runtime tells the room with [`RoomCell::alarm`].
    ///
    /// Called from the room's driver; it must return at once. Does nothing unless implemented: right
    /// where the backend itself has the room woken.
    fn wake_up(&self, room: &RoomAddress, at: Timestamp) {
        let _ = (room, at);
    }

    /// Whether a room is to wait before it runs its next handler, and for what: the runtime has no
    /// memory left for what rooms say. The time counts as the handler's, so a runtime must let the room
    /// go on after a while. `None` unless implemented: rooms go on at once.
    fn relief(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Something happened to a room that may be worth counting. Called as it happens, from anywhere,
    /// while the caller may hold locks: it must return at once, and not come back to a room. Does
    /// nothing unless implemented.
    fn observe(&self, room: &RoomAddress, fact: Fact) {
        let _ = (room, fact);
    }
}

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

    /// What the connection has attached is another than before: it has just been accepted, or its state
    /// was committed, or a failed commit gave it the former one back. A runtime that keeps
    /// [attachments](crate::runtime::Attachment) outside of itself writes it there. Also called before
    /// the socket is accepted. Does nothing unless implemented.
    fn attach(&self, connection: &crate::Connection) {
        let _ = connection;
    }

    /// Queues a message. It may leave at once, and has to after [`Socket::flush`]. A socket that is
    /// closed, or too far behind, drops it.
    fn send(&self, message: &Outgoing);

    /// Queues a Close behind what is queued. When the socket has ended, the runtime says so with
    /// [`RoomCell::closed`].
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

/// A message on its way to any number of sockets, with room for its encoded form: whichever socket is
/// first encodes, the others share.
///
/// ```
/// use bytes::Bytes;
/// use partykit_core::runtime::Outgoing;
///
/// fn queue(message: &Outgoing, queue: &mut Vec<Bytes>) {
///     queue.push(message.encoded(|message| Bytes::copy_from_slice(message.as_bytes())).clone());
/// }
/// # let _ = queue;
/// ```
pub struct Outgoing {
    message: Message,
    encoded: std::sync::OnceLock<Bytes>,
}

impl Outgoing {
    pub(crate) fn new(message: Message) -> Self {
        Self { message, encoded: std::sync::OnceLock::new() }
    }

    /// The message itself.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The message as `encode` makes it, encoded at most once.
    pub fn encoded(&self, encode: impl FnOnce(&Message) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(&self.message))
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}
