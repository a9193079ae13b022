use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arbitrary::{Arbitrary, Unstructured};
use partykit_core::{Close, Connection, Message, Options, Result, Room, Server};
use partykit_runtime_tokio::Runtime;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split,
    },
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    time::timeout,
};

use self::{
    in_process::Within,
    wire::{Heard, close, frame, upgrade},
};

#[path = "../../../partykit-runtime-tokio/tests/in_process/mod.rs"]
mod in_process;
mod wire;

/// What a client does, and how its bytes travel.
#[derive(Arbitrary, Clone, Debug)]
struct Story {
    leaves: Leaves,
    /// How many bytes the client reads at a time.
    reads: u16,
    /// How many bytes wait in memory on the way to a task.
    capacity: u16,
    /// The lengths of the pieces that the client sends.
    pieces: Vec<u16>,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Act {
    Text(u16),
    Binary(u16),
    /// In two fragments, with a Ping in between.
    Halves(u16, u16),
    Ping(u8),
    Pong,
    /// Has the room say as many messages, of this length.
    Say(u8, u16),
}

/// What a client does at its end, when it has heard all answers.
#[derive(Arbitrary, Clone, Debug)]
enum Leaves {
    Close(u16, [u8; 3]),
    /// It hangs up.
    Silently,
    /// In the middle of a message.
    MidMessage(u8),
    /// In the middle of a message of fragments.
    MidFragments(u8),
    /// The room closes the connection.
    Told,
    TooLong,
    NotText(Vec<u8>),
    /// Any bytes.
    Junk(Vec<u8>),
}

/// What runs the socket.
#[derive(Clone, Copy, Debug)]
enum By {
    Loop,
    Task,
}

/// The longest message that a client may send.
const LONGEST: usize = 1 << 20;

/// How a message begins that tells the room to say something.
const COMMAND: &str = "\u{1}do as this client says: ";

/// Has a client do the same over plain TCP, which a loop runs, and over a stream that a task runs.
///
/// # Panics
///
/// When the client does not hear the same, or the room is not told the same: messages, and how it ended.
pub fn transports(bytes: &[u8]) {
    let Ok(story) = Story::arbitrary(&mut Unstructured::new(bytes)) else { return };
    let story = story.short();
    let house = house();
    house.tokio.block_on(async {
        let (by_loop, by_task) =
            tokio::join!(house.tell(&story, By::Loop), house.tell(&story, By::Task));
        assert_eq!(by_loop, by_task, "by a loop, and by a task: {story:?}");
        let echoes: Vec<_> = story.acts.iter().flat_map(Act::echoes).collect();
        assert_eq!(by_loop.before.frames, echoes, "{story:?}");
        let pongs: Vec<_> = story.acts.iter().filter_map(Act::pong).collect();
        assert_eq!(by_loop.before.pongs, pongs, "{story:?}");
    });
}

/// All that there is to compare.
#[derive(Debug, PartialEq)]
struct Trace {
    /// What the client heard before it left.
    before: Heard,
    /// And then. `None` if its junk may have cost it the answer.
    after: Option<Heard>,
    /// What the room got.
    messages: Vec<Message>,
    /// What `on_close` was told.
    closed: (u16, String, bool),
}

impl Story {
    /// Not so long that it takes seconds.
    fn short(mut self) -> Self {
        self.acts.truncate(24);
        let bytes: usize = self.acts.iter().map(|act| act.frames().len()).sum();
        // At most 200 pieces, and as many reads.
        let least = u16::try_from(bytes / 200 + 1).unwrap_or(u16::MAX);
        self.pieces.iter_mut().for_each(|piece| *piece = (*piece).max(least));
        if self.pieces.is_empty() {
            self.pieces.push(u16::MAX);
        }
        self.reads = self.reads.max(least).max(256);
        self.capacity = self.capacity.max(least).max(64);
        self
    }

    fn answers(&self) -> usize {
        self.acts.iter().map(|act| act.echoes().len() + usize::from(act.pong().is_some())).sum()
    }
}

impl Act {
    fn frames(&self) -> Vec<u8> {
        match *self {
            Self::Text(length) => frame(0x81, &vec![b'x'; often_short(length)]),
            Self::Binary(length) => frame(0x82, &vec![7; often_short(length)]),
            Self::Halves(first, second) => [
                frame(0x01, &vec![b'a'; often_short(first)]),
                frame(0x89, b"between"),
                frame(0x80, &vec![b'b'; often_short(second)]),
            ]
            .concat(),
            Self::Ping(length) => frame(0x89, &vec![b'p'; usize::from(length % 126)]),
            Self::Pong => frame(0x8A, b""),
            Self::Say(count, length) => {
                frame(0x81, format!("{COMMAND}{} {}", count % 8, length % 5000).as_bytes())
            }
        }
    }

