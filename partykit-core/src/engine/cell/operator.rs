use std::{future::Future, sync::Arc};

use super::RoomCell;
use crate::{Close, Connection, ConnectionListing, Refusal, value::order::Order};

/// What operators do with a room beside its [alarm](RoomCell::park_alarm). None of it starts the room.
impl RoomCell {
    /// Deletes everything that the room stores, its alarm too. Always enters the mailbox, also while starts
    /// are refused because they failed too often. What happened before it is handled before it. With it
    /// the instance is dropped, and tasks are cancelled; the connections stay, and what happens next meets
    /// a new instance. The future waits until it is stored.
    ///
    /// # Errors
    ///
    /// When the room goes down, or it could not be stored: then nothing is deleted.
    pub fn erase(self: &Arc<Self>) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        self.order(Order::Erase)
    }

    /// Closes connections that are listed: those of a tag (an id is one), or all. What the room said to them
    /// before leaves first. Does not start the room; when the clients have answered, `on_close` does. Returns
    /// how many there were.
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
