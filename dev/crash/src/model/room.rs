use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
    sync::{Arc, atomic::AtomicI64, atomic::Ordering},
};

use hyper::body::Bytes;
use partykit::{
    RoomAddress, RoomId, Timestamp,
    storage::{Backend, BackendError, Batch, Epoch, KeyRange, WakeUp},
};
use xxhash_rust::xxh3::xxh3_64;

use super::versions::{Version, Versions};

/// How many rooms there are.
pub(super) const ROOMS: usize = 12;

const EVERYTHING: KeyRange = (Bound::Unbounded, Bound::Unbounded);

/// What is wrong, in words.
pub(super) type Wrong = String;

/// The address of a room. Some are the beginnings of others.
pub(super) fn address(room: usize) -> RoomAddress {
    let party = if room.is_multiple_of(2) { "p" } else { "pp" };
    let name = format!("{}{}", "r".repeat(1 + room / 4), room % 4);
    RoomAddress::new(party, RoomId::new(name).expect("a name is a room's"))
}

/// A room as its only writer has it, beside what is stored.
pub(super) struct Room {
    store: Arc<dyn Backend>,
    random: fastrand::Rng,
    address: RoomAddress,
    number: usize,
    epoch: Epoch,
    rows: BTreeMap<Bytes, Bytes>,
    version: Version,
    versions: Arc<Versions>,
    /// How many keys it uses: few are written over and over.
    keys: u32,
    /// The first and the next key of a queue.
    queue: (u64, u64),
    /// Operations since the last commit.
    since: u64,
}

impl Room {
    /// Takes over what there is, which the watching process compares with what it knows.
    pub(super) async fn open(
        store: Arc<dyn Backend>,
        number: usize,
        wake: Option<u64>,
        random: fastrand::Rng,
    ) -> Result<Self, Wrong> {
        let address = address(number);
        let claim = store.claim(&address).await.map_err(wrong)?;
        let rows = store.scan(&address, &EVERYTHING, false, usize::MAX).await.map_err(wrong)?;
        let version = Version { rows: sum(&rows), wake };
        let versions = Arc::new(Versions::new(number, version));
        let rows: BTreeMap<_, _> = rows.into_iter().collect();
        if claim.empty != rows.is_empty() {
            return Err(format!("{address}: `empty` is {}, with {} rows", claim.empty, rows.len()));
        }
        let next = |(key, _): (&Bytes, &Bytes)| queue_number(key);
        let first = rows.iter().find_map(next).unwrap_or(0);
        let last = rows.iter().rev().find_map(next).map_or(0, |last| last + 1);
        let keys = [8, 64, 256, 1_024][number % 4];
        let (queue, epoch) = ((first, last), claim.epoch);
        Ok(Self {
            store,
            random,
            address,
            number,
            epoch,
            rows,
            version,
            versions,
            keys,
            queue,
            since: 0,
        })
    }

    pub(super) fn versions(&self) -> Arc<Versions> {
        self.versions.clone()
    }

    /// Works until `left` is used up. The rest of the operations that were not said with a commit.
    pub(super) async fn work(mut self, left: Arc<AtomicI64>) -> Result<u64, Wrong> {
        while left.fetch_sub(1, Ordering::Relaxed) > 0 {
            self.since += 1;
            tokio::task::yield_now().await;
            match self.random.u32(..100) {
                0..55 => self.commit().await?,
                55..75 => self.read().await?,
                75..95 => self.scan().await?,
                95..98 => self.claim().await?,
                _ => self.commit_too_late().await?,
            }
        }
        Ok(self.since)
    }