    fn echoes(&self) -> Vec<(u8, Vec<u8>)> {
        match *self {
            Self::Text(length) => vec![(0x81, vec![b'x'; often_short(length)])],
            Self::Binary(length) => vec![(0x82, vec![7; often_short(length)])],
            Self::Halves(first, second) => {
                let halves =
                    [vec![b'a'; often_short(first)], vec![b'b'; often_short(second)]].concat();
                vec![(0x81, halves)]
            }
            Self::Ping(_) | Self::Pong => vec![],
            Self::Say(count, length) => {
                (0..count % 8).map(|n| (0x82, vec![n; usize::from(length % 5000)])).collect()
            }
        }
    }

    fn pong(&self) -> Option<Vec<u8>> {
        match *self {
            Self::Halves(..) => Some(b"between".to_vec()),
            Self::Ping(length) => Some(vec![b'p'; usize::from(length % 126)]),
            _ => None,
        }
    }
}

impl Leaves {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Close(code, reason) => close(*code, reason),
            Self::Silently => vec![],
            Self::MidMessage(at) => {
                let whole = frame(0x81, b"half");
                whole[..1 + usize::from(*at) % (whole.len() - 1)].to_vec()
            }
            Self::MidFragments(at) => {
                let second = frame(0x00, b"rest");
                let at = usize::from(*at) % second.len();
                [&frame(0x02, b"begin")[..], &second[..at]].concat()
            }
            Self::Told => frame(0x81, format!("{COMMAND}close").as_bytes()),
            Self::TooLong => [&[0x82, 0xFF][..], &(LONGEST as u64 + 1).to_be_bytes()].concat(),
            Self::NotText(bytes) => frame(0x81, &[bytes, &b"\xFF"[..]].concat()),
            Self::Junk(bytes) => bytes.clone(),
        }
    }
}

/// Most messages are short, and some long.
fn often_short(length: u16) -> usize {
    usize::from(if length.is_multiple_of(4) { length } else { length % 300 })
}

/// A runtime with a party that echoes, and its listeners.
struct House {
    tokio: tokio::runtime::Runtime,
    tcp: SocketAddr,
    memory: mpsc::Sender<DuplexStream>,
}

/// The only one of this process. One story is told there at a time, so that a run can be repeated.
fn house() -> MutexGuard<'static, House> {
    static HOUSE: LazyLock<Mutex<House>> = LazyLock::new(|| Mutex::new(House::new()));
    HOUSE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl House {
    fn new() -> Self {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let tokio = tokio.expect("a runtime");
        let (memory, streams) = mpsc::channel(1);
        let tcp = tokio.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let runtime = Runtime::builder()
                .party_with("echo", |room| Echo(tellers().get(room.as_str()).cloned()))
                .in_memory()
                .build()
                .expect("a runtime of rooms");
            let other = runtime.clone();
            tokio::spawn(async move { runtime.serve_on(listener).await });
            tokio::spawn(async move { other.serve_on(Within(streams)).await });
            address
        });
        Self { tokio, tcp, memory }
    }

    async fn tell(&self, story: &Story, by: By) -> Trace {
        let number = {
            static ROOMS: Mutex<usize> = Mutex::new(0);
            let mut rooms = ROOMS.lock().unwrap_or_else(PoisonError::into_inner);
            *rooms += 1;
            *rooms
        };
        let room = number.to_string();
        let (teller, mut told) = mpsc::unbounded_channel();
        tellers().insert(room.clone(), teller);
        let told = async {
            let mut messages = Vec::new();
            loop {
                match told.recv().await.expect("the table has the sender") {
                    Told::Message(message) => messages.push(message),
                    Told::Closed(close) => {
                        let (code, reason) = (close.code().into(), close.reason().to_owned());
                        return (messages, (code, reason, close.is_clean()));
                    }
                }
            }
        };
        let trace = async {
            match by {
                By::Loop => {
                    let stream = connect(self.tcp, number).await.expect("it listens");
                    visit(stream, &room, story, told).await
                }
                By::Task => {
                    let (ours, theirs) = duplex(story.capacity.into());
                    self.memory.send(theirs).await.expect("it listens");
                    visit(ours, &room, story, told).await
                }
            }
        };
        let trace = timeout(Duration::from_secs(60), trace).await;
        tellers().remove(&room);
        trace.unwrap_or_else(|_| panic!("by a {by:?}, this never ends: {story:?}"))
    }
}

