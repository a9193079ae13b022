//! What travels over the socket, as JSON.

use partykit::Message;
use serde::{Deserialize, Serialize};

use crate::{Changes, Item, ItemId, Page};

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Ask {
    /// Asks for items: the newest ones, or those just older than one that the client has.
    Page {
        /// The oldest item that the client has.
        #[serde(default)]
        before: Option<ItemId>,
        /// How many. Default: 30.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Asks for a change. The client is told when it is saved.
    Change {
        /// The client's own number of this change.
        op: u64,
        /// The change.
        change: Change,
    },
}

/// What can be done to the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
#[allow(missing_docs, reason = "each says it")]
#[non_exhaustive]
pub enum Change {
    Create { item: Item },
    Update { id: ItemId, changes: Changes },
    Delete { id: ItemId },
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event {
    /// To all clients: an item was deleted.
    Deleted {
        /// Which.
        id: ItemId,
        /// How many items the board has now.
        total: u64,
    },
    /// To all clients: an item is new or has changed.
    Item {
        /// The item.
        item: Item,
        /// How many items the board has now.
        total: u64,
    },
    /// To the client that asked.
    Page {
        /// What was asked for.
        before: Option<ItemId>,
        /// The items.
        #[serde(flatten)]
        page: Page,
    },
    /// To all clients: how many connections are here.
    People {
        /// How many.
        count: usize,
    },
    /// To the client that asked: nothing was changed.
    Refused {
        /// The number of the change, if it had one.
        op: Option<u64>,
        /// What was wrong.
        reason: String,
    },
    /// To the client that asked: this change is on disk, and all clients are told.
    Saved {
        /// The number of the change.
        op: u64,
    },
}

/// The number of a change that is otherwise not understood.
pub(crate) fn op(message: &Message) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        op: u64,
    }
    message.json::<Numbered>().ok().map(|numbered| numbered.op)
}
