use std::{
    collections::HashMap,
    fmt,
    ops::Bound,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use partykit::{
    Backend, BackendError, Batch, Claim, Epoch, KeyRange, Result, RoomAddress, RoomId, Timestamp,
    WakeUp,
};
use redb::{Database, ReadableDatabase, Table, TableDefinition};

use super::Group;

const ROWS: TableDefinition<'_, (&[u8], &[u8]), &[u8]> = TableDefinition::new("rows");
const TIMES: TableDefinition<'_, &[u8], u64> = TableDefinition::new("times");
const WAKES: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("wakes");

/// The runtime's storage as it would be over redb: the same trait, and one transaction with one sync for
/// all commits that wait. What it lacks is what a store needs when things go wrong; and a claim waits
/// for what is being written.
pub(crate) struct RedbBackend {
    database: Arc<Database>,
    claims: Arc<Mutex<Claims>>,
    group: Group<Commit>,
}

#[derive(Default)]
struct Claims {
    last: u64,
    newest: HashMap<RoomAddress, Epoch>,
}

struct Commit {
    room: RoomAddress,
    epoch: Epoch,
    batch: Batch,
    is_stale: Arc<AtomicBool>,
}

impl RedbBackend {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let database = Arc::new(Database::create(directory.join("rooms.redb"))?);
        let begin = database.begin_write()?;
        begin.open_table(ROWS)?;
        begin.open_table(TIMES)?;
        begin.open_table(WAKES)?;
        begin.commit()?;
        let claims = Arc::<Mutex<Claims>>::default();
        let (written, held) = (database.clone(), claims.clone());
        let group = Group::start(move |commits: &[Commit]| write(&written, &lock(&held), commits));
        Ok(Self { database, claims, group })
    }

    fn rows(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let table = self.database.begin_read()?.open_table(ROWS)?;
        let name = name(room);
        // The first name behind this one: no name is the beginning of another.
        let behind = [&name[..], &[0]].concat();
        let start = match &range.0 {
            Bound::Included(key) => Bound::Included((&name[..], &key[..])),
            Bound::Excluded(key) => Bound::Excluded((&name[..], &key[..])),
            Bound::Unbounded => Bound::Included((&name[..], &[][..])),
        };
        let end = match &range.1 {
            Bound::Included(key) => Bound::Included((&name[..], &key[..])),
            Bound::Excluded(key) => Bound::Excluded((&name[..], &key[..])),
            Bound::Unbounded => Bound::Excluded((&behind[..], &[][..])),
        };
        let is_crossed = match (start, end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
            _ => false,
        };
        if is_crossed {
            return Ok(Vec::new());
        }
        let mut found = table.range::<(&[u8], &[u8])>((start, end))?;
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(row) = if reverse { found.next_back() } else { found.next() }
        {
            let (key, value) = row?;
            let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
            rows.push((copy(key.value().1), copy(value.value())));
        }
        Ok(rows)
    }
}

#[async_trait]
impl Backend for RedbBackend {
    async fn claim(&self, room: &RoomAddress) -> Result<Claim, BackendError> {
        let epoch = {
            let mut claims = lock(&self.claims);
            claims.last += 1;
            let epoch = Epoch(claims.last);
            claims.newest.insert(room.clone(), epoch);
            epoch
        };
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let rows = self.rows(room, &everything, false, 1).map_err(BackendError::Failed)?;
        Ok(Claim { epoch, empty: rows.is_empty() })
    }

