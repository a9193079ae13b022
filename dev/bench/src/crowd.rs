//! The clients: thousands of connections on one epoll loop.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use partykit::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::protocol::{Heard, Tally, client_frame, client_pong, handshake, with_id};

/// This many handshakes are under way at once, unless all are to be.
const HANDSHAKES: usize = 128;

/// This many connections come from one address, as the ports of an address are few.
const PER_ADDRESS: usize = 250;

/// The server is taken for dead when nothing happens for so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections to one server.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    /// How many handshakes may be under way.
    handshakes: usize,
}

struct Client {
    stream: TcpStream,
    state: State,
}

enum State {
    /// The TCP connection is being made; the room to ask for then.
    Connecting(String),
    /// What has come of the answer.
    Shaking(Vec<u8>),
    Open(Tally),
}

impl State {
    /// What the server did by closing a connection now.
    fn cut_off(&self) -> String {
        match self {
            Self::Connecting(_) => "the server closed a connection at once".to_owned(),
            Self::Shaking(answer) => {
                let answer = String::from_utf8_lossy(answer);
                format!("the server answered a handshake by {answer:?}, and closed the connection")
            }
            Self::Open(_) => "the server closed a WebSocket".to_owned(),
        }
    }
}

impl Crowd {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Vec::new(),
            buffer: vec![0; 256 * 1024],
            handshakes: HANDSHAKES,
        })
    }

    /// One whose clients all begin at one moment.
    pub(crate) fn at_once() -> Result<Self> {
        Ok(Self { handshakes: usize::MAX, ..Self::new()? })
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Connects `count` clients more, each to the room that `room` says, with ids as PartySocket's are.
    /// Returns how long it took.
    ///
    /// # Errors
    ///
    /// When one of them is not let in.
    pub(crate) fn connect(
        &mut self,
        address: SocketAddr,
        count: usize,
        room: impl Fn(usize) -> String,
    ) -> Result<Duration> {
        let begun = Instant::now();
        let (first, mut open) = (self.clients.len(), 0);
        while open < count {
            while self.clients.len() < first + count
                && self.clients.len() - first - open < self.handshakes
            {
                self.begin(address, &room(self.clients.len() - first))?;
            }
            self.turn(&mut |_, _, news| {
                open += usize::from(news == News::Opened);
                Ok(())
            })?;
        }
        Ok(begun.elapsed())
    }

    /// Has a client say something.
    ///
    /// # Errors
    ///
    /// When its socket does not take it whole. Nothing here says so much that it could be full.
    pub(crate) fn say(&mut self, client: usize, kind: u8) -> Result<()> {
        self.write(client, &client_frame(kind))
    }

    /// Goes on until `is_over`, telling `hear` what each client hears. It may have clients speak.
    pub(crate) fn listen(
        &mut self,
        mut is_over: impl FnMut() -> bool,
        mut hear: impl FnMut(&mut Self, usize, Heard) -> Result<()>,
    ) -> Result<()> {
        while !is_over() {
            self.turn(&mut |crowd, client, news| match news {
                News::Heard(heard) => hear(crowd, client, heard),
                News::Opened => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Goes on until all clients together have heard this many answers and broadcasts, not one more.
    /// Returns how long it took.
    pub(crate) fn expect(&mut self, answers: u64, broadcasts: u64) -> Result<Duration> {
        let begun = Instant::now();
        let (mut answered, mut broadcast) = (0, 0);
        while answered < answers || broadcast < broadcasts {
            self.turn(&mut |_, _, news| {
                if let News::Heard(heard) = news {
                    answered += u64::from(heard.answers);
                    broadcast += u64::from(heard.broadcasts);
                }
                Ok(())
            })?;
        }
        if (answered, broadcast) != (answers, broadcasts) {
            return Err(format!("{answered} answers and {broadcast} broadcasts arrived").into());
        }
        Ok(begun.elapsed())
    }

    /// Says nothing for so long, except to answer pings.
    ///
    /// # Errors
    ///
    /// When a client hears something else, or is cut off.
    pub(crate) fn rest(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn_within(left, &mut |_, _, news| match news {
                News::Heard(heard) if heard.answers + heard.broadcasts == 0 => Ok(()),
                _ => Err("a client heard something while all were silent".into()),
            })?;
        }
    }

    fn begin(&mut self, address: SocketAddr, room: &str) -> Result<()> {
        let index = self.clients.len();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::V4(SocketAddrV4::new(source(index), 0)).into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        if let Err(error) = socket.connect(&address.into())
            && error.kind() != ErrorKind::WouldBlock
            && !is_in_progress(&error)
        {
            return Err(error.into());
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        self.clients.push(Client { stream, state: State::Connecting(with_id(room, index)) });
        Ok(())
    }

    fn turn(&mut self, tell: &mut dyn FnMut(&mut Self, usize, News) -> Result<()>) -> Result<()> {
        match self.turn_within(PATIENCE, tell)? {
            true => Ok(()),
            false => Err(format!("nothing came from the server for {PATIENCE:?}").into()),
        }
    }

    /// Whether anything happened.
    fn turn_within(
        &mut self,
        patience: Duration,
        tell: &mut dyn FnMut(&mut Self, usize, News) -> Result<()>,
    ) -> Result<bool> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(patience));
        match polled {
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.events = events;
                return Ok(true);
            }
            polled => polled?,
        }
        let happened = !events.is_empty();
        for event in &events {
            let Token(index) = event.token();
            if event.is_writable() {
                self.ask(index)?;
            }
            if event.is_readable() {
                self.read(index, tell)?;
            }
        }
        self.events = events;
        Ok(happened)
    }

    /// Sends the handshake, if its time has come.
    fn ask(&mut self, index: usize) -> Result<()> {
        let client = &mut self.clients[index];
        let State::Connecting(room) = &client.state else { return Ok(()) };
        if let Some(error) = client.stream.take_error()? {
            return Err(error.into());
        }
        let request = handshake(room);
        client.state = State::Shaking(Vec::new());
        // Nobody needs to hear of space any more: every event is one that counts.
        let (registry, stream) = (self.poll.registry(), &mut client.stream);
        registry.reregister(stream, Token(index), Interest::READABLE)?;
        self.write(index, request.as_bytes())
    }

    fn read(
        &mut self,
        index: usize,
        tell: &mut dyn FnMut(&mut Self, usize, News) -> Result<()>,
    ) -> Result<()> {
        loop {
            let client = &mut self.clients[index];
            let length = match client.stream.read(&mut self.buffer) {
                Ok(0) => return Err(client.state.cut_off().into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let input = &self.buffer[..length];
            let news = match &mut client.state {
                State::Connecting(_) => return Err("the server spoke first".into()),
                State::Shaking(head) => {
                    head.extend_from_slice(input);
                    if head.ends_with(b"\r\n\r\n") {
                        if !head.starts_with(b"HTTP/1.1 101 ") {
                            return Err(String::from_utf8_lossy(head).into());
                        }
                        client.state = State::Open(Tally::default());
                        Some(News::Opened)
                    } else {
                        None
                    }
                }
                State::Open(tally) => Some(News::Heard(tally.read(input)?)),
            };
            if let Some(news) = news {
                if matches!(news, News::Heard(heard) if heard.pings > 0) {
                    self.write(index, &client_pong())?;
                }
                tell(self, index, news)?;
            }
            if length < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn write(&mut self, client: usize, bytes: &[u8]) -> Result<()> {
        match self.clients[client].stream.write(bytes)? {
            length if length == bytes.len() => Ok(()),
            length => Err(format!("a socket took {length} of {} bytes", bytes.len()).into()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    Heard(Heard),
    Opened,
}

pub(crate) fn source(index: usize) -> Ipv4Addr {
    let [high, low] = ((index / PER_ADDRESS) as u16).to_be_bytes();
    // 127.0.0.x is left to servers.
    Ipv4Addr::new(127, 0, high + 1, low + 1)
}

/// The name of this kind of error in the standard library is not stable yet.
pub(crate) fn is_in_progress(error: &std::io::Error) -> bool {
    const EINPROGRESS: i32 = 115;
    error.raw_os_error() == Some(EINPROGRESS)
}
