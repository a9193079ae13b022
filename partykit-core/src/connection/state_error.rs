use crate::{JsonError, value::limits};

/// A state that cannot be set.
///
/// ```
/// use partykit_core::{Connection, StateError};
///
/// fn remember(connection: &Connection, text: &str) -> Result<(), StateError> {
///     match connection.set_state(text) {
///         Err(StateError::TooLarge(_)) => connection.set_state("something long"),
///         result => result,
///     }
/// }
/// # let _ = remember;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The state has no JSON form.
    #[error("the connection's state cannot be read or written as JSON: {0}")]
    Json(#[from] JsonError),
    /// Ids, uris, tags and states of all connections of the room would have this many bytes.
    #[error(
        "ids, uris, tags and states of a room's connections would have {0} bytes together; at most {max} fit",
        max = limits::ATTACHMENTS
    )]
    RoomTooLarge(usize),
    /// Id, uri, tags and state would have this many bytes.
    #[error(
        "id, uri, tags and state of a connection would have {0} bytes together; at most {max} fit",
        max = limits::ATTACHMENT
    )]
    TooLarge(usize),
}
