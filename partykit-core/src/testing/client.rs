use std::{
    collections::VecDeque,
    fmt, mem,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::host::TestHost;
use crate::{
    BoxError, Close, Connection, InvalidClose, Message, Refusal, Reject, Response, Text,
    connection::Owner,
    runtime::{CloseReason, ConnectionKey, Host, Outgoing, RoomCell, Socket},
};

/// The client's end of a connection to a [`TestRoom`](super::TestRoom).
///
/// ```
/// use partykit_core::{Message, Server, testing::TestRoom};
///
/// #[derive(Default)]
/// struct Silent;
/// impl Server for Silent {}
///
/// # futures_executor::block_on(async {
/// let room = TestRoom::<Silent>::new();
/// let ada = room.connect("ada").await;
/// ada.send("hello?").await;
/// assert!(ada.received().is_empty());
/// ada.close(1000, "").await.unwrap();
/// assert!(!ada.is_open());
/// # });
/// ```
pub struct TestConnection {
    key: ConnectionKey,
    id: String,
    /// Made when a test asks for it: a handle that is held does not go when the room sleeps.
    connection: OnceLock<Connection>,
    uri: String,
    socket: Arc<TestSocket>,
    host: Arc<TestHost>,
    cell: Arc<RoomCell>,
    protocol: Option<String>,
    pace: Option<Mutex<Pace>>,
    /// Which of the server's processes it is connected to.
    process: u64,
}

impl TestConnection {
    pub(super) fn new(
        key: ConnectionKey,
        (id, uri): (&str, &str),
        socket: Arc<TestSocket>,
        host: Arc<TestHost>,
        cell: Arc<RoomCell>,
        rate: Option<(NonZeroU32, NonZeroU32)>,
    ) -> Self {
        let pace = rate.map(|rate| Mutex::new(Pace { rate, full_at: Duration::ZERO }));
        let process = host.process();
        Self {
            key,
            id: id.to_owned(),
            connection: OnceLock::new(),
            uri: uri.to_owned(),
            socket,
            host,
            cell,
            protocol: None,
            pace,
            process,
        }
    }

    pub(super) fn speaking(self, protocol: Option<String>) -> Self {
        Self { protocol, ..self }
    }

    /// The sub-protocol that the before-hook has chosen.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The connection's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The connection as the room sees it. If it has ended before the first call, only its id and uri are
    /// known.
    pub fn connection(&self) -> &Connection {
        self.connection.get_or_init(|| {
            self.cell.connection(self.key).unwrap_or_else(|| {
                let room: Weak<dyn Owner> = Arc::<RoomCell>::downgrade(&self.cell);
                let (order, socket) = (self.key.order(), self.socket.clone());
                Connection::new(order, &*self.id, &*self.uri, room, socket)
            })
        })
    }

    /// Sends a message, and lets the room handle it.
    ///
    /// # Panics
    ///
    /// When the room's mailbox is full. A real client would have to wait here.
    pub async fn send(&self, message: impl Into<Message>) {
        self.push(message);
        self.host.settle().await;
    }

    /// Sends a message, and lets nothing happen yet. A message over
    /// [`Options::max_message_rate`](crate::Options::max_message_rate) is dropped and closes the connection
    /// with 1008. After a [crash](super::TestRoom::crash), no server hears the message.
    ///
    /// # Panics
    ///
    /// When the room's mailbox is full.
    pub fn push(&self, message: impl Into<Message>) {
        if self.has_lost_its_server() {
            return;
        }
        if let Some(pace) = &self.pace
            && !pace.lock().unwrap_or_else(PoisonError::into_inner).allows(self.host.elapsed())
        {
            let close = CloseReason::TooManyMessages.close();
            self.socket.close(close.clone());
            self.socket.state().ended = true;
            return self.cell.closed(self.key, close);
        }
        let refused = self.cell.message(self.key, message.into());
        assert!(refused.is_ok(), "the mailbox of {} is full", self.cell.address());
    }

    /// Closes the connection, as a client does.
    ///
    /// # Errors
    ///
    /// When a client could not send such a Close.
    pub async fn close(&self, code: u16, reason: impl Into<Text>) -> Result<(), InvalidClose> {
        let close = Close::new(code, reason)?;
        self.end(close).await;
        Ok(())
    }

    /// Ends the connection without a Close, like a client that is gone.
    pub async fn vanish(&self) {
        self.end(Close::abnormal("the client is gone")).await;
    }

    /// Stops reading: what the room sends from now on waits, and [`Connection::buffered`] counts it. A test's
    /// client is never closed for this.
    ///
    /// ```
    /// use partykit_core::{Connection, Message, Result, Room, Server, testing::TestRoom};
    ///
    /// #[derive(Default)]
    /// struct Echo;
    /// impl Server for Echo {
    ///     async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
    ///         sender.send(message);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # futures_executor::block_on(async {
    /// let room = TestRoom::<Echo>::new();
    /// let ada = room.connect("ada").await;
    /// ada.stop_reading();
    /// ada.send("hello").await;
    /// assert_eq!((ada.received().len(), ada.connection().buffered()), (0, 5));
    /// ada.read(usize::MAX).await;
    /// assert_eq!((ada.received().len(), ada.connection().buffered()), (1, 0));
    /// # });
    /// ```
    pub fn stop_reading(&self) {
        self.socket.state().reads = false;
    }

    /// Reads this many messages that wait since [`TestConnection::stop_reading`]. If there are fewer, the
    /// client reads normally again. Then lets the room go on.
    pub async fn read(&self, messages: usize) {
        self.socket.read(messages);
        self.host.settle().await;
    }

    /// The messages that have arrived since the last call.
    pub fn received(&self) -> Vec<Message> {
        mem::take(&mut self.socket.state().received)
    }

    /// The Close that the server sent. `None` if it sent no Close.
    pub fn closed(&self) -> Option<Close> {
        self.socket.state().closed.clone()
    }

    /// Whether the handshake was answered, with or without success.
    pub fn is_answered(&self) -> bool {
        self.socket.state().answered
    }

    /// Whether the connection is open: accepted, neither end has closed it, and the server has not crashed
    /// since.
    pub fn is_open(&self) -> bool {
        if self.has_lost_its_server() {
            return false;
        }
        let state = self.socket.state();
        state.answered && state.closed.is_none() && !state.ended
    }

    /// Answers the server's Close, as a client does by itself.
    pub async fn answer_close(&self) {
        if let Some(close) = self.closed() {
            self.end(close).await;
        }
    }

    async fn end(&self, close: Close) {
        {
            let mut state = self.socket.state();
            state.ended = true;
            state.wake();
        }
        if !self.has_lost_its_server() {
            self.cell.closed(self.key, close);
        }
        self.host.settle().await;
    }

    /// The cell of an ended process is still there, but its room goes on in another one.
    fn has_lost_its_server(&self) -> bool {
        self.process != self.host.process()
    }
}

impl fmt::Debug for TestConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestConnection").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Counts a client's messages, as [`Options::max_message_rate`](crate::Options::max_message_rate) says.
struct Pace {
    /// Messages per second, and burst.
    rate: (NonZeroU32, NonZeroU32),
    /// When the full burst is available again.
    full_at: Duration,
}

impl Pace {
    fn allows(&mut self, now: Duration) -> bool {
        let (rate, burst) = self.rate;
        let each = Duration::from_secs(1) / rate.get();
        let full_at = self.full_at.max(now) + each;
        let allowed = full_at - now <= each * burst.get();
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

/// Why a client of a [`TestRoom`](super::TestRoom) is not connected.
///
/// ```
/// use partykit_core::{Refusal, testing::NotConnected};
///
/// let why = NotConnected::from(Refusal::Full);
/// assert_eq!(why.to_string(), "the room has reached its limit of connections");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotConnected {
    /// The before-hook has answered the handshake.
    #[error("on_before_connect answered {}", .0.status())]
    Answered(Response),
    /// The before-hook has failed. A client gets 500.
    #[error("on_before_connect failed: {0}")]
    Failed(BoxError),
    /// The room takes no connection.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The before-hook has rejected the client. The client sees a WebSocket that is opened and closed with
    /// [`Reject::close`].
    #[error("on_before_connect rejected: {}, {}", .0.status(), .0.text())]
    Rejected(Reject),
}

/// A socket that records what a room does with it.
#[derive(Default)]
pub(super) struct TestSocket(Mutex<SocketState>);

pub(super) struct SocketState {
    pub(super) answered: bool,
    /// The client reads what arrives.
    pub(super) reads: bool,
    /// What it has not read.
    pub(super) waiting: VecDeque<Message>,
    /// Tasks that wait for it to read.
    watchers: Vec<Waker>,
    pub(super) received: Vec<Message>,
    pub(super) closed: Option<Close>,
    pub(super) ended: bool,
}

impl Default for SocketState {
    fn default() -> Self {
        Self {
            answered: false,
            reads: true,
            waiting: VecDeque::new(),
            watchers: Vec::new(),
            received: Vec::new(),
            closed: None,
            ended: false,
        }
    }
}

impl SocketState {
    fn is_open(&self) -> bool {
        self.closed.is_none() && !self.ended
    }

    fn wake(&mut self) {
        self.watchers.drain(..).for_each(Waker::wake);
    }

    fn waiting(&self) -> usize {
        self.waiting.iter().map(Message::len).sum()
    }
}

impl TestSocket {
    pub(super) fn state(&self) -> MutexGuard<'_, SocketState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, messages: usize) {
        let mut state = self.state();
        let read = messages.min(state.waiting.len());
        state.reads = read < messages;
        let read = state.waiting.drain(..read).collect::<Vec<_>>();
        state.received.extend(read);
        state.wake();
    }
}

impl Socket for TestSocket {
    fn accept(&self) {
        let mut state = self.state();
        assert!(!state.answered, "a handshake is answered once");
        state.answered = true;
    }

    fn refuse(&self, close: Close) {
        let mut state = self.state();
        assert!(!state.answered, "a handshake is answered once");
        (state.answered, state.closed) = (true, Some(close));
    }

    fn send(&self, message: Outgoing<'_>) {
        let mut state = self.state();
        assert!(state.answered, "nothing overtakes the handshake's answer");
        if state.is_open() {
            let message = message.message().clone();
            if state.reads {
                state.received.push(message);
            } else {
                state.waiting.push_back(message);
            }
        }
    }

    fn close(&self, close: Close) {
        let mut state = self.state();
        assert!(state.answered, "nothing overtakes the handshake's answer");
        state.closed.get_or_insert(close);
        state.wake();
    }

    fn queued(&self) -> usize {
        self.state().waiting()
    }

    fn poll_drained(&self, at_most: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.waiting() <= at_most || !state.is_open() {
            return Poll::Ready(());
        }
        state.watchers.push(cx.waker().clone());
        Poll::Pending
    }

    fn flush(&self) {}
}
