use serde::{Serialize, de::DeserializeOwned};

use crate::{Connection, JsonError};

/// A connection in a list: what an operator sees of it. As JSON, its state is under `state`.
///
/// ```
/// use partykit_core::{ConnectionListing, JsonError};
///
/// /// The names that connections have as their states.
/// fn names(here: &[ConnectionListing]) -> Result<Vec<String>, JsonError> {
///     here.iter().filter_map(|connection| connection.state::<String>().transpose()).collect()
/// }
/// # assert!(names(&[]).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConnectionListing {
    /// Counts the connections of the room in the order in which they came, since the room came into memory.
    /// For the next page.
    pub number: u64,
    /// Its id. More than one connection may have it: a client with two tabs, or one that has come back
    /// while its old socket is still here.
    pub id: String,
    /// The address that it connected with, as [`Connection::uri`] has it.
    pub uri: String,
    /// Its tags, without the id.
    pub tags: Vec<String>,
    /// Bytes that wait at its socket for the client to read them.
    pub buffered: usize,
    state: Option<serde_json::Value>,
}

impl ConnectionListing {
    pub(crate) fn new(connection: &Connection) -> Self {
        Self {
            number: connection.key(),
            id: connection.id().to_owned(),
            uri: connection.uri().to_owned(),
            tags: connection.tags().skip(1).map(str::to_owned).collect(),
            buffered: connection.buffered(),
            // Each state was written as JSON.
            state: connection.state().ok().flatten(),
        }
    }

    /// Its [state](Connection::state). `None` if it has none.
    ///
    /// # Errors
    ///
    /// When the state is not of this shape.
    pub fn state<T: DeserializeOwned>(&self) -> Result<Option<T>, JsonError> {
        self.state.as_ref().map(T::deserialize).transpose().map_err(JsonError::new)
    }
}
