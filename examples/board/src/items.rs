use partykit::{List, Room, Storage, storage::StorageError};
use serde::{Deserialize, Serialize};

use crate::{Change, Color, Column, Event, Item, ItemId, Place, Text};

/// The most items of a board.
pub const MAX_ITEMS: u64 = 10_000;
/// The most items of a page.
pub const MAX_PAGE: usize = 100;

/// The items of a board, as they are stored: a row `item:<id>` for each, and their number in a row
/// `count`. A row is read only when it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a>(Storage<'a>);

impl<'a> Items<'a> {
    /// The items of a room.
    pub fn of(room: &'a Room) -> Self {
        Self(room.storage())
    }

    /// The newest items, or the newest items older than `before`. At most [`MAX_PAGE`].
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn page(
        &self,
        before: Option<&ItemId>,
        limit: Option<usize>,
    ) -> Result<Page, StorageError> {
        let limit = limit.unwrap_or(30).clamp(1, MAX_PAGE);
        // One more row than needed, to know whether there are more.
        let mut list = List::new().prefix("item:").reverse().limit(limit + 1);
        if let Some(before) = before {
            list = list.end(key(before));
        }
        let rows = self.0.list::<Item>(list).await?;
        let more = rows.len() > limit;
        let items = rows.into_iter().take(limit).map(|(_, item)| item).collect();
        Ok(Page { items, more, total: self.count().await? })
    }

    /// One item.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn find(&self, id: &ItemId) -> Result<Option<Item>, StorageError> {
        self.0.get(&key(id)).await
    }

    /// Makes a change, and returns the event for all clients. A client may ask for the same change again: it
    /// is then made only once.
    ///
    /// # Errors
    ///
    /// The outer one when the store fails; the inner one when this change is not possible. Nothing is
    /// written then.
    pub async fn apply(&self, change: Change) -> Result<Result<Event, Refused>, StorageError> {
        match change {
            Change::Create { item } => self.create(item).await,
            Change::Update { id, changes } => self.update(&id, changes).await,
            Change::Delete { id } => self.delete(id).await.map(Ok),
        }
    }

    async fn create(&self, item: Item) -> Result<Result<Event, Refused>, StorageError> {
        let total = self.count().await?;
        if let Some(item) = self.find(&item.id).await? {
            return Ok(Ok(Event::Item { item, total }));
        }
        if total >= MAX_ITEMS {
            return Ok(Err(Refused::Full));
        }
        // Two rows in one transaction: both are stored, or none.
        self.0.put(&key(&item.id), &item)?;
        self.0.put("count", &(total + 1))?;
        Ok(Ok(Event::Item { item, total: total + 1 }))
    }

    async fn update(
        &self,
        id: &ItemId,
        changes: Changes,
    ) -> Result<Result<Event, Refused>, StorageError> {
        let Some(item) = self.find(id).await? else {
            return Ok(Err(Refused::NotFound));
        };
        let item = changes.of(item);
        self.0.put(&key(id), &item)?;
        Ok(Ok(Event::Item { item, total: self.count().await? }))
    }

    async fn delete(&self, id: ItemId) -> Result<Event, StorageError> {
        let mut total = self.count().await?;
        if self.find(&id).await?.is_some() {
            total = total.saturating_sub(1);
            self.0.delete(&key(&id))?;
            self.0.put("count", &total)?;
        }
        Ok(Event::Deleted { id, total })
    }

    async fn count(&self) -> Result<u64, StorageError> {
        Ok(self.0.get("count").await?.unwrap_or(0))
    }
}

fn key(id: &ItemId) -> String {
    format!("item:{}", id.as_str())
}

/// Some of the items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The items, the newest first.
    pub items: Vec<Item>,
    /// Whether there are older ones.
    pub more: bool,
    /// How many items the board has.
    pub total: u64,
}

/// What is to be different about an item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "they are the fields of Item")]
pub struct Changes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Changes {
    fn of(self, item: Item) -> Item {
        Item {
            id: item.id,
            text: self.text.unwrap_or(item.text),
            column: self.column.unwrap_or(item.column),
            color: self.color.unwrap_or(item.color),
            place: self.place.unwrap_or(item.place),
        }
    }
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The board has as many items as it may have.
    #[error("a board has at most {MAX_ITEMS} items")]
    Full,
    /// There is no such item: it was deleted.
    #[error("there is no such item")]
    NotFound,
}
