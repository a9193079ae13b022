use std::{
    future::Future,
    sync::{Arc, Weak},
};

use super::RoomCell;
use crate::{
    Close, ConnectionListing, Refusal,
    connection::{Owner, peer::Peer},
    machine::Roster,
    value::order::Order,
};

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
        self.disconnect_where(close, |roster| match tag {
            Some(tag) => roster.tagged_peers(tag),
            None => roster.peers().to_vec(),
        })
    }

    /// The same for the connections with this id. Other connections may have it as a tag.
    pub fn disconnect_id(self: &Arc<Self>, id: &str, close: &Close) -> usize {
        self.disconnect_where(close, |roster| roster.of_id(id))
    }

    /// The first `limit` listed connections, in connection order; with `after`, those that follow the one
    /// with this [number](ConnectionListing::number). Starts nothing.
    pub fn list_connections(
        self: &Arc<Self>,
        after: Option<u64>,
        limit: usize,
    ) -> Vec<ConnectionListing> {
        let room: Weak<dyn Owner> = Arc::<Self>::downgrade(self);
        let page: Vec<_> = self.with_records(|records| {
            let rest = records.open().filter(|it| after.is_none_or(|after| it.key() > after));
            // A list makes no handles that stay.
            rest.take(limit).filter_map(|it| records.peek(it, &room)).collect()
        });
        page.iter().map(ConnectionListing::new).collect()
    }

    fn disconnect_where(
        self: &Arc<Self>,
        close: &Close,
        find: impl FnOnce(&mut Roster) -> Vec<Peer>,
    ) -> usize {
        self.enter(|state, _| {
            let meant = find(state.machine.roster());
            let count = meant.len();
            for peer in meant {
                state.machine.close(peer, close.clone());
            }
            count
        })
    }
}
