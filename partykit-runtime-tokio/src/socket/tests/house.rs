//! A house with one room, driven as on a real runtime, and its guests; in virtual time if asked.

use std::{
    future::{Future, poll_fn, ready},
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use partykit_core::{
    Body, Close, Connection, Message, Options, Request, Result, Room, RoomAddress, RoomId, Server,
    Timestamp,
    runtime::{ConnectionKey, RoomCell, RoomKind, Socket, drive},
    testing::bare::{Bare, Runs},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as Frame, protocol::Role},
};

use crate::{
    memory::{INBOUND, Memory},
    metrics::Meter,
    socket::{
        Carrier, Io, Link, LinkSettings, Never, Outbound, OutboundLimits, SocketTask, Sweeper,
        Verdict,
    },
};
#[cfg(unix)]
use crate::{
    shutdown::{Shutdown, ShutdownTimes},
    socket::{Reactor, plain::Plain, reactor::shared},
};

/// Larger than anything that a test leaves unread.
pub(super) const WIDE: usize = 16 << 20;

pub(super) struct House {
    pub(super) room: Arc<RoomCell>,
    pub(super) settings: Arc<LinkSettings>,
    pub(super) shared: Arc<Shared>,
    closes: mpsc::UnboundedReceiver<Close>,
}

/// What the room's instances and the test both have.
pub(super) struct Shared {
    /// Each message "wait" takes a permit.
    pub(super) gate: Semaphore,
    /// How many messages were handled.
    pub(super) handled: Mutex<usize>,
    closes: mpsc::UnboundedSender<Close>,
}

/// A socket from the client's side, and its task.
pub(super) struct Guest<I = DuplexStream> {
    pub(super) io: I,
    pub(super) link: Arc<Link>,
    room: Arc<RoomCell>,
    key: ConnectionKey,
    pub(super) task: JoinHandle<()>,
}

impl House {
    pub(super) fn new() -> Self {
        Self::with(Options::new().hibernate(true), |_| {})
    }

    pub(super) fn with(options: Options, change: impl FnOnce(&mut LinkSettings)) -> Self {
        Self::within(OutboundLimits::default(), options, change)
    }

    /// A house in which no more than this may wait for guests.
    pub(super) fn within(
        limits: OutboundLimits,
        options: Options,
        change: impl FnOnce(&mut LinkSettings),
    ) -> Self {
        let (sender, closes) = mpsc::unbounded_channel();
        let gate = Semaphore::new(0);
        let shared = Arc::new(Shared { gate, handled: Mutex::new(0), closes: sender });
        let outbound = Outbound::new(limits);
        let mut settings = LinkSettings::new(
            &options,
            Sweeper::start(),
            outbound.clone(),
            Memory::new(INBOUND),
            Meter::new(&"main".into()),
        );
        change(&mut settings);
        let host = Bare::new(Guests { start: Instant::now(), outbound, shared: shared.clone() });
        let address = RoomAddress::new("main", RoomId::new("room").unwrap());
        let room = RoomCell::new(address, RoomKind::new(options, host));
        Self { room, settings: Arc::new(settings), shared, closes }
    }

    pub(super) async fn connect(&self) -> Guest {
        self.connect_with(WIDE, Bytes::new()).await
    }

    /// Connects over a stream that holds `capacity` bytes in each direction.
    pub(super) async fn connect_with(&self, capacity: usize, already_read: Bytes) -> Guest {
        let (ours, io) = duplex(capacity);
        self.connect_over(ours, io, "/", already_read).await
    }

    pub(super) async fn connect_over<I, J>(
        &self,
        ours: I,
        io: J,
        uri: &str,
        already_read: Bytes,
    ) -> Guest<J>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let link = Link::new(&self.settings);
        let request = Request::new(Body::empty());
        let socket: Arc<dyn Socket> = link.clone();
        // Guests with one id would be probed, each for the next.
        static GUESTS: AtomicUsize = AtomicUsize::new(0);
        let id = format!("guest {}", GUESTS.fetch_add(1, Ordering::Relaxed));
        let key = self.room.connect(id, uri, request, socket).unwrap();
        let verdict = poll_fn(|cx| link.poll_verdict(cx)).await;
        assert_eq!(matches!(verdict, Verdict::Refuse(_)), uri == "/refuse");
        let socket = SocketTask::new(
            Box::new(Carrier::<_, Never>::new(ours)) as Box<dyn Io>,
            already_read,
            link.clone(),
            self.room.clone(),
            key,
        );
        Guest { io, link, room: self.room.clone(), key, task: tokio::spawn(socket) }
    }

    /// Has a loop run the stream.
    #[cfg(unix)]
    pub(super) async fn open_tcp(&self, stream: TcpStream) {
        let (link, key) = self.admit("guest").await;
        let reactor = self.settings.reactor.as_ref().expect("a house with loops");
        self.open_on(reactor, shared(&self.room, key), stream, (link, key));
    }

    /// The room takes a connection in. It has no socket yet.
    #[cfg(unix)]
    pub(super) async fn admit(&self, id: &str) -> (Arc<Link>, ConnectionKey) {
        let link = Link::new(&self.settings);
        let key = self.room.connect(id, "/", Request::new(Body::empty()), link.clone());
        assert_eq!(poll_fn(|cx| link.poll_verdict(cx)).await, Verdict::Accept);
        (link, key.unwrap())
    }

    /// Has the loop of this number run the socket.
    #[cfg(unix)]
    pub(super) fn open_on(
        &self,
        reactor: &Reactor,
        number: usize,
        stream: TcpStream,
        (link, key): (Arc<Link>, ConnectionKey),
    ) {
        let io = Plain::new(stream.into_std().unwrap(), None);
        let task = SocketTask::new(io, Bytes::new(), link, self.room.clone(), key);
        reactor.open(task, number, Shutdown::new(ShutdownTimes::default()).socket());
    }

    /// What the next `on_close` is told.
    pub(super) async fn closed(&mut self) -> (u16, String, bool) {
        let close = self.closes.recv().await.unwrap();
        (close.code().into(), close.reason().to_owned(), close.is_clean())
    }

    /// Waits until this many messages were handled, and nothing else is to be done.
    pub(super) async fn handled(&self, count: usize) {
        eventually(|| *self.shared.handled.lock().unwrap() >= count).await;
        assert_eq!(*self.shared.handled.lock().unwrap(), count);
    }

    /// Puts the room to sleep; returns how often it was awake.
    pub(super) async fn sleep(&self) -> u64 {
        self.room.hibernate().await.unwrap();
        self.room.stats().account.wakes()
    }

    /// Nothing else was told to `on_close`.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.closes.try_recv().is_err()
    }
}

