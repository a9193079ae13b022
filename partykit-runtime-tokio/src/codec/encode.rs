use bytes::Bytes;
use partykit_core::{Close, Message};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// The payload of a control frame has at most 125 bytes (RFC 6455, 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// The first bit of a frame that ends its message.
const FINAL: u8 = 0x80;

/// One frame with the whole message. The same bytes are sent to all clients.
pub(crate) fn encode_message(message: &Message) -> Bytes {
    let mut frame = Vec::with_capacity(message_frame(message));
    append_message(message, &mut frame);
    frame.into()
}

/// The length of the frame with the whole message.
pub(crate) fn message_frame(message: &Message) -> usize {
    let length = message.len();
    FrameHeader::default().len(length as u64) + length
}

/// Adds the frame with the whole message to those before it.
pub(crate) fn append_message(message: &Message, frames: &mut Vec<u8>) {
    let data = if message.is_text() { Data::Text } else { Data::Binary };
    append(OpCode::Data(data), &[message.as_bytes()], frames);
}

/// One masked frame with the whole message, as a client sends it.
#[cfg(unix)]
pub(crate) fn encode_client_message(message: &Message, frame: &mut Vec<u8>) {
    let data = if message.is_text() { Data::Text } else { Data::Binary };
    let header =
        FrameHeader { opcode: OpCode::Data(data), mask: Some([0; 4]), ..FrameHeader::default() };
    header.format(message.len() as u64, frame).expect("a Vec takes every write");
    // A mask of zeros changes nothing.
    frame.extend_from_slice(message.as_bytes());
}

/// A Close frame. For a code that is never sent (1005, 1006), it has no payload.
pub(crate) fn encode_close(close: &Close) -> Bytes {
    let opcode = OpCode::Control(Control::Close);
    if close.code().is_sendable() {
        let code = u16::from(close.code()).to_be_bytes();
        encode(opcode, &[&code, close.reason().as_bytes()])
    } else {
        encode(opcode, &[])
    }
}

/// The answer to a client's Close: the same code and reason, or no code if it had none.
pub(crate) fn close_reply(close: &Close) -> Bytes {
    encode_close(close)
}

/// A Ping frame.
///
/// # Panics
///
/// When `payload` is longer than 125 bytes.
pub(crate) fn encode_ping(payload: &[u8]) -> Bytes {
    assert!(payload.len() <= MAX_CONTROL, "a ping of {} bytes", payload.len());
    encode(OpCode::Control(Control::Ping), &[payload])
}

/// A Pong frame. The answer to a Ping has its payload.
///
/// # Panics
///
/// When `payload` is longer than 125 bytes. The payload of an [`Incoming::Ping`](super::Incoming::Ping) is
/// never longer.
pub(crate) fn encode_pong(payload: &[u8]) -> Bytes {
    assert!(payload.len() <= MAX_CONTROL, "a pong of {} bytes", payload.len());
    encode(OpCode::Control(Control::Pong), &[payload])
}

/// A final frame without a mask, in a buffer of exactly its size.
fn encode(opcode: OpCode, payload: &[&[u8]]) -> Bytes {
    let length = payload.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(FrameHeader::default().len(length as u64) + length);
    append(opcode, payload, &mut frame);
    frame.into()
}

/// Adds a final frame without a mask.
fn append(opcode: OpCode, payload: &[&[u8]], frames: &mut Vec<u8>) {
    let length = payload.iter().map(|part| part.len()).sum::<usize>();
    match u8::try_from(length) {
        // The header of a short frame: its end is here, and its length is what it says.
        Ok(length @ ..=125) => frames.extend_from_slice(&[FINAL | u8::from(opcode), length]),
        _ => {
            let header = FrameHeader { opcode, ..FrameHeader::default() };
            header.format(length as u64, frames).expect("a Vec takes every write");
        }
    }
    for part in payload {
        frames.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::{
        Message as Frame, WebSocket,
        protocol::{CloseFrame, Role},
    };

    use super::*;
    use crate::codec::tests::SIZES;

    /// What a client reads from these bytes.
    fn read(frame: &[u8]) -> Frame {
        let length = frame.len();
        let mut socket =
            WebSocket::from_raw_socket(Cursor::new(frame.to_vec()), Role::Client, None);
        let message = socket.read().unwrap();
        assert!(socket.get_ref().position() >= length as u64, "the frame is longer than it says");
        message
    }

    #[test]
    fn a_client_reads_messages_of_every_size() {
        for size in SIZES {
            let text = "x".repeat(size);
            assert_eq!(read(&encode_message(&text.as_str().into())), Frame::text(text.clone()));
            let binary = Bytes::from(text);
            assert_eq!(read(&encode_message(&binary.clone().into())), Frame::Binary(binary));
        }
    }

    #[test]
    fn a_frame_has_a_buffer_of_its_size() {
        for size in SIZES {
            let frame = encode_message(&vec![7; size].into());
            let length = frame.len();
            assert_eq!(frame.try_into_mut().unwrap().capacity(), length);
        }
    }

    #[test]
    fn a_client_reads_control_frames() {
        for size in [0, 1, MAX_CONTROL] {
            let payload = vec![9; size];
            assert_eq!(read(&encode_ping(&payload)), Frame::Ping(payload.clone().into()));
            assert_eq!(read(&encode_pong(&payload)), Frame::Pong(payload.into()));
        }
    }

    #[test]
    fn a_client_reads_code_and_reason_of_a_close() {
        let reason = "é".repeat(61) + "x";
        let close = Close::new(4321, reason.as_str()).unwrap();
        let frame = CloseFrame { code: 4321.into(), reason: reason.into() };
        assert_eq!(read(&encode_close(&close)), Frame::Close(Some(frame.clone())));
        assert_eq!(read(&close_reply(&close)), Frame::Close(Some(frame)));
    }

    #[test]
    fn a_close_without_a_code_of_the_wire_is_empty() {
        assert_eq!(encode_close(&Close::no_status())[..], [0x88, 0]);
        assert_eq!(close_reply(&Close::no_status())[..], [0x88, 0]);
        assert_eq!(encode_close(&Close::abnormal("x".repeat(500)))[..], [0x88, 0]);
    }
}
