use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::backend::{Backend, BackendError, Batch, Claim, Epoch, KeyRange, WakeUp, is_crossed};
use crate::{RoomAddress, RoomId, Timestamp};

/// Keeps all rows in memory: the reference [`Backend`], for tests and for rooms that need not outlive
/// the process.
///
/// Clones share one store. It never waits, and it fails only for a commit with a stale epoch.
///
/// A room needs memory for its rows, and for one entry while it is claimed.
///
/// ```
/// use bytes::Bytes;
/// use partykit_core::{Backend, Batch, MemoryBackend, RoomAddress, RoomId};
///
/// # futures_executor::block_on(async {
/// let backend = MemoryBackend::default();
/// let room = RoomAddress::new("chat", RoomId::new("lobby")?);
///
/// let claim = backend.claim(&room).await?;
/// assert!(claim.empty);
///
/// let mut batch = Batch::default();
/// batch.writes.insert("topic".into(), Some("rust".into()));
/// backend.commit(&room, claim.epoch, batch).await?;
/// assert_eq!(backend.rows(&room), [(Bytes::from("topic"), Bytes::from("rust"))]);
/// # Ok::<(), partykit_core::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct MemoryBackend(Arc<Mutex<Store>>);

#[derive(Default)]
struct Store {
    /// The number of the last claim, counted over all rooms.
    last: u64,
    /// The newest claim of every room that has one, by party: so the rooms share the party's name.
    claims: HashMap<Box<str>, HashMap<RoomId, Epoch>>,
    /// The rows of the rooms that have any.
    rooms: HashMap<RoomAddress, BTreeMap<Bytes, Bytes>>,
    /// The rooms that want to be woken.
    wake_ups: HashMap<RoomAddress, Timestamp>,
    /// The same, in order.
    by_time: BTreeSet<(Timestamp, RoomAddress)>,
    /// For each party, the rooms that have rows or want to be woken, ordered by the length of the id and then
    /// by the id.
    by_party: BTreeMap<Box<str>, BTreeSet<(usize, RoomId)>>,
}

impl MemoryBackend {
    /// All rows of a room, its framework's included, in key order. For tests.
    pub fn rows(&self, room: &RoomAddress) -> Vec<(Bytes, Bytes)> {
        let store = self.store();
        let rows = store.rooms.get(room).into_iter().flatten();
        rows.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// A poisoned lock is used all the same: no code under it leaves the store half-changed.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn claim(&self, room: &RoomAddress) -> Result<Claim, BackendError> {
        let mut store = self.store();
        store.last += 1;
        let epoch = Epoch(store.last);
        match store.claims.get_mut(room.party()) {
            Some(claims) => drop(claims.insert(room.room().clone(), epoch)),
            None => {
                let claims = HashMap::from([(room.room().clone(), epoch)]);
                store.claims.insert(room.party().into(), claims);
            }
        }
        Ok(Claim { epoch, empty: !store.rooms.contains_key(room) })
    }

    async fn read(
        &self,
        room: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError> {
        let store = self.store();
        let rows = store.rooms.get(room);
        Ok(keys.iter().map(|key| rows?.get(key).cloned()).collect())
    }

    async fn scan(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        let store = self.store();
        let Some(rows) = store.rooms.get(room).filter(|_| !is_crossed(range)) else {
            return Ok(Vec::new());
        };
        let rows = rows.range(range.clone()).map(|(key, value)| (key.clone(), value.clone()));
        Ok(if reverse { rows.rev().take(limit).collect() } else { rows.take(limit).collect() })
    }

    async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        let mut store = self.store();
        if store.claim(room) != Some(epoch) {
            return Err(BackendError::StaleEpoch(epoch));
        }
        let was_listed = store.is_listed(room);
        let mut rows = store.rooms.remove(room).filter(|_| !batch.clear).unwrap_or_default();
        for (key, value) in batch.writes {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        if !rows.is_empty() {
            store.rooms.insert(room.clone(), rows);
        }
        if let Some(wake_up) = batch.wake_up.or(batch.clear.then_some(WakeUp::Never)) {
            store.set_wake_up(room, wake_up);
        }
        if store.is_listed(room) != was_listed {
            store.list(room, !was_listed);
        }
        Ok(())
    }

    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        let after = after.map_or(Bound::Unbounded, |entry| Bound::Excluded(entry.clone()));
        let store = self.store();
        Ok(store.by_time.range((after, Bound::Unbounded)).take(limit).cloned().collect())
    }