/// Limits that only matter for one client.
pub(super) fn per_client(per_client: usize) -> OutboundLimits {
    OutboundLimits { per_client, ..OutboundLimits::default() }
}

/// Waits until something is so, as long as that takes other tasks something to do.
pub(super) async fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to be");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Guest<I> {
    /// The connection as the room has it.
    pub(super) fn connection(&self) -> Connection {
        self.room.connection(self.key).unwrap()
    }

    pub(super) async fn client(self) -> (WebSocketStream<I>, Arc<Link>, JoinHandle<()>) {
        let client = WebSocketStream::from_raw_socket(self.io, Role::Client, None).await;
        (client, self.link, self.task)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// The next `length` bytes from the server.
    pub(super) async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.io.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// All that the server sends before it hangs up.
    pub(super) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.io.read_to_end(&mut bytes).await.unwrap();
        bytes
    }
}

pub(super) async fn say<I: AsyncRead + AsyncWrite + Unpin>(
    client: &mut WebSocketStream<I>,
    text: &str,
) {
    client.send(Frame::text(text)).await.unwrap();
}

pub(super) async fn hear<I: AsyncRead + AsyncWrite + Unpin>(
    client: &mut WebSocketStream<I>,
) -> Frame {
    client.next().await.unwrap().unwrap()
}

/// A frame as a client sends it, with a mask that changes nothing.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

pub(super) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A Close as the server sends it.
pub(super) fn server_close(code: u16, reason: &str) -> Vec<u8> {
    let length = u8::try_from(2 + reason.len()).unwrap();
    [&[0x88, length], &code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// A stream that counts its writes.
pub(super) struct Counted {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl Counted {
    pub(super) fn new(io: DuplexStream) -> (Self, Arc<AtomicUsize>) {
        let writes = Arc::new(AtomicUsize::new(0));
        (Self { io, writes: writes.clone() }, writes)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A message of this size, in which its number stands.
pub(super) fn numbered(number: usize, size: usize) -> String {
    format!("{number:0>4}{}", ".".repeat(size - 4))
}

struct Talker(Arc<Shared>);

impl Server for Talker {
    fn options() -> Options {
        Options::new()
    }

    fn on_connect(
        &mut self,
        _: &Room,
        connection: &Connection,
        _: &Request,
    ) -> impl Future<Output = Result> + Send {
        if connection.uri() == "/greet" {
            for n in 0..30 {
                connection.send(n.to_string().repeat(50_000));
            }
        }
        ready(if connection.uri() == "/refuse" { Err("not you".into()) } else { Ok(()) })
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some("wait") => self.0.gate.acquire().await?.forget(),
            Some("close") => sender.close(4001, "enough")?,
            Some(text) if text.starts_with("say ") => {
                let mut numbers = text[4..].split(' ').map(str::parse::<usize>);
                let (count, size) =
                    (numbers.next().ok_or("a count")??, numbers.next().ok_or("a size")??);
                for n in 0..count {
                    sender.send(numbered(n, size));
                }
            }
            Some("shout") => room.broadcast(vec![7; 64 << 10]).send(),
            Some(text) if text.starts_with("burst ") => {
                for n in 0..text[6..].parse::<usize>()? {
                    sender.send(n.to_string());
                }
            }
            _ => sender.send(message),
        }
        *self.0.handled.lock().unwrap() += 1;
        Ok(())
    }

    async fn on_close(&mut self, _: &Room, _: &Connection, close: Close) -> Result {
        self.0.closes.send(close)?;
        Ok(())
    }
}

struct Guests {
    start: Instant,
    outbound: Arc<Outbound>,
    shared: Arc<Shared>,
}

impl Runs for Guests {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.start + at))
    }

    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn drive(&self, room: Arc<RoomCell>) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        Box::pin(drive(room, move |_| Talker(shared.clone())))
    }

    fn relief(&self) -> Option<BoxFuture<'static, ()>> {
        self.outbound.relief()
    }
}
