use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Serialize, de::DeserializeOwned};

use crate::{JsonError, OrReject, Reject};

/// One WebSocket message: text or binary.
///
/// Cloning is cheap: clones share the payload. So a broadcast to ten thousand connections needs one
/// allocation.
///
/// ```
/// use partykit_core::Message;
///
/// let hello = Message::from("hello");
/// assert_eq!(hello.as_text(), Some("hello"));
///
/// let point = Message::from_json(&serde_json::json!({ "x": 1 }))?;
/// assert_eq!(point.json::<serde_json::Value>()?["x"], 1);
/// # Ok::<(), partykit_core::BoxError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "RFC 6455 has these two kinds of message and no more")]
pub enum Message {
    /// A text message. Always valid UTF-8.
    Text(Text),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// A text message holding `value` as JSON.
    ///
    /// # Errors
    ///
    /// When `value` has no JSON form: its `Serialize` fails, or a map has keys that are not strings.
    pub fn from_json<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        serde_json::to_string(value).map(Self::from).map_err(JsonError::new)
    }

    /// Reads the payload, text or binary, as JSON.
    ///
    /// # Errors
    ///
    /// A [`Reject`] (400) when the payload is not JSON of this shape, because this is the client's fault. If
    /// `on_message` returns it with `?`, the message is dropped.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        Reject::read_json("the message", self.as_bytes())
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// A [`Reject`] (400) for a binary message.
    pub fn text(&self) -> Result<&str, Reject> {
        self.as_text().or_reject("the message is not text")
    }

    /// The text, or `None` for a binary message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload, of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The payload without copying it.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Whether this is a text message.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

/// Shows the kind and the length. Payloads belong to users and stay out of logs.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_text() { "Text" } else { "Binary" };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

/// UTF-8 text in a shared buffer: cheap to clone, usable wherever a `&str` is.
///
/// ```
/// use partykit_core::Text;
///
/// let text = Text::from("héllo");
/// assert!(text.starts_with('h'));
/// assert_eq!(Text::from_utf8(b"caf\xC3\xA9".as_slice().into())?, "café");
/// # Ok::<(), std::str::Utf8Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(ByteString);

impl Text {
    /// Takes a buffer that has to hold UTF-8, without copying it.
    ///
    /// # Errors
    ///
    /// When the bytes are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        ByteString::try_from(bytes).map(Self)
    }

    /// The text as a `&str`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared buffer behind the text.
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_payload() {
        let message = Message::from("x".repeat(1000));
        assert_eq!(message.as_bytes().as_ptr(), message.clone().as_bytes().as_ptr());
    }

    #[test]
    fn json_goes_both_ways_and_reads_binary_too() {
        let message = Message::from_json(&[1, 2, 3]).unwrap();
        assert!(message.is_text());
        assert_eq!(message.json::<Vec<u8>>().unwrap(), [1, 2, 3]);
        assert_eq!(Message::from(b"[1]".as_slice()).json::<Vec<u8>>().unwrap(), [1]);
        assert!(Message::from("{").json::<Vec<u8>>().is_err());
    }

    #[test]
    fn debug_never_shows_a_payload() {
        assert_eq!(format!("{:?}", Message::from("secret")), "Text(6 bytes)");
    }

    #[test]
    fn text_refuses_what_is_not_utf8() {
        assert!(Text::from_utf8(Bytes::from_static(b"\xff")).is_err());
    }
}
