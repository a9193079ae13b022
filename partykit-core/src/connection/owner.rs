use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{Connection, StateError};
use crate::{Close, Message, storage::Lookup};

/// The room of a connection, as the connection sees it. It outlives every instance.
pub(crate) trait Owner: Send + Sync {
    fn send(self: Arc<Self>, connection: &Connection, message: Message);

    fn close(self: Arc<Self>, connection: &Connection, close: Close);

    fn set_state(
        self: Arc<Self>,
        connection: &Connection,
        state: Option<Bytes>,
    ) -> Result<(), StateError>;

    /// The state that the calling handler has set. [`Lookup::Ask`] if it has set no state.
    fn pending_state(&self, connection: &Connection) -> Lookup;

    /// Whether it is among [`Room::connections`](crate::Room::connections).
    fn lists(&self, connection: &Connection) -> bool;

    /// The bytes of messages to it that wait for the running handler to await something or to end.
    fn unsent_to(&self, connection: &Connection) -> usize;

    /// Ready when all outputs have left the room, except those that wait for a commit.
    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()>;
}
