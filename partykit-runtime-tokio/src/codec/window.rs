use std::io::{self, Read, Write};

use bytes::Bytes;
use partykit_core::{Close, runtime::CloseReason};
use tungstenite::{
    Error, Message as Frame,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::{Incoming, Limits, encode::MAX_CONTROL, violation::violation};

/// The longest header of a frame. Tungstenite needs this many free bytes before it reads one.
const LONGEST_HEADER: usize = 14;

/// A `tungstenite` without a stream, which reads one whole control frame. It checks the frame and removes the
/// mask.
pub(super) struct Window(WebSocketContext);

impl Window {
    /// A window with a buffer for a frame of `length` bytes, header included.
    pub(super) fn new(length: usize, limits: &Limits) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(length.max(LONGEST_HEADER))
            .max_frame_size(Some(limits.max_message.max(MAX_CONTROL)))
            .max_message_size(Some(limits.max_message));
        Self(WebSocketContext::new(Role::Server, Some(config)))
    }

    /// A window for a Close frame. It believes that it has sent its own Close, so that it shows the peer's
    /// code unchanged. Otherwise tungstenite would show a forbidden code as a 1002 that the peer never sent.
    pub(super) fn closing(length: usize, limits: &Limits) -> Result<Self, CloseReason> {
        let mut window = Self::new(length, limits);
        window.0.close(&mut OneFrame { prefix: &[], payload: &[] }, None).map_err(violation)?;
        Ok(window)
    }

    /// Reads the frame that consists of `prefix`, its header, and the still masked `payload`.
    pub(super) fn read(
        mut self,
        prefix: &[u8],
        payload: &[u8],
    ) -> Result<Option<Incoming>, CloseReason> {
        let frame = match self.0.read(&mut OneFrame { prefix, payload }) {
            Ok(frame) => frame,
            Err(Error::Io(_)) => return Ok(None),
            Err(error) => return Err(violation(error)),
        };
        Ok(match frame {
            Frame::Ping(payload) => Some(Incoming::Ping(detach(payload))),
            Frame::Pong(payload) => Some(Incoming::Pong(detach(payload))),
            Frame::Close(None) => Some(Incoming::Close(Close::no_status())),
            Frame::Close(Some(frame)) => {
                let close = Close::new(u16::from(frame.code), frame.reason.as_str())
                    .map_err(|_| CloseReason::BadCloseCode)?;
                Some(Incoming::Close(close))
            }
            Frame::Text(_) | Frame::Binary(_) | Frame::Frame(_) => None,
        })
    }
}

/// One whole frame, as the stream that tungstenite reads. The header is read alone: if tungstenite got more,
/// it would move the payload into a buffer of twice the size. Tungstenite's own answers to a Ping or Close
/// are dropped. At the end of the frame the stream would block; tungstenite reports that as an `Error::Io`
/// and can go on.
struct OneFrame<'a> {
    prefix: &'a [u8],
    payload: &'a [u8],
}

impl Read for OneFrame<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = if self.prefix.is_empty() { &mut self.payload } else { &mut self.prefix };
        if part.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        part.read(buffer)
    }
}

impl Write for OneFrame<'_> {
    fn write(&mut self, answer: &[u8]) -> io::Result<usize> {
        Ok(answer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Moves the payload into a buffer of the right size. A short payload is copied. A long one stays where it
/// is, unless its buffer is larger by more than an eighth, as it is after many fragments.
pub(super) fn detach(payload: Bytes) -> Bytes {
    const SHORT: usize = 4096;

    if payload.len() <= SHORT {
        return Bytes::copy_from_slice(&payload);
    }
    match payload.try_into_mut() {
        Ok(buffer) if buffer.capacity() - buffer.len() > buffer.len() / 8 => {
            Bytes::copy_from_slice(&buffer)
        }
        Ok(buffer) => buffer.freeze(),
        Err(shared) => shared,
    }
}
