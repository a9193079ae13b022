use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::Message;

/// A message on its way to a socket.
///
/// A message to many sockets keeps its encoded form: the first socket that asks encodes it, and all others
/// share the result.
///
/// ```
/// use bytes::Bytes;
/// use partykit_core::runtime::Outgoing;
///
/// fn queue(message: Outgoing<'_>, queue: &mut Vec<Bytes>) {
///     queue.push(message.encoded(|message| Bytes::copy_from_slice(message.as_bytes())));
/// }
/// # let _ = queue;
/// ```
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    message: &'a Message,
    encoded: Option<&'a OnceLock<Bytes>>,
}

impl<'a> Outgoing<'a> {
    /// The message itself.
    pub fn message(self) -> &'a Message {
        self.message
    }

    /// Whether it goes to many sockets: then it is worth keeping what was made of it.
    pub fn is_shared(self) -> bool {
        self.encoded.is_some()
    }

    /// The message as `encode` makes it. A message to many sockets is encoded at most once.
    pub fn encoded(self, encode: impl FnOnce(&Message) -> Bytes) -> Bytes {
        match self.encoded {
            Some(encoded) => encoded.get_or_init(|| encode(self.message)).clone(),
            None => encode(self.message),
        }
    }

    /// The same for a message to many sockets. `None` for a message to one.
    pub fn shared(self, encode: impl FnOnce(&Message) -> Bytes) -> Option<&'a Bytes> {
        Some(self.encoded?.get_or_init(|| encode(self.message)))
    }
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

/// A message that has left a room.
pub(crate) enum Frame {
    /// To one connection.
    One(Message),
    /// To many.
    Many(Arc<Shared>),
}

/// A message to many, and its encoded form.
pub(crate) struct Shared {
    message: Message,
    encoded: OnceLock<Bytes>,
}

impl Shared {
    pub(crate) fn new(message: Message) -> Arc<Self> {
        Arc::new(Self { message, encoded: OnceLock::new() })
    }

    pub(crate) fn message(&self) -> &Message {
        &self.message
    }
}

impl Frame {
    /// The message, for a socket.
    pub(crate) fn outgoing(&self) -> Outgoing<'_> {
        match self {
            Self::One(message) => Outgoing { message, encoded: None },
            Self::Many(shared) => {
                Outgoing { message: &shared.message, encoded: Some(&shared.encoded) }
            }
        }
    }
}
