//! What clients and servers say to each other: text frames of one size.

use bench_party::{ANSWER, BROADCAST};

/// The payload of every message, in bytes.
pub(crate) const PAYLOAD: usize = 64;

/// A frame of a server: two bytes before the payload.
pub(crate) const SERVER_FRAME: usize = 2 + PAYLOAD;

/// A frame of a client: the mask besides.
pub(crate) const CLIENT_FRAME: usize = 6 + PAYLOAD;

const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;

/// Any mask does; one of zeros would spare servers their work.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's message of one kind.
pub(crate) fn client_frame(kind: u8) -> [u8; CLIENT_FRAME] {
    let mut frame = [b'.'; CLIENT_FRAME];
    (frame[0], frame[1], frame[6]) = (TEXT, MASKED | PAYLOAD as u8, kind);
    frame[2..6].copy_from_slice(&MASK);
    unmask(&mut frame[6..], MASK);
    frame
}

/// A client's answer to a ping without a payload.
pub(crate) fn client_pong() -> [u8; 6] {
    let mut frame = [PONG, MASKED, 0, 0, 0, 0];
    frame[2..].copy_from_slice(&MASK);
    frame
}

/// A client's Close with 1000.
pub(crate) fn client_close() -> [u8; 8] {
    let mut frame = [CLOSE, MASKED | 2, 0, 0, 0, 0, 0x03, 0xe8];
    frame[2..6].copy_from_slice(&MASK);
    unmask(&mut frame[6..], MASK);
    frame
}

/// The whole handshake of a client that wants to be in a room. A query may follow the room's name.
pub(crate) fn handshake(room: &str) -> String {
    format!(
        "GET /parties/main/{room} HTTP/1.1\r\n\
         Host: 127.0.0.1\r\n\
         Connection: Upgrade\r\n\
         Upgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// What the handshake of PartySocket asks for: a connection with an id of 21 characters, here a number.
pub(crate) fn with_id(room: &str, id: usize) -> String {
    format!("{room}?_pk={id:021}")
}

/// The room and the key of a [`handshake`]; `None` when it is something else.
pub(crate) fn read_handshake(head: &[u8]) -> Option<(&str, &str)> {
    let head = std::str::from_utf8(head).ok()?.strip_suffix("\r\n\r\n")?;
    let (path, headers) = head.strip_prefix("GET /parties/main/")?.split_once(" HTTP/1.1\r\n")?;
    let key = headers.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let room = path.split_once('?').map_or(path, |(room, _)| room);
    Some((room, key))
}

/// The message that a client's frame at the beginning of `input` holds, unmasked, as a server would
/// send it. `None` when there is no whole one, or one of another kind.
pub(crate) fn serve_frame(input: &[u8]) -> Option<[u8; SERVER_FRAME]> {
    let input = input.get(..CLIENT_FRAME)?;
    if input[0] != TEXT || input[1] != MASKED | PAYLOAD as u8 {
        return None;
    }
    let mut frame = [0; SERVER_FRAME];
    (frame[0], frame[1]) = (TEXT, PAYLOAD as u8);
    frame[2..].copy_from_slice(&input[6..]);
    unmask(&mut frame[2..], [input[2], input[3], input[4], input[5]]);
    Some(frame)
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// How many messages of each kind a client was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) answers: u32,
    pub(crate) broadcasts: u32,
    pub(crate) pings: u32,
}

/// Reads what a server sends, wherever it is cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    first: Option<u8>,
    left: u8,
}

impl Tally {
    /// Counts the messages that begin in `input`.
    ///
    /// # Errors
    ///
    /// What the server should not have sent.
    pub(crate) fn read(&mut self, mut input: &[u8]) -> Result<Heard, String> {
        let mut heard = Heard::default();
        while let Some((&byte, rest)) = input.split_first() {
            match self.first {
                None if self.left > 0 => {
                    match byte {
                        _ if usize::from(self.left) < PAYLOAD => {}
                        ANSWER => heard.answers += 1,
                        BROADCAST => heard.broadcasts += 1,
                        other => return Err(format!("a message of the kind {other:#x}")),
                    }
                    let here = input.len().min(usize::from(self.left));
                    // At most a payload, which fits.
                    self.left -= here as u8;
                    input = &input[here..];
                    continue;
                }
                None => self.first = Some(byte),
                Some(TEXT) if usize::from(byte) == PAYLOAD => {
                    (self.first, self.left) = (None, byte);
                }
                Some(PING) if byte == 0 => {
                    self.first = None;
                    heard.pings += 1;
                }
                Some(first) => {
                    return Err(format!("a frame that begins with {first:#x} {byte:#x}"));
                }
            }
            input = rest;
        }
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use bench_party::ECHO;

    use super::*;

    #[test]
    fn a_server_reads_what_a_client_writes() {
        let frame = serve_frame(&client_frame(ECHO)).unwrap();
        assert_eq!((frame[2], frame[3]), (ECHO, b'.'));
        assert_eq!(serve_frame(&client_frame(ECHO)[1..]), None);
        for head in [handshake("hall"), handshake(&with_id("hall", 7))] {
            let read = read_handshake(head.as_bytes());
            assert_eq!(read, Some(("hall", "dGhlIHNhbXBsZSBub25jZQ==")), "{head}");
        }
        assert_eq!(with_id("", 7).strip_prefix("?_pk=").unwrap().len(), 21);
    }

    #[test]
    fn frames_are_counted_wherever_they_are_cut() {
        let mut sent = Vec::new();
        for kind in [ANSWER, BROADCAST, BROADCAST] {
            let mut frame = serve_frame(&client_frame(ECHO)).unwrap();
            frame[2] = kind;
            sent.extend(frame);
        }
        sent.extend([PING, 0]);
        for size in [1, 2, 3, 65, 66, 67, 200] {
            let (mut tally, mut sum) = (Tally::default(), Heard::default());
            for part in sent.chunks(size) {
                let heard = tally.read(part).unwrap();
                sum.answers += heard.answers;
                sum.broadcasts += heard.broadcasts;
                sum.pings += heard.pings;
            }
            assert_eq!(sum, Heard { answers: 1, broadcasts: 2, pings: 1 }, "cut at {size}");
        }
        assert!(Tally::default().read(&[0x88, 0]).is_err());
    }
}
