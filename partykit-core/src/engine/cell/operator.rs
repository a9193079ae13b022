use std::{future::Future, sync::Arc};

use super::RoomCell;
use crate::{Close, Connection, ConnectionListing, Refusal, value::order::Order};

/// What operators do with a room, beside its [alarm](RoomCell::park_alarm). These methods do not start the
/// room.
impl RoomCell {
    /// Deletes everything that the room stores, including its alarm. Always enters the mailbox, also while
    /// starts are refused after failures. Earlier events are handled before. Then the instance is dropped and
    /// tasks are cancelled. The connections stay, and the next event gets a new instance. The future waits
    /// until this is stored.
    ///
    /// # Errors
    ///
    /// When the room shuts down, or this could not be stored. Then nothing is deleted.
    pub fn erase(self: &Arc<Self>) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        self.order(Order::Erase)
    }

    /// Closes listed connections: those with a tag (an id is a tag), or all. Earlier messages to them leave
    /// first. Does not start the room, but their `on_close` does, when the clients have answered. Returns how
    /// many connections there were.
    pub fn disconnect(self: &Arc<Self>, tag: Option<&str>, close: &Close) -> usize {
        self.disconnect_where(tag, |_| true, close)
    }

    /// The same for the connections with this id. Other connections may have it as a tag.
    pub fn disconnect_id(self: &Arc<Self>, id: &str, close: &Close) -> usize {
        self.disconnect_where(Some(id), |connection| connection.id() == id, close)
    }

    /// The first `limit` listed connections, in connection order; with `after`, those that follow the one
    /// with this [number](ConnectionListing::number). Starts nothing.
    pub fn list_connections(&self, after: Option<u64>, limit: usize) -> Vec<ConnectionListing> {
        let all = self.connections();
        let first = all.partition_point(|it| after.is_some_and(|after| it.key() <= after));
        all[first..].iter().take(limit).map(ConnectionListing::new).collect()
    }

    fn disconnect_where(
        self: &Arc<Self>,
        tag: Option<&str>,
        is_meant: impl Fn(&Connection) -> bool,
        close: &Close,
    ) -> usize {
        self.enter(|state, _| {
            let roster = state.machine.roster();
            let tagged: Vec<_> = match tag {
                Some(tag) => roster.tagged(tag).filter(|it| is_meant(it)).cloned().collect(),
                None => roster.all().to_vec(),
            };
            for connection in &tagged {
                state.machine.close(connection, close.clone());
            }
            tagged.len()
        })
    }
}
