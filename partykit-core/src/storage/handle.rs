use std::{future::poll_fn, ops::Bound, task::Poll};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    backend::{Backend, BackendError, KeyRange},
    layers::Diff,
};
use crate::{Room, RoomAddress, limits};

/// What a room stores: rows of a key and a value, in key order.
///
/// Every method sees what the handler has written so far. Writes are synchronous: they go into the
/// handler's transaction, which is committed when the handler succeeds and forgotten when it fails.
/// Only reads and [`sync`](Storage::sync) wait.
///
/// Keys are text of 1 to 2,048 bytes; a key and its value have at most 2,000,000 bytes together; a call
/// takes at most 128 keys; a handler writes at most 32 MiB. Values are JSON, or bytes with the
/// `_bytes` methods.
///
/// ```
/// use partykit_core::{Connection, List, Message, Result, Room, Server};
///
/// struct Board;
///
/// impl Server for Board {
///     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
///         let storage = room.storage();
///         let next: u32 = storage.get("next").await?.unwrap_or(0);
///         storage.put(&format!("item:{next:08}"), &message.as_text())?;
///         storage.put("next", &(next + 1))?;
///         let latest = storage.list::<String>(List::new().prefix("item:").reverse().limit(10)).await?;
///         sender.send(Message::from_json(&latest)?);
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Storage<'a> {
    room: &'a Room,
}

impl<'a> Storage<'a> {
    pub(crate) fn new(room: &'a Room) -> Self {
        Self { room }
    }

