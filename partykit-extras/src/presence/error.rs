use partykit_core::{JsonError, StateError};

/// Why presence cannot do something.
///
/// ```
/// use partykit_core::{Connection, Room};
/// use partykit_extras::presence::{Presence, PresenceError};
/// use serde_json::json;
///
/// fn is_typing(presence: &mut Presence, room: &Room, who: &Connection) -> Result<(), PresenceError> {
///     match presence.update(room, who, &json!({ "is_typing": true })) {
///         Err(PresenceError::NotHere) => Ok(()),
///         done => done,
///     }
/// }
/// # let _ = is_typing;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// A meta that does not serialize as a JSON object.
    #[error("a meta of presence has to be a JSON object, as a struct or a map is")]
    NoObject,
    /// An update of a connection that has not joined.
    #[error("the connection has not joined: call `Presence::join` first")]
    NotHere,
    /// A meta that does not have the shape that was asked for.
    #[error("a meta of presence is not of the shape that was asked for")]
    Shape,
    /// What is kept with a connection is too large, or cannot be read.
    #[error("the presence of a connection cannot be kept: {0}")]
    State(#[from] StateError),
}

impl From<JsonError> for PresenceError {
    fn from(error: JsonError) -> Self {
        Self::State(error.into())
    }
}
