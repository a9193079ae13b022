//! A WebSocket's bytes as a client sees them.

use std::mem;

/// Frames that a client heard. Pongs are apart, because they do not wait for the room.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    pub(super) frames: Vec<(u8, Vec<u8>)>,
    pub(super) pongs: Vec<Vec<u8>>,
    /// Not yet a whole frame.
    rest: Vec<u8>,
    /// Whether the answer to the handshake has come.
    is_upgraded: bool,
}

impl Heard {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        if !self.is_upgraded {
            const END: &[u8] = b"\r\n\r\n";
            let Some(at) = self.rest.windows(END.len()).position(|it| it == END) else { return };
            assert!(self.rest.starts_with(b"HTTP/1.1 101 "), "it refused the client");
            self.rest.drain(..at + END.len());
            self.is_upgraded = true;
        }
        let mut rest = &self.rest[..];
        while let Some((first, payload, behind)) = parse(rest) {
            match first {
                0x8A => self.pongs.push(payload.to_vec()),
                _ => self.frames.push((first, payload.to_vec())),
            }
            rest = behind;
        }
        self.rest = rest.to_vec();
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.is_upgraded
    }

    pub(super) fn count(&self) -> usize {
        self.frames.len() + self.pongs.len()
    }

    pub(super) fn has_close(&self) -> bool {
        self.frames.iter().any(|(first, _)| *first == 0x88)
    }

    /// What was heard so far. Listens on.
    pub(super) fn take(&mut self) -> Self {
        let is_upgraded = self.is_upgraded;
        mem::replace(self, Self { is_upgraded, ..Self::default() })
    }
}

/// The first byte of a frame of the server, its payload, and what follows it.
fn parse(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, length) = match bytes {
        [_, 127, length @ ..] => (10, u64::from_be_bytes(*length.first_chunk()?) as usize),
        [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        [_, length @ 0..=125, ..] => (2, usize::from(*length)),
        [_, length, ..] if *length >= 128 => panic!("a server masks nothing"),
        _ => return None,
    };
    let (payload, behind) = bytes.get(head..)?.split_at_checked(length)?;
    Some((bytes[0], payload, behind))
}

/// A frame of a client, with a mask that changes nothing.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

pub(super) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// A handshake with a room.
pub(super) fn upgrade(room: &str) -> Vec<u8> {
    format!(
        "GET /parties/echo/{room} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}