    /// The value of a key, or `None`.
    ///
    /// # Errors
    ///
    /// When the key is not one, the value is not of this shape, or the store fails.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StorageError> {
        self.get_bytes(key).await?.map(|value| from_json(key, &value)).transpose()
    }

    /// The value of a key as bytes, or `None`.
    ///
    /// # Errors
    ///
    /// When the key is not one, or the store fails.
    pub async fn get_bytes(&self, key: &str) -> Result<Option<Bytes>, StorageError> {
        Ok(self.get_many_bytes(&[key]).await?.pop().flatten())
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    ///
    /// As for [`get`](Storage::get), and when there are more than 128 keys.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: &[&str],
    ) -> Result<Vec<Option<T>>, StorageError> {
        let values = self.get_many_bytes(keys).await?;
        let typed = keys.iter().zip(values);
        typed.map(|(key, value)| value.map(|value| from_json(key, &value)).transpose()).collect()
    }

    /// The values of several keys as bytes, in their order.
    ///
    /// # Errors
    ///
    /// As for [`get_bytes`](Storage::get_bytes), and when there are more than 128 keys.
    pub async fn get_many_bytes(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, StorageError> {
        check_count(keys.len())?;
        let rows = keys.iter().map(|key| row_key(key)).collect::<Result<Vec<_>, _>>()?;
        let cell = self.room.cell();
        let mut values: Vec<Option<Option<Bytes>>> =
            cell.machine(|machine| rows.iter().map(|key| machine.lookup(key)).collect());
        let unknown = || values.iter().zip(&rows).filter(|(value, _)| value.is_none());
        let ask: Vec<Bytes> = unknown().map(|(_, key)| key.clone()).collect();
        if !ask.is_empty() {
            let mut found = cell.host().backend().read(cell.address(), &ask).await?.into_iter();
            for value in values.iter_mut().filter(|value| value.is_none()) {
                *value = found.next();
            }
        }
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    ///
    /// When key or value are over the limits, the value has no JSON form, or the handler has written
    /// too much. Nothing is written then.
    pub fn put<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), StorageError> {
        self.put_bytes(key, to_json(key, value)?)
    }

    /// Sets the value of a key, as bytes.
    ///
    /// # Errors
    ///
    /// When key or value are over the limits, or the handler has written too much. Nothing is written
    /// then.
    pub fn put_bytes(&self, key: &str, value: impl Into<Bytes>) -> Result<(), StorageError> {
        self.put_many_bytes([(key, value.into())])
    }

    /// Sets the values of several keys.
    ///
    /// # Errors
    ///
    /// As for [`put`](Storage::put), and when there are more than 128 keys. Nothing is written then.
    pub fn put_many<K: AsRef<str>, T: Serialize>(
        &self,
        rows: impl IntoIterator<Item = (K, T)>,
    ) -> Result<(), StorageError> {
        let rows = rows.into_iter().map(|(key, value)| {
            let value = to_json(key.as_ref(), &value)?;
            Ok((key, value))
        });
        self.put_many_bytes(rows.collect::<Result<Vec<(K, Bytes)>, StorageError>>()?)
    }

    /// Sets the values of several keys, as bytes.
    ///
    /// # Errors
    ///
    /// As for [`put_bytes`](Storage::put_bytes), and when there are more than 128 keys. Nothing is
    /// written then.
    pub fn put_many_bytes<K: AsRef<str>>(
        &self,
        rows: impl IntoIterator<Item = (K, Bytes)>,
    ) -> Result<(), StorageError> {
        let rows = rows.into_iter().map(|(key, value)| {
            let size = key.as_ref().len() + value.len();
            if size > limits::ROW {
                return Err(StorageError::RowTooLarge { key: shown(key.as_ref()), size });
            }
            Ok((row_key(key.as_ref())?, Some(value)))
        });
        self.write(rows.collect::<Result<_, StorageError>>()?)
    }

    /// Deletes a key. It is no error if it is not there.
    ///
    /// # Errors
    ///
    /// When the key is not one, or the handler has written too much.
    pub fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.delete_many([key])
    }

    /// Deletes several keys.
    ///
    /// # Errors
    ///
    /// As for [`delete`](Storage::delete), and when there are more than 128 keys. Nothing is deleted
    /// then.
    pub fn delete_many<K: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), StorageError> {
        let rows = keys.into_iter().map(|key| Ok((row_key(key.as_ref())?, None)));
        self.write(rows.collect::<Result<_, StorageError>>()?)
    }

    /// Deletes all that the room stores.
    pub fn delete_all(&self) {
        self.room.cell().machine(|machine| machine.clear());
    }

    /// Rows in key order, as [`List`] says.
    ///
    /// # Errors
    ///
    /// When a bound is too long, a value is not of this shape, or the store fails.
    pub async fn list<T: DeserializeOwned>(
        &self,
        list: List,
    ) -> Result<Vec<(String, T)>, StorageError> {
        let rows = self.list_bytes(list).await?;
        rows.into_iter()
            .map(|(key, value)| {
                let value = from_json(&key, &value)?;
                Ok((key, value))
            })
            .collect()
    }

    /// Rows in key order, as [`List`] says, with bytes as values.
    ///
    /// # Errors
    ///
    /// When a bound is too long, or the store fails.
    pub async fn list_bytes(&self, list: List) -> Result<Vec<(String, Bytes)>, StorageError> {
        let range = list.range()?;
        let cell = self.room.cell();
        let diff = cell.machine(|machine| machine.diff(&range));
        list.read(diff, &**cell.host().backend(), cell.address()).await
    }

    /// Commits what the handler has written so far, and waits until it is durable. What was said so far
    /// leaves, too. A failure of the handler later on does not undo it.
    ///
    /// For a handler that goes on for long after a write, or calls another room.
    ///
    /// # Errors
    ///
    /// Inside of a [`transaction`](Storage::transaction). When the commit fails the handler does not
    /// come back from here: it is cancelled, as every handler then is.
    pub async fn sync(&self) -> Result<(), StorageError> {
        let number = self.room.cell().machine(|machine| machine.sync())?;
        durable(self.room, number).await;
        Ok(())
    }

    /// Does something that may fail: on `Err`, everything that was written in it, and what was said
    /// after such a write, is as if it had not been; the handler goes on.
    ///
    /// Transactions may nest, but not overlap: await one before the next begins.
    ///
    /// ```
    /// use partykit_core::{BoxError, Connection, Message, Result, Room, Server};
    ///
    /// struct Shop;
    ///
    /// impl Server for Shop {
    ///     async fn on_message(&mut self, room: &Room, buyer: &Connection, _: Message) -> Result {
    ///         let sold = room.storage().transaction(async |storage| {
    ///             storage.put("sold to", buyer.id())?;
    ///             let left = storage.get::<u32>("left").await?.unwrap_or(0).checked_sub(1);
    ///             storage.put("left", &left.ok_or("nothing is left")?)?;
    ///             Ok::<_, BoxError>(())
    ///         });
    ///         buyer.send(if sold.await.is_ok() { "thank you" } else { "sorry" });
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub async fn transaction<T, E, F: Future<Output = Result<T, E>>>(
        self,
        work: impl FnOnce(Self) -> F,
    ) -> Result<T, E> {
        let mut transaction = Transaction::begin(self.room);
        let result = work(self).await;
        transaction.keep = result.is_ok();
        result
    }

    fn write(&self, rows: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StorageError> {
        check_count(rows.len())?;
        self.room.cell().machine(|machine| machine.write(rows))
    }
}

