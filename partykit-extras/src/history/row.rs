//! How a message is stored: a key with its offset, and a value of a byte for the kind, the time in
//! milliseconds (6 bytes), the bytes of all messages up to this one (8), the epoch (5), the length of the
//! id that it is not for and that id, the same for the tag, and the message. Numbers are little-endian,
//! lengths have 2 bytes.
//!
//! So the last row is all that is read before the next one is appended, and the first row tells how much is
//! kept.

use bytes::{Buf, Bytes};
use partykit_core::{Connection, Message, Text, Timestamp};

use super::{HistoryError, Position};

const TEXT: u8 = 0;
const BINARY: u8 = 1;

/// A message that is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) position: Position,
    pub(super) at: Timestamp,
    /// The bytes of all messages that were published up to this one.
    pub(super) total: u64,
    pub(super) except: Option<String>,
    pub(super) tag: Option<String>,
    pub(super) message: Message,
}

impl Row {
    pub(super) fn read(key: &str, value: &Bytes, prefix: &str) -> Result<Self, HistoryError> {
        let read = Self::decode(key.strip_prefix(prefix), value.clone());
        read.ok_or_else(|| HistoryError::Row { key: key.to_owned() })
    }

    fn decode(key: Option<&str>, mut value: Bytes) -> Option<Self> {
        let offset = u64::from_str_radix(key?.strip_prefix("m:")?, 16).ok()?;
        let kind = value.try_get_u8().ok()?;
        let at = Timestamp::from_millis(value.try_get_uint_le(6).ok()?);
        let total = value.try_get_u64_le().ok()?;
        let epoch = value.try_get_uint_le(5).ok()?;
        let except = take_text(&mut value)?;
        let tag = take_text(&mut value)?;
        if total < value.len() as u64 {
            return None;
        }
        let message = match kind {
            TEXT => Message::Text(Text::from_utf8(value).ok()?),
            BINARY => Message::Binary(value),
            _ => return None,
        };
        Some(Self { position: Position { epoch, offset }, at, total, except, tag, message })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let message = self.message.as_bytes();
        let mut value = Vec::with_capacity(64 + message.len());
        value.push(if self.message.is_text() { TEXT } else { BINARY });
        value.extend(&self.at.as_millis().to_le_bytes()[..6]);
        value.extend(self.total.to_le_bytes());
        value.extend(&self.position.epoch.to_le_bytes()[..5]);
        for text in [&self.except, &self.tag] {
            let text = text.as_deref().unwrap_or_default();
            // Ids and tags have at most 256 bytes.
            value.extend((text.len() as u16).to_le_bytes());
            value.extend(text.as_bytes());
        }
        value.extend(message);
        value
    }

    /// Whether this connection has the tag that the message is for.
    pub(super) fn is_for(&self, connection: &Connection) -> bool {
        self.tag.as_deref().is_none_or(|tag| connection.has_tag(tag))
    }
}

/// A text behind its length; an empty one stands for none.
fn take_text(value: &mut Bytes) -> Option<Option<String>> {
    let length = usize::from(value.try_get_u16_le().ok()?);
    if value.len() < length {
        return None;
    }
    let text = String::from_utf8(value.split_to(length).to_vec()).ok()?;
    Some((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_is_what_was_encoded(
            random: [u8; 5], at in 0_u64..1 << 48, before in 0_u64..1 << 40,
            except in "[a-z]{0,256}", tag in "\\PC{0,60}", text: String, is_text: bool,
        ) {
            let message = if is_text { Message::from(text) } else { Message::from(text.into_bytes()) };
            let some = |text: String| (!text.is_empty()).then_some(text);
            let row = Row {
                position: Position::first(random),
                at: Timestamp::from_millis(at),
                total: before + message.len() as u64,
                except: some(except),
                tag: some(tag),
                message,
            };
            let value = Bytes::from(row.encode());
            prop_assert_eq!(Row::read("h:m:0000000000000001", &value, "h:").unwrap(), row);
        }

        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Row::read("h:m:1", &value.into(), "h:");
        }
    }

    /// With an id of PartySocket, a message of 100 bytes takes 187 with its key.
    #[test]
    fn what_a_row_takes() {
        let row = Row {
            position: Position::first([0; 5]),
            at: Timestamp::default(),
            total: 100,
            except: Some("c7f5ad7e-9b36-4f0e-8a2f-6f4f5b1d9f10".to_owned()),
            tag: None,
            message: Message::from("x".repeat(100)),
        };
        let size = "history:m:0000000000000001".len() + row.encode().len();
        assert!(size <= 100 + 63 + 24, "{size}");
    }
}
