use std::ops::Bound;

use bytes::Bytes;

use super::{
    Diff, StorageError,
    backend::{Backend, KeyRange},
    row::{bound, named, successor},
};
use crate::RoomAddress;

/// Which rows [`Storage::list`](crate::Storage::list) returns, and in which order. Default: all rows, in key
/// order.
///
/// ```
/// use partykit_core::List;
///
/// let page = List::new().prefix("item:").start_after("item:0041").limit(20);
/// let newest = List::new().prefix("item:").reverse().limit(1);
/// # let _ = (page, newest);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct List {
    prefix: String,
    start: Option<Bound<String>>,
    end: Option<String>,
    reverse: bool,
    limit: Option<usize>,
}

impl List {
    /// All rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only keys that begin with this.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Only this key and those after it.
    pub fn start(self, key: impl Into<String>) -> Self {
        Self { start: Some(Bound::Included(key.into())), ..self }
    }

    /// Only keys after this one.
    pub fn start_after(self, key: impl Into<String>) -> Self {
        Self { start: Some(Bound::Excluded(key.into())), ..self }
    }

    /// Only keys before this one.
    pub fn end(self, key: impl Into<String>) -> Self {
        Self { end: Some(key.into()), ..self }
    }

    /// The last key first. The bounds keep their meaning: `start` is the smallest key, `end` is above the
    /// greatest.
    pub fn reverse(self) -> Self {
        Self { reverse: true, ..self }
    }

    /// At most this many rows.
    pub fn limit(self, rows: usize) -> Self {
        Self { limit: Some(rows), ..self }
    }

    /// The rows of a store without pending writes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn stored(
        &self,
        backend: &dyn Backend,
        room: &RoomAddress,
    ) -> Result<Vec<(String, Bytes)>, StorageError> {
        self.read(Diff::over(&[], &self.range()?), backend, room).await
    }

    /// The rows as they will be when the pending writes are stored.
    pub(crate) async fn read(
        &self,
        diff: Diff,
        backend: &dyn Backend,
        room: &RoomAddress,
    ) -> Result<Vec<(String, Bytes)>, StorageError> {
        let rows = diff.scan(backend, room, &self.range()?, self.is_reverse(), self.most()).await?;
        rows.into_iter().map(named).collect()
    }

    pub(crate) fn is_reverse(&self) -> bool {
        self.reverse
    }

    /// How many rows at most.
    pub(crate) fn most(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }

    /// The rows' keys: the bounds, narrowed to the prefix.
    pub(crate) fn range(&self) -> Result<KeyRange, StorageError> {
        let start = match &self.start {
            Some(Bound::Included(key)) => Bound::Included(bound(key)?),
            Some(Bound::Excluded(key)) => Bound::Excluded(bound(key)?),
            _ => Bound::Included(bound("")?),
        };
        let prefix = bound(&self.prefix)?;
        let above_prefix = successor(&prefix);
        let start = match start {
            Bound::Included(key) | Bound::Excluded(key) if key < prefix => Bound::Included(prefix),
            start => start,
        };
        let end = match &self.end {
            Some(key) => bound(key)?.min(above_prefix),
            None => above_prefix,
        };
        Ok((start, Bound::Excluded(end)))
    }
}
