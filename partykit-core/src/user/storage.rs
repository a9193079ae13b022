use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{room::Room, row_stream::RowStream};
use crate::{
    List, StorageError, Timestamp,
    engine::scope,
    machine::TransactionId,
    storage::{
        AlarmRow, Lookup,
        row::{check_count, from_json, row_key, shown, to_json},
    },
    value::limits,
};

/// A room's storage: rows with a key and a value, in key order.
///
/// Every method sees what the handler has written before. Writes are synchronous: they go into the handler's
/// transaction, which is committed when the handler succeeds and dropped when it fails. Only reads and
/// [`sync`](Storage::sync) are async.
///
/// A key is text of 1 to 2,048 bytes. A key and its value have at most 2,000,000 bytes together. A call takes
/// at most 128 keys. A handler writes at most 32 MiB. Values are JSON, or bytes with the `_bytes` methods.
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
///         sender.send_json(&latest)?;
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Storage<'a> {
    pub(super) room: &'a Room,
}

impl<'a> Storage<'a> {
    pub(crate) fn new(room: &'a Room) -> Self {
        Self { room }
    }

    /// The value of a key. `None` if there is no such key.
    ///
    /// # Errors
    ///
    /// When the key is not valid, the value is not of this shape, or the store fails.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StorageError> {
        self.get_bytes(key).await?.map(|value| from_json(key, &value)).transpose()
    }

    /// The value of a key as bytes. `None` if there is no such key.
    ///
    /// # Errors
    ///
    /// When the key is not valid, or the store fails.
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
        loop {
            let syncs = self.syncs();
            let values = self.read(&rows).await?;
            if self.syncs() == syncs {
                return Ok(values);
            }
        }
    }

    pub(super) async fn read(&self, rows: &[Bytes]) -> Result<Vec<Option<Bytes>>, StorageError> {
        let cell = self.room.cell();
        let values: Vec<Lookup> =
            self.room.inside(|turn| rows.iter().map(|key| turn.lookup(key)).collect());
        let unknown = values.iter().zip(rows).filter(|(value, _)| !value.is_known());
        let ask: Vec<Bytes> = unknown.map(|(_, key)| key.clone()).collect();
        let found = match ask.is_empty() {
            true => Vec::new(),
            false => cell.host().backend().read(cell.address(), &ask).await?,
        };
        let mut found = found.into_iter();
        Ok(values.into_iter().map(|value| value.or_ask(|| found.next().flatten())).collect())
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
            let key = key.as_ref();
            checked(key, value)
        });
        self.write(rows.collect::<Result<_, StorageError>>()?)
    }

    /// Deletes a key. Does nothing if there is no such key.
    ///
    /// # Errors
    ///
    /// When the key is not valid, or the handler has written too much.
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

    /// Deletes everything that the room stores, including its alarm and its schedules.
    pub fn delete_all(&self) {
        self.room.inside(|turn| turn.clear());
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
        loop {
            let syncs = self.syncs();
            let diff = self.room.inside(|turn| turn.diff(&range));
            let rows = list.read(diff, &**cell.host().backend(), cell.address()).await?;
            if self.syncs() == syncs {
                return Ok(rows);
            }
        }
    }

    /// Rows in key order, as [`List`] says, loaded while they are read. This is for ranges that are too large
    /// for [`list`](Storage::list). About 1 MiB is in memory at a time, or one row if it is larger.
    ///
    /// It sees later writes to keys that are not loaded yet.
    ///
    /// ```
    /// use partykit_core::{Body, List, Request, Response, Result, Room, Server};
    ///
    /// struct Ledger;
    ///
    /// impl Server for Ledger {
    ///     async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
    ///         let mut sum = 0;
    ///         let mut rows = room.storage().stream::<i64>(List::new().prefix("entry:"));
    ///         while let Some((_, amount)) = rows.next().await? {
    ///             sum += amount;
    ///         }
    ///         Ok(Response::new(Body::from(sum.to_string())))
    ///     }
    /// }
    /// ```
    pub fn stream<T: DeserializeOwned + 'a>(&self, list: List) -> RowStream<'a, T> {
        RowStream::new(self.room, list, |key, value| from_json(key, &value))
    }

    /// Like [`stream`](Storage::stream), with bytes as values.
    pub fn stream_bytes(&self, list: List) -> RowStream<'a, Bytes> {
        RowStream::new(self.room, list, |_, value| Ok(value))
    }

    /// Sets or replaces the room's alarm: [`on_alarm`](crate::Server::on_alarm) runs at this moment, or as
    /// soon as possible after it. A room has one alarm. A moment in the past means now.
    ///
    /// This is a write like any other: it is committed with the handler, and dropped if the handler fails.
    ///
    /// # Errors
    ///
    /// When the moment is later than JavaScript's last one, in the year 275,760.
    pub fn set_alarm(&self, at: impl Into<Timestamp>) -> Result<(), StorageError> {
        let at = at.into();
        if at.as_millis() > limits::ALARM {
            return Err(StorageError::AlarmTooLate(at));
        }
        self.room.inside(|turn| turn.write_alarm(Some(AlarmRow::new(at))));
        Ok(())
    }

    /// Like [`set_alarm`](Storage::set_alarm), for a moment this long from now.
    ///
    /// ```
    /// use std::time::Duration;
    /// use partykit_core::{Room, StorageError};
    ///
    /// fn close_later(room: &Room) -> Result<(), StorageError> {
    ///     room.storage().set_alarm_in(Duration::from_secs(60))
    /// }
    /// # let _ = close_later;
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`set_alarm`](Storage::set_alarm).
    pub fn set_alarm_in(&self, time: Duration) -> Result<(), StorageError> {
        self.set_alarm(self.room.now() + time)
    }

    /// When the room's alarm rings next. `None` if there is no alarm: also while `on_alarm` runs, unless it
    /// has set one.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn alarm(&self) -> Result<Option<Timestamp>, StorageError> {
        Ok(self.alarm_row().await?.map(|row| row.rings()))
    }

    /// Deletes the room's alarm. Without an alarm this does nothing.
    pub fn delete_alarm(&self) {
        self.room.inside(|turn| turn.write_alarm(None));
    }

    /// Commits what the handler has written so far, and waits until it is durable. What the handler has sent
    /// so far leaves too. A later failure of the handler does not undo this.
    ///
    /// Use it in a handler that goes on for a long time after a write, or that calls another room.
    ///
    /// # Errors
    ///
    /// When it is called inside of a [`transaction`](Storage::transaction). If the commit fails, this does
    /// not return: the handler is cancelled.
    pub async fn sync(&self) -> Result<(), StorageError> {
        let cell = self.room.cell();
        let number = poll_fn(|cx| {
            cell.watch(cx.waker());
            match self.room.inside(|turn| turn.sync()) {
                Ok(None) => Poll::Pending,
                Ok(Some(number)) => Poll::Ready(Ok(number)),
                Err(error) => Poll::Ready(Err(error)),
            }
        });
        durable(self.room, number.await?).await;
        Ok(())
    }

    /// Runs code that may fail. If it returns an `Err`, its writes are undone, and what it sent after a write
    /// is dropped. The handler goes on.
    ///
    /// Transactions may nest. Code belongs to the transaction inside of which it is polled, no matter which
    /// `Storage` it uses. A transaction that is begun beside another one, for example with `join!`, waits
    /// until the other one has ended. Other code of the handler is not undone. Dropping the future undoes the
    /// transaction. A transaction costs as much as what it writes.
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
    /// The error of `work`.
    pub async fn transaction<T, E, F: Future<Output = Result<T, E>>>(
        self,
        work: impl FnOnce(Self) -> F,
    ) -> Result<T, E> {
        let mut transaction = Transaction::begin(self.room).await;
        let result = transaction.run(|| work(self)).await;
        transaction.keep = result.is_ok();
        result
    }

    /// How often the handler has synced. If this changes during a read, because other code of the handler has
    /// synced meanwhile, the read may have mixed two states. It is then done again.
    pub(super) fn syncs(&self) -> u64 {
        self.room.inside(|turn| turn.syncs())
    }

    pub(crate) async fn alarm_row(&self) -> Result<Option<AlarmRow>, StorageError> {
        let cell = self.room.cell();
        let row = match self.room.inside(|turn| turn.lookup_alarm()) {
            Lookup::Ask => {
                let found = cell.host().backend().read(cell.address(), &[AlarmRow::KEY]).await?;
                found.into_iter().next().flatten()
            }
            known => known.value(),
        };
        Ok(row.map(|row| AlarmRow::decode(&row)).transpose()?)
    }

    pub(super) fn write(&self, rows: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StorageError> {
        check_count(rows.len())?;
        self.room.inside(|turn| turn.write(rows))
    }
}

