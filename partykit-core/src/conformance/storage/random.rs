use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::holder::{
    EVERYTHING, Holder, Rows, address, apply, assert_rows, done, expect_scan, odd_keys,
};
use crate::{Backend, BackendError, Batch, RoomAddress, value::splitmix::SplitMix64};

/// Random calls on three rooms, compared with a model after each. The seed decides all of them.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::random_operations(&MemoryBackend::default(), 42));
/// ```
///
/// # Panics
///
/// When the backend and the model differ, or when a call fails.
pub async fn random_operations<B: Backend + ?Sized>(backend: &B, seed: u64) {
    run(backend, seed, 0).await;
}

/// The same on a store that fails now and then: a failed commit has been stored whole or not at all.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage, testing::FaultyBackend};
///
/// let backend = FaultyBackend::new(MemoryBackend::default(), 1).fail_commits(0.2).fail_reads(0.1);
/// futures_executor::block_on(storage::random_failures(&backend, 42));
/// ```
///
/// # Panics
///
/// When the backend and the model differ, or when one call fails 100 times in a row.
pub async fn random_failures<B: Backend + ?Sized>(backend: &B, seed: u64) {
    run(backend, seed, 100).await;
}

async fn run<B: Backend + ?Sized>(backend: &B, seed: u64, retries: u32) {
    let mut rooms = Vec::new();
    for room in ["a", "b", "ab"] {
        let address = address(&format!("random-{seed}"), room);
        let holder = claim(backend, &address, retries).await;
        assert!(holder.found_empty, "{address} has rows before anyone wrote any");
        rooms.push(ModelRoom { stale: None, holder, rows: BTreeMap::new(), retries });
    }
    let mut random = Random { numbers: SplitMix64::new(seed), keys: odd_keys() };
    for step in 0..400 {
        let room = random.numbers.below(3) as usize;
        let at = format!("seed {seed}, step {step}, room {room}");
        match random.numbers.below(10) {
            0..4 => rooms[room].commit(random.batch(), &at).await,
            4..6 => rooms[room].read(&random.some_keys(), &at).await,
            6..8 => rooms[room].scan(&mut random, &at).await,
            8 => rooms[room].claim(&at).await,
            _ => rooms[room].commit_stale(random.batch()).await,
        }
    }
    for room in &mut rooms {
        room.claim("at the end").await;
        let broken = format!("seed {seed}, at the end");
        assert_rows(&room.stored_rows().await, &room.expected_rows(), broken);
    }
}

/// A room and what it should hold.
struct ModelRoom<'a, B: ?Sized> {
    holder: Holder<'a, B>,
    stale: Option<Holder<'a, B>>,
    rows: BTreeMap<Bytes, Bytes>,
    retries: u32,
}

impl<B: Backend + ?Sized> ModelRoom<'_, B> {
    async fn commit(&mut self, batch: Batch, at: &str) {
        let before = self.rows.clone();
        apply(&mut self.rows, &batch);
        match self.holder.try_commit(batch).await {
            Ok(()) => {}
            Err(BackendError::Failed(_)) if self.retries > 0 => {
                self.holder = claim(self.holder.backend, &self.holder.room, self.retries).await;
                let found: BTreeMap<_, _> = self.stored_rows().await.into_iter().collect();
                assert!(
                    found == before || found == self.rows,
                    "contract line 3 (commits): a failed commit left a part of its batch, {at}"
                );
                self.rows = found;
            }
            Err(error) => panic!("a commit failed that had no reason to, {at}: {error:?}"),
        }
    }

    async fn commit_stale(&mut self, batch: Batch) {
        if let Some(stale) = &self.stale {
            let result = stale.try_commit(batch).await;
            let is_refused = match &result {
                Err(BackendError::StaleEpoch(_)) => true,
                Err(BackendError::Failed(_)) => self.retries > 0,
                _ => false,
            };
            assert!(is_refused, "contract line 4 (fencing): a stale commit gave {result:?}");
        }
    }

    async fn read(&mut self, keys: &[Bytes], at: &str) {
        let Holder { backend, room, .. } = &self.holder;
        let found = retry("read", self.retries, async || backend.read(room, keys).await).await;
        let expected: Vec<_> = keys.iter().map(|key| self.rows.get(key).cloned()).collect();
        assert_eq!(found, expected, "a read of {keys:?}, {at}");
    }

    async fn scan(&mut self, random: &mut Random, at: &str) {
        let range = (random.bound(), random.bound());
        let reverse = random.numbers.chance(0.5);
        let limit = random.numbers.below(8) as usize;
        let Holder { backend, room, .. } = &self.holder;
        let scan = async || backend.scan(room, &range, reverse, limit).await;
        let found = retry("scan", self.retries, scan).await;
        let expected = expect_scan(&self.rows, &range, reverse, limit);
        assert_rows(&found, &expected, format!("a scan of {range:?}, {reverse}, {limit}, {at}"));
    }

    async fn claim(&mut self, at: &str) {
        let holder = claim(self.holder.backend, &self.holder.room, self.retries).await;
        assert_eq!(holder.found_empty, self.rows.is_empty(), "`Claim::empty`, {at}");
        assert!(holder.epoch > self.holder.epoch, "contract line 4 (fencing): epochs grow, {at}");
        self.stale = Some(std::mem::replace(&mut self.holder, holder));
    }

    async fn stored_rows(&self) -> Rows {
        let Holder { backend, room, .. } = &self.holder;
        let scan = async || backend.scan(room, &EVERYTHING, false, usize::MAX).await;
        retry("scan", self.retries, scan).await
    }

    fn expected_rows(&self) -> Rows {
        expect_scan(&self.rows, &EVERYTHING, false, usize::MAX)
    }
}

async fn claim<'a, B: Backend + ?Sized>(
    backend: &'a B,
    room: &RoomAddress,
    retries: u32,
) -> Holder<'a, B> {
    let claim = retry("claim", retries, async || backend.claim(room).await).await;
    Holder { backend, room: room.clone(), epoch: claim.epoch, found_empty: claim.empty }
}

async fn retry<T>(name: &str, retries: u32, call: impl AsyncFn() -> Result<T, BackendError>) -> T {
    for _ in 0..retries {
        if let Ok(value) = call().await {
            return value;
        }
    }
    done(name, call().await)
}

struct Random {
    numbers: SplitMix64,
    keys: Vec<Bytes>,
}

impl Random {
    fn key(&mut self) -> Bytes {
        let index = self.numbers.below(self.keys.len() as u64);
        self.keys[index as usize].clone()
    }

    fn some_keys(&mut self) -> Vec<Bytes> {
        let count = self.numbers.below(6);
        (0..count).map(|_| self.key()).collect()
    }

    fn batch(&mut self) -> Batch {
        let clear = self.numbers.chance(0.1);
        let keys = self.some_keys();
        let write = |key| {
            let value = self.numbers.next_u64().to_be_bytes();
            let length = self.numbers.below(9) as usize;
            let is_put = self.numbers.chance(0.6);
            (key, is_put.then(|| Bytes::copy_from_slice(&value[..length])))
        };
        Batch { clear, writes: keys.into_iter().map(write).collect(), wake_up: None }
    }

    fn bound(&mut self) -> Bound<Bytes> {
        match self.numbers.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }
}
