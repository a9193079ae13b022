//! What the fuzz target `frames` does with its bytes. The same runs as a property test.

use std::io::{self, Read, Write};

use partykit_core::{CloseCode, Message, runtime::CloseReason};
use tungstenite::{
    Error, Message as Frame, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use crate::codec::{Decoder, Incoming, Limits};

/// Decodes what a client sends, in one piece and in several, and compares both with the result of tungstenite
/// alone.
///
/// The first bytes are the limits and the length of the pieces, the rest is what the client sends.
///
/// # Panics
///
/// When they differ, or a limit is not kept.
pub fn frames(bytes: &[u8]) {
    let Some((&[low, high, fragments, piece], stream)) = bytes.split_first_chunk() else { return };
    let limits = Limits {
        max_message: usize::from(u16::from_le_bytes([low, high])),
        max_fragments: u32::from(fragments).max(1),
    };
    let whole = decode([stream], &limits);
    let cut = decode(stream.chunks(usize::from(piece).max(1)), &limits);
    assert_eq!(cut, whole, "pieces of {piece} bytes");

    let (events, violation) = whole;
    for event in &events {
        if let Incoming::Message(message) = event {
            assert!(message.len() <= limits.max_message);
        }
    }
    let (expected, ending) = reference(stream, &limits);
    match (violation, ending) {
        // A limit that tungstenite does not have.
        (Some(CloseReason::TooManyFragments), _) => assert!(expected.starts_with(&events)),
        (None, Ending::Open) | (Some(_), Ending::Wrong) => assert_eq!(events, expected),
        // Tungstenite shows a forbidden close code as a 1002.
        (Some(reason), Ending::Closed) if reason.code() == CloseCode::PROTOCOL => {
            assert_eq!(events, expected);
        }
        (None, Ending::Closed) => {
            let (close, before) = events.split_last().expect("a Close");
            assert!(matches!(close, Incoming::Close(_)), "{close:?}");
            assert_eq!(before, expected);
        }
        // The decoder refuses the frame by its header. Tungstenite still waits for the payload.
        (Some(CloseReason::MessageTooLong | CloseReason::ControlTooLong), _) => {
            assert_eq!(events, expected);
        }
        (violation, ending) => panic!("{violation:?}, but {ending:?}: {events:?}"),
    }
}

/// Everything that is decoded, and the error at the end.
fn decode<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Incoming>, Option<CloseReason>) {
    let (mut decoder, mut events, mut violation) = (Decoder::default(), Vec::new(), None);
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece, limits) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => assert_eq!(violation.replace(error), None, "a second violation"),
            }
        }
        assert!(piece.is_empty(), "what was not decoded is kept");
    }
    (events, violation)
}

/// Where tungstenite stopped.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Closed,
    Open,
    Wrong,
}

/// The same with tungstenite alone, except for a Close.
fn reference(stream: &[u8], limits: &Limits) -> (Vec<Incoming>, Ending) {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(limits.max_message.max(125)))
        .max_message_size(Some(limits.max_message));
    let mut socket = WebSocket::from_raw_socket(Client(stream), Role::Server, Some(config));
    let mut events = Vec::new();
    loop {
        match socket.read() {
            Ok(Frame::Text(text)) => events.push(Incoming::Message(text.as_str().into())),
            Ok(Frame::Binary(bytes)) => events.push(Incoming::Message(Message::Binary(bytes))),
            Ok(Frame::Ping(payload)) => events.push(Incoming::Ping(payload)),
            Ok(Frame::Pong(payload)) => events.push(Incoming::Pong(payload)),
            Ok(Frame::Close(_) | Frame::Frame(_)) => return (events, Ending::Closed),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (events, Ending::Open);
            }
            Err(_) => return (events, Ending::Wrong),
        }
    }
}

/// A stream that gives these bytes, and drops what is written to it.
struct Client<'a>(&'a [u8]);

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            read => read,
        }
    }
}

impl Write for Client<'_> {
    fn write(&mut self, answer: &[u8]) -> io::Result<usize> {
        Ok(answer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
