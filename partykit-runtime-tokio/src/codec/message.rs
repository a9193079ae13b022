use bytes::Bytes;
use partykit_core::{Message, Text, runtime::CloseReason};
use tungstenite::protocol::frame::coding::Data;

use super::{Limits, decode::append, window::detach};

/// The fragments so far of an unfinished message, without their masks.
pub(super) struct PartialMessage {
    is_text: bool,
    bytes: Vec<u8>,
    /// How many of the bytes are known to be text.
    checked: usize,
    fragments: u32,
}

impl PartialMessage {
    pub(super) fn new(kind: Data) -> Self {
        Self { is_text: matches!(kind, Data::Text), bytes: Vec::new(), checked: 0, fragments: 0 }
    }

    /// What has arrived.
    #[cfg(unix)]
    pub(super) fn unfinished(&self) -> Unfinished<'_> {
        (self.is_text, &self.bytes, self.fragments)
    }

    /// The message that this was a part of.
    ///
    /// # Errors
    ///
    /// When it breaks the protocol or a limit already.
    #[cfg(unix)]
    pub(super) fn resume(
        (is_text, bytes, fragments): Unfinished<'_>,
        limits: &Limits,
    ) -> Result<Self, CloseReason> {
        let mut message = Self::new(if is_text { Data::Text } else { Data::Binary });
        message.admit(bytes.len(), limits)?;
        message.add(Bytes::copy_from_slice(bytes), limits)?;
        message.fragments = fragments;
        Ok(message)
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    /// Whether a fragment of `payload` bytes may follow.
    pub(super) fn admit(&self, payload: usize, limits: &Limits) -> Result<(), CloseReason> {
        if payload > limits.max_message.saturating_sub(self.bytes.len()) {
            return Err(CloseReason::MessageTooLong);
        }
        if self.fragments >= limits.max_fragments {
            return Err(CloseReason::TooManyFragments);
        }
        Ok(())
    }

    /// Adds a fragment. Text that cannot become UTF-8 is refused here and not only at the end of the message.
    pub(super) fn add(&mut self, fragment: Bytes, limits: &Limits) -> Result<(), CloseReason> {
        self.fragments += 1;
        if self.bytes.is_empty() {
            self.bytes = fragment.into();
        } else {
            append(&mut self.bytes, &fragment, limits.max_message);
        }
        if self.is_text {
            match std::str::from_utf8(&self.bytes[self.checked..]) {
                Ok(_) => self.checked = self.bytes.len(),
                // A character may go on in the next fragment.
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(CloseReason::NotUtf8),
            }
        }
        Ok(())
    }

    pub(super) fn end(self) -> Result<Message, CloseReason> {
        message(self.is_text, detach(self.bytes.into()))
    }
}

/// A whole message.
///
/// # Errors
///
/// When text is not UTF-8.
pub(super) fn message(is_text: bool, bytes: Bytes) -> Result<Message, CloseReason> {
    Ok(if is_text {
        Message::Text(Text::from_utf8(bytes).map_err(|_| CloseReason::NotUtf8)?)
    } else {
        Message::Binary(bytes)
    })
}

/// An unfinished message: whether it is text, the bytes of its fragments, and how many there are.
#[cfg(unix)]
pub(super) type Unfinished<'a> = (bool, &'a [u8], u32);
