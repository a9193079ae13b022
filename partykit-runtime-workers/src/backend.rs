use std::{cell::Cell, ops::Bound, panic::AssertUnwindSafe};

use async_trait::async_trait;
use bytes::Bytes;
use js_sys::{Array, Uint8Array};
use partykit_core::{
    Backend, BackendError, Batch, Claim, Epoch, KeyRange, RoomAddress, RoomId, Timestamp, WakeUp,
};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    convert::thrown,
    js::{Sql, Storage},
    settled::Settled,
};

/// Stores a room in the SQLite database of its object. It has one table, which is made at the first write.
///
/// The platform's calls are synchronous. It holds back everything that leaves the object until the writes
/// before are on disk. A batch is one transaction of rows and alarm.
pub(crate) struct ObjectBackend {
    storage: SendWrapper<Storage>,
    address: RoomAddress,
    /// The current claim. 0 if there is none.
    epoch: SendWrapper<Cell<u64>>,
    has_table: SendWrapper<Cell<bool>>,
}

const HAS_TABLE: &str = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'partykit'";
const CREATE: &str =
    "CREATE TABLE IF NOT EXISTS partykit (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID";

impl ObjectBackend {
    pub(crate) fn new(storage: Storage, address: RoomAddress) -> Self {
        Self {
            storage: SendWrapper::new(storage),
            address,
            epoch: SendWrapper::new(Cell::new(0)),
            has_table: SendWrapper::new(Cell::new(false)),
        }
    }

    fn sql(&self) -> Result<Sql, BackendError> {
        self.storage.sql().map_err(failed)
    }

    /// Whether anything was ever written.
    fn has_table(&self) -> Result<bool, BackendError> {
        if !self.has_table.get() {
            let found = self.sql()?.rows(HAS_TABLE, &Array::new()).map_err(failed)?;
            self.has_table.set(found.length() > 0);
        }
        Ok(self.has_table.get())
    }

    fn apply(&self, batch: &Batch) -> Result<(), JsValue> {
        let sql = self.storage.sql()?;
        sql.exec(CREATE, &Array::new())?;
        if batch.clear {
            sql.exec("DELETE FROM partykit", &Array::new())?;
        }
        for (key, value) in &batch.writes {
            let key = blob(key);
            match value {
                Some(value) => sql.exec(
                    "INSERT OR REPLACE INTO partykit (k, v) VALUES (?, ?)",
                    &Array::of2(&key, &blob(value)),
                )?,
                None => sql.exec("DELETE FROM partykit WHERE k = ?", &Array::of1(&key))?,
            };
        }
        // The promises of these calls need not be awaited: if one fails, the whole transaction fails.
        match batch.wake_up {
            Some(WakeUp::At(at)) => drop(self.storage.set_alarm(millis(at))?),
            Some(WakeUp::Never) => drop(self.storage.delete_alarm()?),
            None if batch.clear => drop(self.storage.delete_alarm()?),
            None => {}
        }
        Ok(())
    }

    /// When the platform will wake the room.
    pub(crate) async fn alarm(&self) -> Result<Option<Timestamp>, BackendError> {
        let promise = self.storage.alarm().map_err(failed)?;
        let at = SendWrapper::new(Settled::of(&promise)).await.map_err(failed)?;
        Ok(at.as_f64().map(|at| Timestamp::from_millis(at as u64)))
    }
}

#[async_trait]
impl Backend for ObjectBackend {
    async fn claim(&self, _: &RoomAddress) -> Result<Claim, BackendError> {
        let empty = !self.has_table()? || {
            let one = self.sql()?.rows("SELECT 1 FROM partykit LIMIT 1", &Array::new());
            one.map_err(failed)?.length() == 0
        };
        self.epoch.set(self.epoch.get() + 1);
        Ok(Claim { epoch: Epoch(self.epoch.get()), empty })
    }

    async fn read(
        &self,
        _: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError> {
        if !self.has_table()? {
            return Ok(vec![None; keys.len()]);
        }
        let sql = self.sql()?;
        let read = |key: &Bytes| {
            let found = sql.rows("SELECT v FROM partykit WHERE k = ?", &Array::of1(&blob(key)))?;
            Ok((found.length() > 0).then(|| column(&found.get(0), 0)))
        };
        keys.iter().map(|key| read(key).map_err(failed)).collect()
    }

    async fn scan(
        &self,
        _: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        if !self.has_table()? {
            return Ok(Vec::new());
        }
        let bindings = Array::new();
        let mut query = "SELECT k, v FROM partykit".to_owned();
        let mut word = " WHERE";
        for (bound, inclusive, exclusive) in [(&range.0, ">=", ">"), (&range.1, "<=", "<")] {
            let (key, compare) = match bound {
                Bound::Included(key) => (key, inclusive),
                Bound::Excluded(key) => (key, exclusive),
                Bound::Unbounded => continue,
            };
            query += &format!("{word} k {compare} ?");
            word = " AND";
            bindings.push(&blob(key));
        }
        query += if reverse { " ORDER BY k DESC LIMIT ?" } else { " ORDER BY k LIMIT ?" };
        // A room has fewer rows than that.
        bindings.push(&JsValue::from_f64(limit.min(u32::MAX as usize) as f64));
        let rows = self.sql()?.rows(&query, &bindings).map_err(failed)?;
        Ok(rows.iter().map(|row| (column(&row, 0), column(&row, 1))).collect())
    }

    async fn commit(
        &self,
        _: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        if epoch.0 != self.epoch.get() {
            return Err(BackendError::StaleEpoch(epoch));
        }
        // A panic in the transaction undoes it. It touches nothing else of this value.
        let work = AssertUnwindSafe((self, &batch));
        let applied = self.storage.transaction_sync(&mut || {
            let work = &work;
            work.0.0.apply(work.0.1)
        });
        applied.map_err(failed)?;
        self.has_table.set(true);
        Ok(())
    }

    /// Only the wake-up of this room: an object does not know other rooms.
    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        let own = SendWrapper::new(self.alarm()).await?.map(|at| (at, self.address.clone()));
        let comes =
            |own: &(Timestamp, RoomAddress)| after.is_none_or(|(at, _)| own.0 > *at) && limit > 0;
        Ok(own.into_iter().filter(comes).collect())
    }

    async fn rooms(
        &self,
        _: &str,
        _: Option<&RoomId>,
        _: usize,
    ) -> Result<Vec<RoomId>, BackendError> {
        Err(BackendError::Unsupported("a Durable Object knows no room but its own"))
    }

    fn release(&self, _: &RoomAddress, epoch: Epoch) {
        if self.epoch.get() == epoch.0 {
            self.epoch.set(self.epoch.get() + 1);
        }
    }
}

fn failed(error: JsValue) -> BackendError {
    BackendError::Failed(thrown(error))
}

fn blob(bytes: &[u8]) -> JsValue {
    Uint8Array::from(bytes).buffer().into()
}

/// A column of a row: an `ArrayBuffer`.
fn column(row: &JsValue, n: u32) -> Bytes {
    let column = row.unchecked_ref::<Array>().get(n);
    Uint8Array::new(&column).to_vec().into()
}

/// The platform refuses times at or before the epoch.
fn millis(at: Timestamp) -> f64 {
    at.as_millis().clamp(1, 8_640_000_000_000_000) as f64
}
