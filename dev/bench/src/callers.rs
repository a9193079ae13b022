//! Clients that number what they say, and check the numbers of what they hear, while their server is replaced.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use partykit::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    client::frame,
    crowd::{is_in_progress, source},
    protocol::{handshake, with_id},
};

/// How many handshakes are under way at once.
const HANDSHAKES: usize = 128;

/// How many members a room of talkers has.
pub(crate) const MEMBERS: usize = 5;

/// The rooms of clients that do not talk: one of many of them, and one for each of the others.
const HALL: &str = "hall";

/// Nothing may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a loop waits for events, at most.
const TURN: Duration = Duration::from_millis(5);

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Connections to one server. The first ones talk, in rooms of [`MEMBERS`]; the others are there.
pub(crate) struct Callers {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    callers: Vec<Caller>,
    talkers: usize,
    /// How long a talker waits between two messages.
    pace: Duration,
    /// How many have no connection, or one that is not open yet.
    away: usize,
    /// How many of those have a handshake under way.
    shaking: usize,
    outcome: Outcome,
}

/// What clients have noticed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) said: u64,
    pub(crate) heard: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) closed: u64,
    /// From what a talker said last before it, to the answer, or to the first answer after it has come back.
    pub(crate) gaps: Vec<Duration>,
}

impl Outcome {
    /// The longest gap, and forgets all of them.
    pub(crate) fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.gaps).into_iter().max().unwrap_or_default()
    }
}

struct Caller {
    stream: Option<TcpStream>,
    phase: Phase,
    input: Vec<u8>,
    /// How many messages it has said.
    said: u64,
    /// Since when it waits for the answer to the last one, or for any.
    waits: Option<Instant>,
    /// When it says the next one.
    next: Instant,
    /// What it has heard of each member.
    members: Vec<Sequence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Away,
    Connecting,
    Shaking,
    Open,
}

/// Numbers that should come one after another.
#[derive(Clone, Debug, Default)]
struct Sequence {
    next: u64,
    missing: BTreeSet<u64>,
}

impl Sequence {
    fn hear(&mut self, number: u64, counted: u64, outcome: &mut Outcome) {
        outcome.heard += 1;
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            outcome.reordered += 1;
        } else {
            outcome.doubled += 1;
        }
        // The server has handled each message before this one once.
        outcome.doubled += u64::from(counted > number + 1);
        outcome.lost += u64::from(counted < number + 1);
    }
}

impl Callers {
    /// Connects all of them.
    ///
    /// # Errors
    ///
    /// When not all are let in.
    pub(crate) fn connect(
        address: SocketAddr,
        count: usize,
        talkers: usize,
        pace: Duration,
    ) -> Result<Self> {
        let now = Instant::now();
        let caller = |index| Caller {
            stream: None,
            phase: Phase::Away,
            input: Vec::new(),
            said: 0,
            waits: None,
            // They do not talk at the same moment.
            next: now + pace.mul_f64(index as f64 / talkers as f64),
            members: vec![Sequence::default(); MEMBERS],
        };
        let mut callers = Self {
            address,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            callers: (0..count).map(caller).collect(),
            talkers,
            pace,
            away: count,
            shaking: 0,
            outcome: Outcome::default(),
        };
        callers.come_back()?;
        Ok(callers)
    }

