//! Reads while some writes are not in the store yet. A handler sees its own overlay, the waiting batch, the
//! batch in flight, and below them the store. Layers are always given newest first.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use bytes::Bytes;

use super::backend::{Backend, BackendError, Batch, KeyRange, is_crossed};
use crate::RoomAddress;

/// The most rows that one call asks of a backend. Rows that a pending delete hides are loaded in vain, so a
/// page is small.
const PAGE: usize = 256;

/// What is known of a value without asking who keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Nothing: who keeps it has to be asked.
    Ask,
    /// There is no value.
    Absent,
    Value(Bytes),
}

impl Lookup {
    pub(crate) fn is_known(&self) -> bool {
        *self != Self::Ask
    }

    /// The value; `None` if there is none, or if it has to be asked for.
    pub(crate) fn value(self) -> Option<Bytes> {
        self.or_ask(|| None)
    }

    /// The value, asked for if it has to be.
    pub(crate) fn or_ask(self, ask: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        match self {
            Self::Ask => ask(),
            Self::Absent => None,
            Self::Value(value) => Some(value),
        }
    }
}

impl From<Option<Bytes>> for Lookup {
    /// What was written: a value, or `None` if the row was deleted.
    fn from(written: Option<Bytes>) -> Self {
        written.map_or(Self::Absent, Self::Value)
    }
}

/// Looks `key` up in the layers, the newest first.
pub(crate) fn lookup(layers: &[&Batch], key: &[u8]) -> Lookup {
    let found = layers.iter().find_map(|layer| match layer.writes.get(key) {
        Some(write) => Some(write.clone().into()),
        None => layer.clear.then_some(Lookup::Absent),
    });
    found.unwrap_or(Lookup::Ask)
}

/// The changes of the layers within a range of keys. It stays right while the batches that it was made from
/// reach the store, because applying a batch twice changes nothing more.
#[derive(Debug)]
pub(crate) struct Diff {
    writes: BTreeMap<Bytes, Option<Bytes>>,
    /// Whether a clear hides all rows of the store.
    cleared: bool,
}

impl Diff {
    pub(crate) fn over(layers: &[&Batch], range: &KeyRange) -> Self {
        let mut diff = Self { writes: BTreeMap::new(), cleared: false };
        if is_crossed(range) {
            return diff;
        }
        for layer in layers {
            // Invariant: the newest layer comes first, so the first write of a key counts.
            for (key, write) in layer.writes.range(range.clone()) {
                if let Entry::Vacant(entry) = diff.writes.entry(key.clone()) {
                    entry.insert(write.clone());
                }
            }
            // Invariant: a batch clears before it writes. So its own writes count, and older layers and the
            // store are hidden.
            if layer.clear {
                diff.cleared = true;
                break;
            }
        }
        diff
    }

    /// The first `limit` rows of `range`, in key order or in reverse, as they will be when the layers are in
    /// the store. `range` has to be the range of the diff.
    pub(crate) async fn scan(
        self,
        backend: &dyn Backend,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.scan_by(PAGE, backend, room, range, reverse, limit).await
    }

    async fn scan_by(
        self,
        page: usize,
        backend: &dyn Backend,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        let mut merge = Merge::new(self.writes, reverse, limit);
        let mut range = range.clone();
        let mut exhausted = self.cleared || is_crossed(&range);
        while !exhausted && !merge.is_full() {
            let ask = merge.room_left().min(page);
            let rows = backend.scan(room, &range, reverse, ask).await?;
            // A backend returns fewer rows than asked only at the end of the range.
            exhausted = rows.len() < ask;
            if let Some((last, _)) = rows.last() {
                let end = if reverse { &mut range.1 } else { &mut range.0 };
                *end = Bound::Excluded(last.clone());
            }
            for (key, value) in rows {
                merge.push_stored(key, value);
            }
        }
        Ok(merge.finish())
    }
}

/// Merges the store's rows, as they come, with the pending writes.
struct Merge {
    writes: BTreeMap<Bytes, Option<Bytes>>,
    deletes: usize,
    reverse: bool,
    limit: usize,
    merged: Vec<(Bytes, Bytes)>,
}