/// The row for a user's key and value. Fails if they are too large.
pub(super) fn checked(key: &str, value: Bytes) -> Result<(Bytes, Option<Bytes>), StorageError> {
    let size = key.len() + value.len();
    if size > limits::ROW {
        return Err(StorageError::RowTooLarge { key: shown(key), size });
    }
    Ok((row_key(key)?, Some(value)))
}

/// Waits until the write with this number is durable. If the commit fails, the handler is cancelled.
pub(crate) async fn durable(room: &Room, number: u64) {
    poll_fn(|cx| {
        let cell = room.cell();
        cell.watch(cx.waker());
        if room.inside(|turn| turn.is_durable(number)) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// An open transaction. It is undone when it is dropped, unless it was kept.
struct Transaction<'a> {
    room: &'a Room,
    id: TransactionId,
    keep: bool,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction, after waiting for those that are open beside it.
    async fn begin(room: &'a Room) -> Self {
        let id = poll_fn(|cx| {
            let begun = room.inside(|turn| turn.begin_transaction());
            if begun.is_none() {
                room.cell().watch(cx.waker());
            }
            begun.map_or(Poll::Pending, Poll::Ready)
        });
        Self { room, id: id.await, keep: false }
    }

    /// Runs and drops the work as a part of the transaction.
    async fn run<F: Future>(&self, work: impl FnOnce() -> F) -> F::Output {
        let mut part = Part { of: self, future: None };
        part.future = Some(part.enter(|| Box::pin(work())));
        poll_fn(|cx| {
            let Some(future) = &mut part.future else { return Poll::Pending };
            scope::enter_transaction(&**self.room.cell(), self.id, || future.as_mut().poll(cx))
        })
        .await
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let now = self.room.cell().host().elapsed();
        self.room.inside(|turn| turn.end_transaction(now, self.id, self.keep));
        // Other code that waits to begin a transaction may go on.
        self.room.cell().notify();
    }
}

/// The code of a transaction.
struct Part<'t, 'a, F> {
    of: &'t Transaction<'a>,
    future: Option<Pin<Box<F>>>,
}

impl<F> Part<'_, '_, F> {
    fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        scope::enter_transaction(&**self.of.room.cell(), self.of.id, f)
    }
}

impl<F> Drop for Part<'_, '_, F> {
    fn drop(&mut self) {
        let future = self.future.take();
        self.enter(|| drop(future));
    }
}