    /// Goes on until all have a connection.
    pub(crate) fn come_back(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.away > 0 {
            self.turn(false)?;
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} clients are not let in", self.away).into());
            }
        }
        Ok(())
    }

    /// Has the talkers talk until `is_over`. Who loses its connection comes back at once.
    pub(crate) fn talk(&mut self, mut is_over: impl FnMut() -> bool) -> Result<()> {
        while !is_over() {
            self.turn(true)?;
        }
        Ok(())
    }

    /// Waits until all have heard what was said.
    pub(crate) fn fall_silent(&mut self) -> Result<()> {
        let begun = Instant::now();
        let waits = |callers: &Self| callers.callers.iter().any(|caller| caller.waits.is_some());
        while waits(self) && begun.elapsed() < PATIENCE {
            self.turn(false)?;
        }
        Ok(())
    }

    /// Has each of those that do not talk say one message, and hear it.
    pub(crate) fn ask_the_idle(&mut self) -> Result<()> {
        for index in self.talkers..self.callers.len() {
            self.say(index)?;
            if index % HANDSHAKES == 0 {
                self.turn(false)?;
            }
        }
        self.fall_silent()
    }

    /// What has been noticed so far.
    pub(crate) fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }

    /// The same at the end: what is missing now is lost.
    pub(crate) fn end(self) -> Outcome {
        let mut outcome = self.outcome;
        let said: Vec<_> = self.callers.iter().map(|caller| caller.said).collect();
        for (index, caller) in self.callers.iter().enumerate() {
            let is_talker = index < self.talkers;
            let members = if is_talker { 0..MEMBERS } else { 0..1 };
            for member in members {
                let sequence = &caller.members[member];
                let of = if is_talker { index - index % MEMBERS + member } else { index };
                outcome.lost += sequence.missing.len() as u64 + said[of] - sequence.next;
            }
        }
        outcome
    }

    fn turn(&mut self, may_talk: bool) -> Result<()> {
        if self.away > self.shaking {
            self.begin_some()?;
        }
        if may_talk {
            let now = Instant::now();
            for index in 0..self.talkers {
                let caller = &self.callers[index];
                if caller.phase == Phase::Open && caller.waits.is_none() && caller.next <= now {
                    self.say(index)?;
                    self.callers[index].next = now + self.pace;
                }
            }
        }
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(TURN)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            polled => polled?,
        }
        for event in &events {
            let Token(index) = event.token();
            if self.callers[index].phase == Phase::Connecting {
                self.ask(index)?;
            } else if event.is_readable() {
                self.read(index)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn begin_some(&mut self) -> Result<()> {
        for index in 0..self.callers.len() {
            if self.shaking >= HANDSHAKES {
                break;
            }
            if self.callers[index].phase == Phase::Away {
                self.begin(index)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize) -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((source(index), 0)).into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.address.into()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock || is_in_progress(&error) => {}
            connected => connected?,
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        let caller = &mut self.callers[index];
        (caller.stream, caller.phase) = (Some(stream), Phase::Connecting);
        self.shaking += 1;
        Ok(())
    }

    /// Sends the handshake, when the connection is there.
    fn ask(&mut self, index: usize) -> Result<()> {
        let request = handshake(&with_id(&self.room(index), index));
        let caller = &mut self.callers[index];
        let Some(stream) = &mut caller.stream else { return Ok(()) };
        if stream.take_error()?.is_some() {
            return self.lose(index);
        }
        self.poll.registry().reregister(stream, Token(index), Interest::READABLE)?;
        caller.phase = Phase::Shaking;
        self.write(index, request.as_bytes())
    }

    fn room(&self, index: usize) -> String {
        match index {
            talker if talker < self.talkers => format!("talk-{}", talker / MEMBERS),
            idle if idle % 2 == 0 => HALL.to_owned(),
            idle => format!("room-{idle}"),
        }
    }

    fn say(&mut self, index: usize) -> Result<()> {
        let to = if index < self.talkers { "all" } else { "me" };
        let caller = &mut self.callers[index];
        let text = format!("{to} {} {}", member(index, self.talkers), caller.said);
        caller.said += 1;
        // Who has come back without an answer waits since its last message before.
        caller.waits.get_or_insert_with(Instant::now);
        self.outcome.said += 1;
        self.write(index, &frame(TEXT, text.as_bytes()))
    }

    fn write(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        let Some(stream) = &mut self.callers[index].stream else { return Ok(()) };
        match stream.write(bytes) {
            Ok(length) if length == bytes.len() => Ok(()),
            Ok(length) => Err(format!("a socket took {length} of {} bytes", bytes.len()).into()),
            Err(_) => self.lose(index),
        }
    }

    /// The connection is gone. What was said on it and not answered is lost.
    fn lose(&mut self, index: usize) -> Result<()> {
        let caller = &mut self.callers[index];
        if let Some(mut stream) = caller.stream.take() {
            self.poll.registry().deregister(&mut stream)?;
        }
        match caller.phase {
            Phase::Open => {
                self.outcome.closed += 1;
                self.away += 1;
            }
            Phase::Connecting | Phase::Shaking => self.shaking -= 1,
            Phase::Away => {}
        }
        caller.phase = Phase::Away;
        caller.input.clear();
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            let caller = &mut self.callers[index];
            let Some(stream) = &mut caller.stream else { return Ok(()) };
            match stream.read(&mut buffer) {
                Ok(0) => return self.lose(index),
                Ok(length) => {
                    caller.input.extend_from_slice(&buffer[..length]);
                    self.understand(index)?;
                    if length < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return self.lose(index),
            }
        }
    }

    fn understand(&mut self, index: usize) -> Result<()> {
        let mut input = std::mem::take(&mut self.callers[index].input);
        let mut at = 0;
        if self.callers[index].phase == Phase::Shaking {
            let end = input.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else {
                self.callers[index].input = input;
                return Ok(());
            };
            if !input.starts_with(b"HTTP/1.1 101 ") {
                // A server that is just ending says so.
                return self.lose(index);
            }
            at = end + 4;
            self.open(index);
        }
        while let Some((kind, payload)) = server_frame(&input[at..]) {
            at += 2 + payload.len();
            match kind {
                TEXT => self.hear(index, payload)?,
                PING => self.write(index, &frame(PONG, payload))?,
                CLOSE => {
                    self.write(index, &frame(CLOSE, payload))?;
                    return self.lose(index);
                }
                other => return Err(format!("a frame that begins with {other:#x}").into()),
            }
        }
        let caller = &mut self.callers[index];
        // It may have been lost meanwhile.
        if caller.stream.is_some() {
            input.drain(..at);
            caller.input = input;
        }
        Ok(())
    }

    fn open(&mut self, index: usize) {
        let caller = &mut self.callers[index];
        caller.phase = Phase::Open;
        (self.away, self.shaking) = (self.away - 1, self.shaking - 1);
        if caller.waits.is_some() {
            // Its last message may never be answered, so it says the next one now.
            let _ = self.say(index);
        }
    }

    fn hear(&mut self, index: usize, payload: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(payload);
        let numbers: Vec<u64> =
            text.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [who, number, counted] = numbers[..] else {
            return Err(format!("a message that was not said: {text}").into());
        };
        let (own, talkers) = (member(index, self.talkers), self.talkers);
        let caller = &mut self.callers[index];
        let at = if index < talkers { who as usize } else { 0 };
        let sequence = caller.members.get_mut(at).ok_or("a message of somebody else")?;
        sequence.hear(number, counted, &mut self.outcome);
        if who as usize == own
            && number + 1 == caller.said
            && let Some(since) = caller.waits.take()
        {
            self.outcome.gaps.push(since.elapsed());
        }
        Ok(())
    }
}

/// By what name a client counts in its room.
fn member(index: usize, talkers: usize) -> usize {
    if index < talkers { index % MEMBERS } else { index }
}

/// The frame at the beginning: its first byte and its payload, which is short.
fn server_frame(input: &[u8]) -> Option<(u8, &[u8])> {
    let (&[kind, length], rest) = input.split_first_chunk()?;
    Some((kind, rest.get(..length.into())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(numbers: &[(u64, u64)]) -> (Sequence, Outcome) {
        let (mut sequence, mut outcome) = (Sequence::default(), Outcome::default());
        for (number, counted) in numbers {
            sequence.hear(*number, *counted, &mut outcome);
        }
        (sequence, outcome)
    }

    #[test]
    fn each_fault_is_noticed() {
        let (sequence, outcome) = heard(&[(0, 1), (1, 2), (2, 3)]);
        assert_eq!((outcome.lost, outcome.doubled, outcome.reordered), (0, 0, 0));
        assert!(sequence.missing.is_empty());

        let (_, outcome) = heard(&[(0, 1), (0, 1)]);
        assert_eq!(outcome.doubled, 1, "heard twice");
        let (_, outcome) = heard(&[(0, 1), (1, 3)]);
        assert_eq!(outcome.doubled, 1, "handled twice");
        let (_, outcome) = heard(&[(0, 1), (1, 1)]);
        assert_eq!(outcome.lost, 1, "what was stored is gone");
        let (sequence, outcome) = heard(&[(0, 1), (2, 3)]);
        assert_eq!((sequence.missing.len(), outcome.reordered), (1, 0));
        let (sequence, outcome) = heard(&[(0, 1), (2, 3), (1, 2)]);
        assert_eq!((sequence.missing.len(), outcome.reordered), (0, 1));
    }

    #[test]
    fn a_frame_is_whole_or_not_there() {
        let bytes = [TEXT, 2, b'h', b'i', PING, 0];
        assert_eq!(server_frame(&bytes), Some((TEXT, &b"hi"[..])));
        assert_eq!(server_frame(&bytes[4..]), Some((PING, &[][..])));
        assert_eq!(server_frame(&bytes[..3]), None);
        assert_eq!(server_frame(&bytes[..1]), None);
    }
}
