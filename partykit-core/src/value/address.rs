use std::{fmt, sync::Arc};

use arcstr::ArcStr;
use serde::{Deserialize, Serialize};

/// The id of a room: 1 to 1,024 bytes of UTF-8, percent-decoded from its URL.
///
/// ```
/// use partykit_core::RoomId;
///
/// let id = RoomId::new("my room")?;
/// assert_eq!(id.as_str(), "my room");
/// assert!(RoomId::new("").is_err());
/// # Ok::<(), partykit_core::InvalidRoomId>(())
/// ```
// One word, where an `Arc<str>` has two: each sleeping room keeps its id, and so does its claim.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomId(ArcStr);

impl RoomId {
    /// The longest id in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Makes an id.
    ///
    /// # Errors
    ///
    /// When `id` is empty or longer than [`RoomId::MAX_LEN`] bytes.
    pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidRoomId> {
        match id.as_ref() {
            id if id.is_empty() || id.len() > Self::MAX_LEN => Err(InvalidRoomId(id.len())),
            id => Ok(Self(id.into())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for RoomId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RoomId {
    type Error = InvalidRoomId;

    fn try_from(id: String) -> Result<Self, InvalidRoomId> {
        Self::new(id)
    }
}

impl From<RoomId> for String {
    fn from(id: RoomId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// A room id that is empty or too long. Holds its length in bytes.
///
/// ```
/// use partykit_core::RoomId;
///
/// let error = RoomId::new("").unwrap_err();
/// assert_eq!(error.to_string(), "a room id has 1 to 1024 bytes, this one has 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room id has 1 to {max} bytes, this one has {0}", max = RoomId::MAX_LEN)]
pub struct InvalidRoomId(usize);

/// Which room: the name of its party and its id.
///
/// Prints as `party/room`.
///
/// ```
/// use partykit_core::{RoomAddress, RoomId};
///
/// let address = RoomAddress::new("chat", RoomId::new("lobby")?);
/// assert_eq!(address.to_string(), "chat/lobby");
/// # Ok::<(), partykit_core::InvalidRoomId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomAddress {
    party: Arc<str>,
    room: RoomId,
}

impl RoomAddress {
    /// The address of a room.
    pub fn new(party: impl Into<Arc<str>>, room: RoomId) -> Self {
        Self { party: party.into(), room }
    }

    /// The name that the party was registered under.
    pub fn party(&self) -> &str {
        &self.party
    }

    /// The room's id.
    pub fn room(&self) -> &RoomId {
        &self.room
    }
}

impl fmt::Display for RoomAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.party, self.room)
    }
}