    async fn read(
        &self,
        room: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError> {
        let read = || {
            let table = self.database.begin_read()?.open_table(ROWS)?;
            let name = name(room);
            let values = keys.iter().map(|key| {
                let value = table.get((&name[..], &key[..]))?;
                Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
            });
            values.collect::<Result<_>>()
        };
        read().map_err(BackendError::Failed)
    }

    async fn scan(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.rows(room, range, reverse, limit).map_err(BackendError::Failed)
    }

    async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        let is_stale = Arc::new(AtomicBool::new(false));
        let commit = Commit { room: room.clone(), epoch, batch, is_stale: is_stale.clone() };
        self.group.commit(commit).await.map_err(BackendError::Failed)?;
        match is_stale.load(Ordering::Acquire) {
            true => Err(BackendError::StaleEpoch(epoch)),
            false => Ok(()),
        }
    }

    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        let read = || {
            let table = self.database.begin_read()?.open_table(WAKES)?;
            let after = after.map(|(at, room)| (at.as_millis(), name(room)));
            let start = match &after {
                Some((at, name)) => Bound::Excluded((*at, &name[..])),
                None => Bound::Unbounded,
            };
            let found = table.range::<(u64, &[u8])>((start, Bound::Unbounded))?.take(limit);
            let wakes = found.map(|row| {
                let (key, _) = row?;
                let (at, name) = key.value();
                Ok((Timestamp::from_millis(at), address(name)?))
            });
            wakes.collect::<Result<_>>()
        };
        read().map_err(BackendError::Failed)
    }

    fn release(&self, room: &RoomAddress, epoch: Epoch) {
        let mut claims = lock(&self.claims);
        if claims.newest.get(room) == Some(&epoch) {
            claims.newest.remove(room);
        }
    }
}

fn write(database: &Database, claims: &Claims, commits: &[Commit]) -> Result<()> {
    let transaction = database.begin_write()?;
    {
        let mut rows = transaction.open_table(ROWS)?;
        let mut times = transaction.open_table(TIMES)?;
        let mut wakes = transaction.open_table(WAKES)?;
        for Commit { room, epoch, batch, is_stale } in commits {
            if claims.newest.get(room) != Some(epoch) {
                is_stale.store(true, Ordering::Release);
                continue;
            }
            let name = name(room);
            change_rows(&mut rows, &name, batch)?;
            let wake_up = batch.wake_up.or(batch.clear.then_some(WakeUp::Never));
            let Some(wake_up) = wake_up else { continue };
            let former = times.remove(&name[..])?.map(|at| at.value());
            if let Some(former) = former {
                wakes.remove((former, &name[..]))?;
            }
            if let WakeUp::At(at) = wake_up {
                times.insert(&name[..], at.as_millis())?;
                wakes.insert((at.as_millis(), &name[..]), ())?;
            }
        }
    }
    Ok(transaction.commit()?)
}

fn change_rows(
    rows: &mut Table<'_, (&[u8], &[u8]), &[u8]>,
    name: &[u8],
    batch: &Batch,
) -> Result<()> {
    if batch.clear {
        let behind = [name, &[0]].concat();
        rows.retain_in::<(&[u8], &[u8]), _>((name, &[][..])..(&behind[..], &[][..]), |_, _| false)?;
    }
    for (key, value) in &batch.writes {
        match value {
            Some(value) => rows.insert((name, &key[..]), &value[..])?,
            None => rows.remove((name, &key[..]))?,
        };
    }
    Ok(())
}

/// The address as bytes; its first part with its length before it.
fn name(room: &RoomAddress) -> Vec<u8> {
    let length = u32::try_from(room.party().len()).unwrap_or(u32::MAX);
    let room_length = u32::try_from(room.room().len()).unwrap_or(u32::MAX);
    [
        &length.to_be_bytes(),
        room.party().as_bytes(),
        &room_length.to_be_bytes(),
        room.room().as_bytes(),
    ]
    .concat()
}

fn address(name: &[u8]) -> Result<RoomAddress> {
    let (length, rest) = name.split_first_chunk().ok_or("a short name")?;
    let length = u32::from_be_bytes(*length) as usize;
    let (party, rest) = rest.split_at_checked(length).ok_or("a short name")?;
    let room = rest.get(4..).ok_or("a short name")?;
    Ok(RoomAddress::new(std::str::from_utf8(party)?, RoomId::new(std::str::from_utf8(room)?)?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for RedbBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbBackend").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU32};

    use partykit::conformance::storage;

    use super::*;

    /// Else its figures would mean nothing.
    #[tokio::test(flavor = "multi_thread")]
    async fn it_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let next = AtomicU32::new(0);
        storage::all(async || {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let path = directory.path().join(n.to_string());
            std::fs::create_dir(&path).unwrap();
            Arc::new(RedbBackend::open(&path).unwrap())
        })
        .await;
    }
}
