use std::{borrow::Cow, fmt, ops::Deref};

use crate::{RouteError, value::route};

/// The id of a connection: 1 to 256 bytes of UTF-8, chosen by the client or made by the runtime.
///
/// It may not be unique: a client that reconnects brings its id again.
///
/// ```
/// use partykit_core::ConnectionId;
///
/// let id = ConnectionId::new("f81d4fae")?;
/// assert_eq!(id.as_str(), "f81d4fae");
/// assert!(ConnectionId::new("").is_err());
/// # Ok::<(), partykit_core::InvalidConnectionId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(Box<str>);

impl ConnectionId {
    /// The longest id in bytes. An id is the first tag of its connection, and this is the longest tag.
    pub const MAX_LEN: usize = 256;

    /// Makes an id.
    ///
    /// # Errors
    ///
    /// When `id` is empty or longer than [`ConnectionId::MAX_LEN`] bytes.
    pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidConnectionId> {
        match id.as_ref() {
            id if id.is_empty() || id.len() > Self::MAX_LEN => Err(InvalidConnectionId(id.len())),
            id => Ok(Self(id.into())),
        }
    }

    /// The id that a client asks for: the first `_pk` in the query of its URL, percent-decoded (`+` is a
    /// space). `None` if there is no `_pk`; then the runtime makes an id.
    ///
    /// ```
    /// use partykit_core::ConnectionId;
    ///
    /// let id = ConnectionId::from_query(Some("_pk=my%20id&token=t"))?;
    /// assert_eq!(id.as_deref(), Some("my id"));
    /// assert_eq!(ConnectionId::from_query(Some("token=t"))?, None);
    /// assert_eq!(ConnectionId::from_query(Some("_pk=")).unwrap_err().status(), 400);
    /// # Ok::<(), partykit_core::RouteError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the id is empty, too long, badly percent-encoded or not UTF-8. The answer is 400 then.
    pub fn from_query(query: Option<&str>) -> Result<Option<Self>, RouteError> {
        if let Some(id) = query.and_then(plain) {
            return Ok(Some(Self::new(id)?));
        }
        let is_id = |pair: &&str| match pair.split_once('=').map_or(*pair, |(name, _)| name) {
            name if name.contains(['%', '+']) => {
                form_urlencoded::parse(pair.as_bytes()).any(|it| it.0 == "_pk")
            }
            name => name == "_pk",
        };
        let Some(pair) = query.and_then(|query| query.split('&').find(is_id)) else {
            return Ok(None);
        };
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        let spaced = match value.contains('+') {
            true => Cow::Owned(value.replace('+', " ")),
            false => Cow::Borrowed(value),
        };
        Ok(Some(Self::new(route::decode(&spaced)?)?))
    }

    /// An id of 32 hexadecimal digits.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
        let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        let mut text = [0; 32];
        for (place, digit) in text.iter_mut().zip(digits) {
            // A digit is ASCII, so the cast loses nothing.
            *place = digit as u8;
        }
        Self(String::from_utf8_lossy(&text).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of `_pk`, if it comes first and is spelled plainly, as by PartySocket.
fn plain(query: &str) -> Option<&str> {
    let rest = query.strip_prefix("_pk=")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let (id, rest) = rest.split_at(rest.bytes().position(|it| !is_plain(it)).unwrap_or(rest.len()));
    (rest.is_empty() || rest.starts_with('&')).then_some(id)
}

impl std::str::FromStr for ConnectionId {
    type Err = InvalidConnectionId;

    fn from_str(id: &str) -> Result<Self, InvalidConnectionId> {
        Self::new(id)
    }
}

impl From<ConnectionId> for Box<str> {
    fn from(id: ConnectionId) -> Self {
        id.0
    }
}

impl Deref for ConnectionId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// A connection id that is empty or too long. Holds its length in bytes.
///
/// ```
/// use partykit_core::ConnectionId;
///
/// let error = ConnectionId::new("x".repeat(257)).unwrap_err();
/// assert_eq!(error.to_string(), "a connection id has 1 to 256 bytes, this one has 257");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection id has 1 to {max} bytes, this one has {0}", max = ConnectionId::MAX_LEN)]
pub struct InvalidConnectionId(usize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(query: &str) -> Result<Option<String>, RouteError> {
        Ok(ConnectionId::from_query(Some(query))?.map(|id| id.to_string()))
    }

    #[test]
    fn takes_the_first_pk() {
        assert_eq!(parse("a=b&_pk=x&_pk=y"), Ok(Some("x".into())));
        assert_eq!(parse("_pk=a+b%2Bc"), Ok(Some("a b+c".into())));
        assert_eq!(parse("%5Fpk=x"), Ok(Some("x".into())));
        assert_eq!(parse("_pk=a=b"), Ok(Some("a=b".into())));
        assert_eq!(parse("_pkx=a&x_pk=b"), Ok(None));
        assert_eq!(parse(""), Ok(None));
        assert_eq!(ConnectionId::from_query(None), Ok(None));
    }

    #[test]
    fn refuses_what_is_no_id() {
        let long = "x".repeat(257);
        for query in ["_pk", "_pk=", "_pk=%", "_pk=%zz", "_pk=%ff", &format!("_pk={long}")] {
            assert_eq!(parse(query).unwrap_err().status(), 400, "{query}");
        }
        assert_eq!(parse(&format!("_pk={}", &long[1..])), Ok(Some(long[1..].into())));
        // The limit is on what the bytes mean, not on how they are written.
        assert_eq!(parse(&format!("_pk={}", "%41".repeat(256))), Ok(Some("A".repeat(256))));
    }

    proptest! {
        #[test]
        fn whatever_a_query_says_it_does_not_panic(query in "(_pk)?=?\\PC*|[%&=_pk0-9a-f+]*") {
            let _ = parse(&query);
        }

        #[test]
        fn takes_every_id_that_form_encoding_can_say(id in "\\PC{1,60}") {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("token", "t")
                .append_pair("_pk", &id)
                .finish();
            prop_assert_eq!(parse(&query), Ok(Some(id)));
        }
    }
}