    async fn rooms(
        &self,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomId>, BackendError> {
        let after = after.map_or(Bound::Unbounded, |id| Bound::Excluded((id.len(), id.clone())));
        let store = self.store();
        let Some(rooms) = store.by_party.get(party) else { return Ok(Vec::new()) };
        let rooms = rooms.range((after, Bound::Unbounded)).map(|(_, id)| id.clone());
        Ok(rooms.take(limit).collect())
    }

    fn release(&self, room: &RoomAddress, epoch: Epoch) {
        let mut store = self.store();
        if store.claim(room) == Some(epoch)
            && let Some(claims) = store.claims.get_mut(room.party())
        {
            claims.remove(room.room());
            if claims.is_empty() {
                store.claims.remove(room.party());
            }
        }
    }
}

impl Store {
    fn claim(&self, room: &RoomAddress) -> Option<Epoch> {
        self.claims.get(room.party())?.get(room.room()).copied()
    }

    fn set_wake_up(&mut self, room: &RoomAddress, wake_up: WakeUp) {
        if let Some(before) = self.wake_ups.remove(room) {
            self.by_time.remove(&(before, room.clone()));
        }
        if let WakeUp::At(at) = wake_up {
            self.wake_ups.insert(room.clone(), at);
            self.by_time.insert((at, room.clone()));
        }
    }

    fn is_listed(&self, room: &RoomAddress) -> bool {
        self.rooms.contains_key(room) || self.wake_ups.contains_key(room)
    }

    /// Puts the room into the list of its party, or takes it out.
    fn list(&mut self, room: &RoomAddress, is_listed: bool) {
        let entry = (room.room().len(), room.room().clone());
        let rooms = self.by_party.entry(room.party().into()).or_default();
        if is_listed {
            rooms.insert(entry);
        } else {
            rooms.remove(&entry);
        }
        if rooms.is_empty() {
            self.by_party.remove(room.party());
        }
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms = self.store().rooms.len();
        f.debug_struct("MemoryBackend").field("rooms_with_rows", &rooms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::RoomId;

    #[test]
    fn an_emptied_and_released_room_leaves_nothing() {
        let backend = MemoryBackend::default();
        let room = RoomAddress::new("main", RoomId::new("a").unwrap());
        let write = |value: Option<&'static str>| Batch {
            writes: [("k".into(), value.map(Bytes::from))].into(),
            wake_up: Some(value.map_or(WakeUp::Never, |_| WakeUp::At(Timestamp::default()))),
            ..Batch::default()
        };
        block_on(async {
            let stale = backend.claim(&room).await.unwrap().epoch;
            let epoch = backend.clone().claim(&room).await.unwrap().epoch;
            backend.commit(&room, epoch, write(Some("v"))).await.unwrap();
            assert_eq!(backend.store().rooms.len(), 1);
            backend.commit(&room, epoch, write(None)).await.unwrap();
            assert!(backend.store().rooms.is_empty());
            backend.commit(&room, stale, write(Some("v"))).await.unwrap_err();
            assert!(backend.rows(&room).is_empty());
            backend.release(&room, stale);
            assert_eq!(backend.store().claims.len(), 1, "a stale claim gives nothing back");
            backend.release(&room, epoch);
            assert!(backend.store().claims.is_empty());
            let store = backend.store();
            assert!(store.wake_ups.is_empty() && store.by_time.is_empty());
            assert!(store.by_party.is_empty());
        });
    }
}