/// Which rows [`Storage::list`] gives, and in which order: all of them in key order, unless said.
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

    /// The last key first. The bounds stay the same: `start` is the least key, `end` is above the
    /// greatest.
    pub fn reverse(self) -> Self {
        Self { reverse: true, ..self }
    }

    /// At most so many rows.
    pub fn limit(self, rows: usize) -> Self {
        Self { limit: Some(rows), ..self }
    }

    /// The rows of a store that nothing is pending over.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn stored(
        &self,
        backend: &dyn Backend,
        room: &RoomAddress,
    ) -> Result<Vec<(String, Bytes)>, StorageError> {
        self.read(Diff::over(&[], &self.range()?), backend, room).await
    }

    async fn read(
        &self,
        diff: Diff,
        backend: &dyn Backend,
        room: &RoomAddress,
    ) -> Result<Vec<(String, Bytes)>, StorageError> {
        let (range, limit) = (self.range()?, self.limit.unwrap_or(usize::MAX));
        let rows = diff.scan(backend, room, &range, self.reverse, limit).await?;
        let named = rows.into_iter().map(|(key, value)| {
            let key = std::str::from_utf8(&key[1..]).map(ToOwned::to_owned);
            key.map(|key| (key, value)).map_err(|error| BackendError::Failed(error.into()))
        });
        Ok(named.collect::<Result<_, _>>()?)
    }

    /// The rows' keys: the bounds, narrowed to the prefix.
    fn range(&self) -> Result<KeyRange, StorageError> {
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

/// Why a call to [`Storage`] failed.
///
/// ```
/// use partykit_core::{Room, StorageError};
///
/// fn save(room: &Room, document: &str) -> Result<bool, StorageError> {
///     match room.storage().put("document", document) {
///         Err(StorageError::RowTooLarge { .. }) => Ok(false),
///         result => result.map(|()| true),
///     }
/// }
/// # let _ = save;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The store failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// One handler may not write this many bytes.
    #[error("a handler writes at most {max} bytes, not {0}", max = limits::BATCH)]
    BatchTooLarge(usize),
    /// A key has this many bytes.
    #[error("a key has 1 to {max} bytes, not {0}", max = limits::KEY)]
    InvalidKey(usize),
    /// A value has no JSON form, or not the one that was asked for.
    #[error("the value of {key:?}: {source}")]
    Json {
        /// The key, cut short if it is long.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A key and its value are too large together.
    #[error("the key {key:?} and its value have {size} bytes, at most {max} fit", max = limits::ROW)]
    RowTooLarge {
        /// The key, cut short if it is long.
        key: String,
        /// The bytes of both.
        size: usize,
    },
    /// [`Storage::sync`] inside of a transaction, which may still be undone.
    #[error("sync inside of a transaction")]
    SyncInTransaction,
    /// One call may not name this many keys.
    #[error("a call takes at most {max} keys, not {0}", max = limits::KEYS)]
    TooManyKeys(usize),
}

/// Waits until the write of this number is durable. If it never will be, the handler is cancelled.
pub(crate) async fn durable(room: &Room, number: u64) {
    poll_fn(|cx| {
        let cell = room.cell();
        cell.watch(cx.waker());
        if cell.machine(|machine| machine.is_durable(number)) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Undoes what was written since, unless it is told to keep it; also when it is dropped half-way.
struct Transaction<'a> {
    room: &'a Room,
    keep: bool,
}

impl<'a> Transaction<'a> {
    fn begin(room: &'a Room) -> Self {
        room.cell().machine(|machine| machine.begin_transaction());
        Self { room, keep: false }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.room.cell().machine(|machine| machine.end_transaction(self.keep));
    }
}

/// Users' keys have this first byte; the framework's own rows have a smaller one.
const USER: u8 = 1;

fn row_key(key: &str) -> Result<Bytes, StorageError> {
    if key.is_empty() { Err(StorageError::InvalidKey(0)) } else { bound(key) }
}

/// The row key of a bound, which may be empty.
fn bound(key: &str) -> Result<Bytes, StorageError> {
    if key.len() > limits::KEY {
        return Err(StorageError::InvalidKey(key.len()));
    }
    Ok([&[USER], key.as_bytes()].concat().into())
}

/// The least key above all keys that begin with `prefix`. There is one: the prefix begins with [`USER`].
fn successor(prefix: &[u8]) -> Bytes {
    let mut next = prefix.to_vec();
    while next.last() == Some(&u8::MAX) {
        next.pop();
    }
    if let Some(last) = next.last_mut() {
        *last += 1;
    }
    next.into()
}

fn check_count(keys: usize) -> Result<(), StorageError> {
    if keys > limits::KEYS { Err(StorageError::TooManyKeys(keys)) } else { Ok(()) }
}

fn to_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Bytes, StorageError> {
    let json =
        serde_json::to_vec(value).map_err(|source| StorageError::Json { key: shown(key), source });
    json.map(Bytes::from)
}

fn from_json<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StorageError> {
    serde_json::from_slice(value).map_err(|source| StorageError::Json { key: shown(key), source })
}

/// The beginning of a key, for an error.
fn shown(key: &str) -> String {
    key.chars().take(64).collect()
}