    async fn commit(&mut self) -> Result<(), Wrong> {
        let batch = self.batch();
        apply(&mut self.rows, &mut self.version, &batch);
        self.versions.begin(self.version);
        self.store.commit(&self.address, self.epoch, batch).await.map_err(wrong)?;
        self.versions.done(std::mem::take(&mut self.since));
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Wrong> {
        let keys: Vec<_> = (0..self.random.usize(1..8)).map(|_| self.key()).collect();
        let found = self.store.read(&self.address, &keys).await.map_err(wrong)?;
        let expected: Vec<_> = keys.iter().map(|key| self.rows.get(key).cloned()).collect();
        self.same("a read", found == expected)
    }

    async fn scan(&mut self) -> Result<(), Wrong> {
        let range = (self.bound(), self.bound());
        let reverse = self.random.bool();
        let limit = match self.random.u32(..16) {
            0 => usize::MAX,
            1..6 => 1,
            _ => self.random.usize(..20),
        };
        let found = self.store.scan(&self.address, &range, reverse, limit).await.map_err(wrong)?;
        let rows = self.rows.iter().filter(|(key, _)| range.contains(*key));
        let row = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        let expected: Vec<_> = match reverse {
            true => rows.rev().take(limit).map(row).collect(),
            false => rows.take(limit).map(row).collect(),
        };
        self.same("a scan", found == expected)
    }

    async fn claim(&mut self) -> Result<(), Wrong> {
        if self.random.bool() {
            self.store.release(&self.address, self.epoch);
        }
        let claim = self.store.claim(&self.address).await.map_err(wrong)?;
        let grows = claim.epoch > self.epoch;
        self.epoch = claim.epoch;
        self.same("a claim", grows && claim.empty == self.rows.is_empty())
    }

    /// With a claim that is not the newest.
    async fn commit_too_late(&mut self) -> Result<(), Wrong> {
        let former = self.epoch;
        self.claim().await?;
        let batch = self.batch();
        match self.store.commit(&self.address, former, batch).await {
            Err(BackendError::StaleEpoch(_)) => Ok(()),
            other => self.same(&format!("a late commit: {other:?}"), false),
        }
    }

    fn same(&self, what: &str, is: bool) -> Result<(), Wrong> {
        if is { Ok(()) } else { Err(format!("room {} {}: {what}", self.number, self.address)) }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch { clear: self.random.u32(..80) == 0, ..Batch::default() };
        if self.number.is_multiple_of(3) && self.random.bool() {
            self.push_and_pop(&mut batch);
        } else {
            let count = if self.random.u32(..40) == 0 { 200 } else { 6 };
            for _ in 0..self.random.u32(1..=count) {
                let value = (self.random.u32(..100) >= 40).then(|| self.value());
                batch.writes.insert(self.key(), value);
            }
        }
        batch.wake_up = match self.random.u32(..20) {
            0..4 => Some(WakeUp::At(Timestamp::from_millis(self.random.u64(..300)))),
            4 | 5 => Some(WakeUp::Never),
            _ => None,
        };
        batch
    }

    /// A queue: its first rows are deleted over and over.
    fn push_and_pop(&mut self, batch: &mut Batch) {
        if batch.clear {
            self.queue.0 = self.queue.1;
        }
        for _ in 0..self.random.u32(..6) {
            let value = self.value();
            batch.writes.insert(queue_key(self.queue.1), Some(value));
            self.queue.1 += 1;
        }
        while self.queue.0 + 10 < self.queue.1 {
            batch.writes.insert(queue_key(self.queue.0), None);
            self.queue.0 += 1;
        }
    }

    fn key(&mut self) -> Bytes {
        let number = self.random.u32(..self.keys);
        match number {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\xFF\xFF\xFF"),
            _ => Bytes::from(format!("k{number:04}")),
        }
    }

    fn value(&mut self) -> Bytes {
        let length = match self.random.u32(..1_000) {
            0 => self.random.usize(..200_000),
            1..30 => self.random.usize(..8_192),
            _ => self.random.usize(..120),
        };
        let stamp = self.random.u64(..).to_le_bytes();
        stamp.iter().copied().cycle().take(length).collect()
    }

    fn bound(&mut self) -> Bound<Bytes> {
        match self.random.u32(..4) {
            0 | 1 => Bound::Unbounded,
            2 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }
}

/// Scans whole rooms while they are written: each scan has to be the room after one of its commits.
pub(super) async fn scan_beside(
    store: Arc<dyn Backend>,
    rooms: Arc<Vec<Arc<Versions>>>,
    mut random: fastrand::Rng,
    left: Arc<AtomicI64>,
) -> Result<u64, Wrong> {
    let mut operations = 0;
    while left.fetch_sub(1, Ordering::Relaxed) > 0 {
        operations += 1;
        // What is in memory is answered at once: the others have to get somewhere, too.
        tokio::task::yield_now().await;
        let number = random.usize(..rooms.len());
        let (room, first) = (&rooms[number], rooms[number].first());
        let reverse = random.bool();
        let rows = store.scan(&address(number), &EVERYTHING, reverse, usize::MAX).await;
        let found = sum(&rows.map_err(wrong)?);
        if !room.any_since(first, |version| version.rows == found) {
            return Err(format!("room {number}: a scan beside commits is of no moment"));
        }
    }
    Ok(operations)
}

/// Asks for wake-ups while they change.
pub(super) async fn ask_for_wake_ups(
    store: Arc<dyn Backend>,
    rooms: Arc<Vec<Arc<Versions>>>,
    mut random: fastrand::Rng,
    left: Arc<AtomicI64>,
) -> Result<u64, Wrong> {
    let mut operations = 0;
    while left.fetch_sub(1, Ordering::Relaxed) > 0 {
        operations += 1;
        let after = (random.u32(..4) == 0).then(|| random.u64(..300));
        let limit = if random.bool() { 100 } else { random.usize(1..6) };
        let first: Vec<_> = rooms.iter().map(|room| room.first()).collect();
        let from = after.map(|at| (Timestamp::from_millis(at), address(0)));
        let found = store.wake_ups(from.as_ref(), limit).await.map_err(wrong)?;
        let last = found.last().filter(|_| found.len() == limit).map(|(at, _)| at.as_millis());
        if !found.is_sorted_by_key(|(at, _)| *at) || found.len() > limit {
            return Err(format!("wake-ups are not in order: {found:?}"));
        }
        for (number, room) in rooms.iter().enumerate() {
            let address = address(number);
            let mut here = found.iter().filter(|(_, room)| *room == address);
            let (at, more) = (here.next().map(|(at, _)| at.as_millis()), here.next());
            // Those of the very time where an answer begins or ends may be in it or not.
            let is_outside = |at: u64| {
                after.is_some_and(|after| at <= after) || last.is_some_and(|last| at >= last)
            };
            let can_be = |version: &Version| match at {
                Some(at) => version.wake == Some(at),
                None => version.wake.is_none_or(is_outside),
            };
            if more.is_some() || !room.any_since(first[number], can_be) {
                let times: Vec<_> = found.iter().map(|(at, _)| at.as_millis()).collect();
                return Err(format!(
                    "the wake-up of room {number} is {at:?}, asked for {limit} after {after:?}: {times:?}"
                ));
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(operations)
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn wrong(error: BackendError) -> Wrong {
    format!("{error:?}")
}

fn apply(rows: &mut BTreeMap<Bytes, Bytes>, version: &mut Version, batch: &Batch) {
    if batch.clear {
        rows.clear();
        *version = Version { rows: 0, wake: None };
    }
    for (key, value) in &batch.writes {
        let former = match value {
            Some(value) => {
                version.rows = version.rows.wrapping_add(hash(key, value));
                rows.insert(key.clone(), value.clone())
            }
            None => rows.remove(key),
        };
        if let Some(former) = former {
            version.rows = version.rows.wrapping_sub(hash(key, &former));
        }
    }
    match batch.wake_up {
        Some(WakeUp::At(at)) => version.wake = Some(at.as_millis()),
        Some(WakeUp::Never) => version.wake = None,
        None => {}
    }
}

fn sum(rows: &[(Bytes, Bytes)]) -> u64 {
    rows.iter().fold(0, |sum, (key, value)| sum.wrapping_add(hash(key, value)))
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64(key).rotate_left(17).wrapping_add(xxh3_64(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        | 1
}

fn queue_key(number: u64) -> Bytes {
    Bytes::from(format!("q{number:016}"))
}

fn queue_number(key: &Bytes) -> Option<u64> {
    std::str::from_utf8(key.strip_prefix(b"q")?).ok()?.parse().ok()
}
