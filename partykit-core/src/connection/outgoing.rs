use std::{fmt, sync::OnceLock};

use bytes::Bytes;

use crate::Message;

/// A message on its way to sockets, with its encoded form: the first socket encodes it, and all others share
/// the result.
///
/// ```
/// use bytes::Bytes;
/// use partykit_core::runtime::Outgoing;
///
/// fn queue(message: &Outgoing, queue: &mut Vec<Bytes>) {
///     queue.push(message.encoded(|message| Bytes::copy_from_slice(message.as_bytes())).clone());
/// }
/// # let _ = queue;
/// ```
pub struct Outgoing {
    message: Message,
    encoded: OnceLock<Bytes>,
}

impl Outgoing {
    pub(crate) fn new(message: Message) -> Self {
        Self { message, encoded: OnceLock::new() }
    }

    /// The message itself.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The message as `encode` makes it, encoded at most once.
    pub fn encoded(&self, encode: impl FnOnce(&Message) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(&self.message))
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}
