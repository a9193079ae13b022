//! What travels over the socket, as JSON.

use partykit::Message;
use serde::{Deserialize, Serialize};

use crate::{Changes, Item, ItemId, Page};

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Ask {
    /// Give me items: the newest, or those next older than one that I have.
    Page {
        /// The oldest that I have.
        #[serde(default)]
        before: Option<ItemId>,
        /// This many, instead of 30.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Change something, and tell me when it is saved.
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
    /// To everybody: an item is gone.
    Deleted {
        /// Which.
        id: ItemId,
        /// How many items the board has now.
        total: u64,
    },
    /// To everybody: an item is new, or is now like this.
    Item {
        /// The item.
        item: Item,
        /// How many items the board has now.
        total: u64,
    },
    /// To the one who asked for it.
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
    /// To the one who asked: it was not done, and nothing has changed.
    Refused {
        /// The number of the change, if it had one.
        op: Option<u64>,
        /// What was wrong.
        reason: String,
    },
    /// To the one who asked: this change is on disk, and everybody has been told.
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
