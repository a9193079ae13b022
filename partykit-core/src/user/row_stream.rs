use std::{collections::VecDeque, fmt, ops::Bound, pin::Pin, task};

use bytes::Bytes;
use futures_core::stream::{BoxStream, Stream};
use futures_util::{StreamExt, stream};

use super::room::Room;
use crate::{KeyRange, List, StorageError, storage::row::named};

/// How many bytes of rows are loaded at once. A single row may be larger.
const BYTES: usize = 1 << 20;
/// How many rows are loaded at once at most.
const ROWS: usize = 256;
/// How many rows are loaded first, while their size is still unknown.
const FIRST_ROWS: usize = 8;

/// Rows that are loaded while they are read, from [`Storage::stream`](crate::Storage::stream). It is also a
/// [`Stream`].
///
/// ```
/// use partykit_core::{List, Result, Room};
///
/// async fn longest(room: &Room) -> Result<Option<String>> {
///     let mut longest = (None, 0);
///     let mut rows = room.storage().stream_bytes(List::new());
///     while let Some((key, value)) = rows.next().await? {
///         if value.len() >= longest.1 {
///             longest = (Some(key), value.len());
///         }
///     }
///     Ok(longest.0)
/// }
/// # let _ = longest;
/// ```
#[must_use = "nothing is loaded before it is asked for"]
pub struct RowStream<'a, T> {
    rows: BoxStream<'a, Result<(String, T), StorageError>>,
}

impl<'a, T: 'a> RowStream<'a, T> {
    pub(crate) fn new(
        room: &'a Room,
        list: List,
        value: impl Fn(&str, Bytes) -> Result<T, StorageError> + Copy + Send + 'a,
    ) -> Self {
        let pages = stream::unfold(Some(Pages::new(room, list)), |pages| async {
            let mut pages: Pages<'_> = pages?;
            match pages.next().await {
                Ok(row) => Some((Ok(row?), Some(pages))),
                Err(error) => Some((Err(error), None)),
            }
        });
        let rows = pages.map(move |row| {
            let (key, bytes) = named(row?)?;
            let value = value(&key, bytes)?;
            Ok((key, value))
        });
        // Fused, so that a call after the end returns the end again.
        Self { rows: Box::pin(rows.fuse()) }
    }

    /// The next row. `None` after the last one.
    ///
    /// # Errors
    ///
    /// When a bound of the list is too long, a value is not of this shape, or the store fails.
    pub async fn next(&mut self) -> Result<Option<(String, T)>, StorageError> {
        StreamExt::next(&mut self.rows).await.transpose()
    }
}

impl<T> Stream for RowStream<'_, T> {
    type Item = Result<(String, T), StorageError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<Option<Self::Item>> {
        self.rows.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for RowStream<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").finish_non_exhaustive()
    }
}

/// Loads one page after the other.
struct Pages<'a> {
    room: &'a Room,
    list: List,
    /// The range that is left to load. `None` before the first page.
    range: Option<KeyRange>,
    left: usize,
    /// How many rows to load next.
    rows: usize,
    loaded: VecDeque<(Bytes, Bytes)>,
    is_last: bool,
}

impl<'a> Pages<'a> {
    fn new(room: &'a Room, list: List) -> Self {
        let left = list.most();
        let loaded = VecDeque::new();
        Self { room, list, range: None, left, rows: FIRST_ROWS, loaded, is_last: false }
    }

    async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, StorageError> {
        if self.loaded.is_empty() && !self.is_last && self.left > 0 {
            self.load().await?;
        }
        Ok(self.loaded.pop_front())
    }

    async fn load(&mut self) -> Result<(), StorageError> {
        let mut range = match self.range.take() {
            Some(range) => range,
            None => self.list.range()?,
        };
        let (reverse, ask) = (self.list.is_reverse(), self.left.min(self.rows));
        let cell = self.room.cell();
        let diff = self.room.inside(|turn| turn.diff(&range));
        let rows =
            diff.scan(&**cell.host().backend(), cell.address(), &range, reverse, ask).await?;
        self.is_last = rows.len() < ask;
        self.left -= rows.len();
        if let Some((last, _)) = rows.last() {
            let end = if reverse { &mut range.1 } else { &mut range.0 };
            *end = Bound::Excluded(last.clone());
            let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
            let mean = (bytes / rows.len()).max(1);
            self.rows = (BYTES / mean).clamp(1, ROWS);
        }
        self.range = Some(range);
        self.loaded = rows.into();
        Ok(())
    }
}
