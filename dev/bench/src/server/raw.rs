//! The limit: one thread, one epoll set, and for each message that is delivered one write, at once.
//! No limits, no time limits, no queues, no closing handshake; frames of one size only.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    thread,
};

use bench_party::{ANSWER, BROADCAST, ECHO};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use partykit::Result;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::talk;
use crate::protocol::{CLIENT_FRAME, read_handshake, serve_frame};

const LISTENER: Token = Token(usize::MAX);

pub(super) fn run() -> Result<()> {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    let address = listener.local_addr()?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let server =
        Raw { poll, listener, peers: Vec::new(), names: HashMap::new(), rooms: Vec::new() };
    thread::spawn(move || {
        let Err(error) = server.serve();
        eprintln!("the raw server failed: {error}");
        // A client that waits for an answer gets none, and sees that the process has ended.
        std::process::exit(1);
    });
    talk(address, |question| format!("unknown question {question}"))
}

struct Raw {
    poll: Poll,
    listener: TcpListener,
    /// By token; none is used again.
    peers: Vec<Option<Peer>>,
    names: HashMap<String, usize>,
    /// Tokens.
    rooms: Vec<Vec<usize>>,
}

struct Peer {
    stream: TcpStream,
    room: Option<usize>,
}

impl Raw {
    fn serve(mut self) -> Result<std::convert::Infallible> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Err(error) = self.poll.poll(&mut events, None)
                && error.kind() != ErrorKind::Interrupted
            {
                return Err(error.into());
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(index) => self.read(index, &mut buffer)?,
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.peers.len());
            self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
            self.peers.push(Some(Peer { stream, room: None }));
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) -> Result<()> {
        while let Some(peer) = &mut self.peers[index] {
            let length = match peer.stream.read(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => 0,
            };
            match peer.room {
                _ if length == 0 => self.leave(index),
                None => self.join(index, &buffer[..length])?,
                Some(room) => self.digest(index, room, &buffer[..length])?,
            }
            if length < buffer.len() {
                // Less than was asked for: nothing more is there, and if more comes, epoll says so.
                return Ok(());
            }
        }
        Ok(())
    }

    fn join(&mut self, index: usize, head: &[u8]) -> Result<()> {
        let (name, key) = read_handshake(head).ok_or("not a handshake of the bench")?;
        let fresh = self.rooms.len();
        let room = *self.names.entry(name.to_owned()).or_insert(fresh);
        if room == fresh {
            self.rooms.push(Vec::new());
        }
        self.rooms[room].push(index);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        if let Some(peer) = &mut self.peers[index] {
            peer.room = Some(room);
        }
        self.write(index, answer.as_bytes())
    }

    fn digest(&mut self, index: usize, room: usize, input: &[u8]) -> Result<()> {
        for input in input.chunks(CLIENT_FRAME) {
            let mut frame = serve_frame(input).ok_or("not a whole message of the bench")?;
            match frame[2] {
                ECHO => {
                    frame[2] = ANSWER;
                    self.write(index, &frame)?;
                }
                BROADCAST => {
                    for at in 0..self.rooms[room].len() {
                        let to = self.rooms[room][at];
                        if to != index {
                            self.write(to, &frame)?;
                        }
                    }
                }
                other => return Err(format!("a message of the kind {other:#x}").into()),
            }
        }
        Ok(())
    }

    /// One write for one message. Nothing is measured with clients so slow that their socket is full;
    /// there is no queue for it.
    fn write(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        let Some(peer) = &mut self.peers[index] else { return Ok(()) };
        match peer.stream.write(bytes) {
            Ok(length) if length == bytes.len() => Ok(()),
            Ok(_) => Err("a socket is full".into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err("a socket is full".into()),
            Err(_) => {
                self.leave(index);
                Ok(())
            }
        }
    }

    fn leave(&mut self, index: usize) {
        if let Some(room) = self.peers[index].take().and_then(|peer| peer.room) {
            self.rooms[room].retain(|peer| *peer != index);
        }
    }
}