impl Merge {
    fn new(writes: BTreeMap<Bytes, Option<Bytes>>, reverse: bool, limit: usize) -> Self {
        let deletes = writes.values().filter(|write| write.is_none()).count();
        Self { writes, deletes, reverse, limit, merged: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.merged.len() == self.limit
    }

    /// How many more rows of the store may be needed: those up to the limit, and as many as deletes may hide.
    fn room_left(&self) -> usize {
        (self.limit - self.merged.len()).saturating_add(self.deletes)
    }

    fn push_stored(&mut self, key: Bytes, value: Bytes) {
        while let Some(next) = self.next_key() {
            let is_before = if self.reverse { *next > key } else { *next < key };
            if !is_before {
                break;
            }
            self.push_next();
        }
        if self.next_key() == Some(&key) {
            self.push_next();
        } else {
            self.push(key, value);
        }
    }

    fn finish(mut self) -> Vec<(Bytes, Bytes)> {
        while !self.is_full() && self.next_key().is_some() {
            self.push_next();
        }
        self.merged
    }

    fn next_key(&self) -> Option<&Bytes> {
        let next =
            if self.reverse { self.writes.last_key_value() } else { self.writes.first_key_value() };
        next.map(|(key, _)| key)
    }

    fn push_next(&mut self) {
        let next = if self.reverse { self.writes.pop_last() } else { self.writes.pop_first() };
        match next {
            Some((key, Some(value))) => self.push(key, value),
            Some((_, None)) => self.deletes -= 1,
            None => {}
        }
    }

    fn push(&mut self, key: Bytes, value: Bytes) {
        if !self.is_full() {
            self.merged.push((key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use futures_executor::block_on;
    use proptest::prelude::*;

    use super::*;
    use crate::{MemoryBackend, RoomId, testing::WrappedBackend};

    type Rows = BTreeMap<Bytes, Bytes>;

    /// Keys that are few enough to meet, with the odd ones among them.
    fn key() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(prop::sample::select(vec![0x00, 0x01, b'a', 0xFF]), 0..3)
            .prop_map(Bytes::from)
    }

    fn batch() -> impl Strategy<Value = Batch> {
        let value =
            prop::option::of(prop::collection::vec(any::<u8>(), 0..3).prop_map(Bytes::from));
        (prop::bool::weighted(0.2), prop::collection::btree_map(key(), value, 0..10))
            .prop_map(|(clear, writes)| Batch { clear, writes, wake_up: None })
    }

    fn bound() -> impl Strategy<Value = Bound<Bytes>> {
        prop_oneof![
            Just(Bound::Unbounded),
            key().prop_map(Bound::Included),
            key().prop_map(Bound::Excluded),
        ]
    }

    fn apply(rows: &mut Rows, batch: &Batch) {
        if batch.clear {
            rows.clear();
        }
        for (key, write) in &batch.writes {
            match write {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
    }

    fn room() -> RoomAddress {
        RoomAddress::new("main", RoomId::new("a").unwrap())
    }

    async fn store_with(batch: Batch) -> MemoryBackend {
        let backend = MemoryBackend::default();
        let claim = backend.claim(&room()).await.unwrap();
        backend.commit(&room(), claim.epoch, batch).await.unwrap();
        backend
    }

    proptest! {
        #[test]
        fn reads_are_as_if_all_layers_were_stored(
            store in batch(),
            layers in prop::collection::vec(batch(), 0..4),
            range in (bound(), bound()),
            reverse: bool,
            limit in prop_oneof![0..12_usize, Just(usize::MAX)],
            page in 1..5_usize,
            stored_meanwhile in 0..4_usize,
        ) {
            let mut model = Rows::new();
            apply(&mut model, &store);
            let stored: Rows = model.clone();
            for layer in layers.iter().rev() {
                apply(&mut model, layer);
            }
            let newest_first: Vec<&Batch> = layers.iter().collect();

            for key in stored.keys().chain(model.keys()) {
                let seen = lookup(&newest_first, key).or_ask(|| stored.get(key).cloned());
                prop_assert_eq!(seen.as_ref(), model.get(key));
            }

            let mut expected: Vec<_> = model
                .into_iter()
                .filter(|(key, _)| std::ops::RangeBounds::contains(&range, key))
                .collect();
            if reverse {
                expected.reverse();
            }
            expected.truncate(limit);
            let rows = block_on(async {
                let backend = store_with(store).await;
                let diff = Diff::over(&newest_first, &range);
                let oldest_first = layers.iter().rev().take(stored_meanwhile);
                let epoch = backend.claim(&room()).await.unwrap().epoch;
                for layer in oldest_first {
                    backend.commit(&room(), epoch, layer.clone()).await.unwrap();
                }
                diff.scan_by(page, &backend, &room(), &range, reverse, limit).await.unwrap()
            });
            prop_assert_eq!(rows, expected);
        }
    }

    /// Notes the limit of every scan.
    struct Asked(MemoryBackend, Mutex<Vec<usize>>);

    #[async_trait]
    impl WrappedBackend for Asked {
        type Inner = MemoryBackend;

        fn inner(&self) -> &MemoryBackend {
            &self.0
        }

        async fn scanning(
            &self,
            room: &RoomAddress,
            range: &KeyRange,
            reverse: bool,
            limit: usize,
        ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
            self.1.lock().unwrap().push(limit);
            self.0.scan(room, range, reverse, limit).await
        }
    }

    fn numbered(numbers: std::ops::Range<u32>, value: Option<&'static str>) -> Batch {
        let writes =
            numbers.map(|n| (Bytes::copy_from_slice(&n.to_be_bytes()), value.map(Bytes::from)));
        Batch { writes: writes.collect(), ..Batch::default() }
    }

    async fn asked_with(rows: u32, layer: &Batch, limit: usize) -> (Vec<usize>, usize) {
        let backend = Asked(store_with(numbered(0..rows, Some("v"))).await, Mutex::default());
        let range = (Bound::Unbounded, Bound::Unbounded);
        let diff = Diff::over(&[layer], &range);
        let found = diff.scan(&backend, &room(), &range, false, limit).await.unwrap();
        (backend.1.into_inner().unwrap(), found.len())
    }

    #[test]
    fn asks_for_no_more_than_it_needs_and_never_for_more_than_a_page() {
        block_on(async {
            let nothing = Batch::default();
            assert_eq!(asked_with(1000, &nothing, 0).await, (vec![], 0));
            assert_eq!(asked_with(1000, &nothing, 3).await, (vec![3], 3));
            assert_eq!(asked_with(600, &nothing, usize::MAX).await, (vec![PAGE; 3], 600));
            let clear = Batch { clear: true, ..Batch::default() };
            assert_eq!(asked_with(600, &clear, 10).await, (vec![], 0));
            // 900 of 1,000 rows are deleted: four pages in vain at most, not 900 calls.
            let deletes = numbered(0..900, None);
            assert_eq!(asked_with(1000, &deletes, 1).await, (vec![256, 256, 256, 133], 1));
        });
    }
}
