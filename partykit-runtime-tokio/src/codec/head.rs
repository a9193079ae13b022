use std::borrow::Cow;

use bytes::{Buf, Bytes};
use partykit_core::runtime::CloseReason;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The header of a client's frame. Lengths are in bytes.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) opcode: OpCode,
    pub(super) is_final: bool,
    /// The bits that have to be zero, because no extension was agreed on.
    reserved: u8,
    /// `None` if the payload is not masked, as it has to be.
    mask: Option<[u8; 4]>,
    /// The header itself.
    pub(super) prefix: usize,
    pub(super) payload: usize,
}

/// A payload from this length on stays in the buffer in which its frame was put together, with the few bytes of
/// the header before it.
const LONG: usize = 4096;

impl Head {
    /// The header at the beginning of `bytes`. `None` if it has not arrived completely.
    ///
    /// # Errors
    ///
    /// When the opcode is not known, or when the frame would be too long for this machine.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, CloseReason> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (length, rest) = match second & 0x7F {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            length => (u64::from(length), rest),
        };
        let (mask, rest) = match rest.split_first_chunk() {
            _ if second & 0x80 == 0 => (None, rest),
            Some((mask, rest)) => (Some(*mask), rest),
            None => return Ok(None),
        };
        let opcode = match OpCode::from(first & 0x0F) {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                return Err(CloseReason::UnknownOpcode);
            }
            opcode => opcode,
        };
        let prefix = bytes.len() - rest.len();
        let payload = usize::try_from(length).map_err(|_| CloseReason::MessageTooLong)?;
        let (is_final, reserved) = (first & 0x80 != 0, first & 0x70);
        Ok(Some(Self { opcode, is_final, reserved, mask, prefix, payload }))
    }

    /// The length of the whole frame. Ask for it when the payload's length is known to be allowed.
    pub(super) fn frame(&self) -> usize {
        self.prefix + self.payload
    }

    /// The payload of a whole frame without its mask.
    ///
    /// # Errors
    ///
    /// When a client may not send such a frame.
    pub(super) fn unmask(&self, frame: Cow<'_, [u8]>) -> Result<Bytes, CloseReason> {
        let mask = self.mask.ok_or(CloseReason::NoMask)?;
        if self.reserved != 0 {
            return Err(CloseReason::ReservedBits);
        }
        Ok(match frame {
            Cow::Owned(mut frame) if self.payload >= LONG => {
                remove(mask, &mut frame[self.prefix..]);
                let mut payload = Bytes::from(frame);
                payload.advance(self.prefix);
                payload
            }
            frame => {
                let mut payload = frame[self.prefix..].to_vec();
                remove(mask, &mut payload);
                payload.into()
            }
        })
    }
}

/// A message of up to 125 bytes in one frame, as most are: whether it is text, and its payload without the mask.
/// `None` if something else is at the front of `input`, or if not all of it is there.
pub(super) fn short_message(input: &mut &[u8], most: usize) -> Option<(bool, Bytes)> {
    const TEXT: u8 = 0x81;
    const BINARY: u8 = 0x82;
    const MASKED: u8 = 0x80;
    const LONGEST: usize = 125;

    let &[kind @ (TEXT | BINARY), length, a, b, c, d, ref rest @ ..] = *input else { return None };
    let length = usize::from(length.checked_sub(MASKED)?);
    if length > LONGEST.min(most) {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(length)?;
    let mut payload = payload.to_vec();
    remove([a, b, c, d], &mut payload);
    *input = rest;
    Some((kind == TEXT, payload.into()))
}

/// Removes a mask, eight bytes at a time.
fn remove(mask: [u8; 4], payload: &mut [u8]) {
    let [a, b, c, d] = mask;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (eights, rest) = payload.as_chunks_mut();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ twice).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}