/// From another address each time where that is possible: the ports of one would not suffice.
async fn connect(to: SocketAddr, number: usize) -> io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if cfg!(target_os = "linux") {
        let last = u8::try_from(1 + number % 250).unwrap_or(1);
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    }
    socket.set_nodelay(true)?;
    socket.connect(to).await
}

/// Connects, does what the story says, and leaves.
async fn visit(
    stream: impl AsyncRead + AsyncWrite,
    room: &str,
    story: &Story,
    told: impl Future<Output = (Vec<Message>, (u16, String, bool))>,
) -> Trace {
    let (mut reader, mut writer) = split(stream);
    writer.write_all(&upgrade(room)).await.expect("the handshake");
    let mut heard = Heard::default();
    let mut buffer = vec![0; usize::from(story.reads)];

    let said: Vec<u8> = story.acts.iter().flat_map(Act::frames).collect();
    let write = async {
        let (mut rest, mut pieces) = (&said[..], story.pieces.iter().cycle());
        while !rest.is_empty() {
            let piece = pieces.next().copied().map_or(rest.len(), usize::from);
            let (piece, behind) = rest.split_at(rest.len().min(piece));
            writer.write_all(piece).await.expect("the server listens");
            rest = behind;
        }
    };
    let read = async {
        while !heard.is_upgraded() || heard.count() < story.answers() {
            let length = reader.read(&mut buffer).await.expect("the server speaks");
            assert!(length > 0, "the server hung up: {story:?}");
            heard.add(&buffer[..length]);
        }
    };
    tokio::join!(write, read);
    let before = heard.take();

    // The server may be gone before it has read all of it.
    let _ = writer.write_all(&story.leaves.bytes()).await;
    match story.leaves {
        Leaves::Told => {
            while !heard.has_close() {
                let length = reader.read(&mut buffer).await.expect("the server speaks");
                assert!(length > 0, "the server hung up: {story:?}");
                heard.add(&buffer[..length]);
            }
            writer.write_all(&close(4001, b"enough")).await.expect("the server listens");
        }
        Leaves::Close(..) => {}
        _ => drop(writer.shutdown().await),
    }
    let (messages, closed) = told.await;
    let mut rest = Vec::new();
    let is_whole = reader.read_to_end(&mut rest).await.is_ok();
    heard.add(&rest);
    let is_junk = matches!(story.leaves, Leaves::Junk(_));
    assert!(is_whole || is_junk, "the server hung up without a word: {story:?}");
    Trace { before, after: (!is_junk).then(|| heard.take()), messages, closed }
}

/// What a room was told.
enum Told {
    Message(Message),
    Closed(Close),
}

/// Who wants to know what a room is told.
fn tellers() -> MutexGuard<'static, HashMap<String, mpsc::UnboundedSender<Told>>> {
    static TELLERS: LazyLock<Mutex<HashMap<String, mpsc::UnboundedSender<Told>>>> =
        LazyLock::new(Mutex::default);
    TELLERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Echoes, and says what it is told to. It sleeps whenever it can.
struct Echo(Option<mpsc::UnboundedSender<Told>>);

impl Echo {
    fn tell(&self, told: Told) {
        if let Some(teller) = &self.0 {
            let _ = teller.send(told);
        }
    }
}

impl Server for Echo {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::ZERO).max_message(LONGEST)
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        self.tell(Told::Message(message.clone()));
        match message.as_text().and_then(|text| text.strip_prefix(COMMAND)) {
            Some("close") => sender.close(4001, "enough")?,
            Some(command) => {
                let (count, length) = command.split_once(' ').ok_or("a count and a length")?;
                let length = length.parse::<usize>()?.min(LONGEST);
                for n in 0..count.parse::<u8>()? {
                    sender.send(vec![n; length]);
                }
            }
            None => sender.send(message),
        }
        Ok(())
    }

    async fn on_close(&mut self, _: &Room, _: &Connection, close: Close) -> Result {
        self.tell(Told::Closed(close));
        Ok(())
    }
}
