use std::{
    cmp::Reverse,
    ops::Bound,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam_skiplist::SkipMap;
use lsm_tree::Slice;

/// About how many bytes a row costs beyond its key and value.
const OVERHEAD: u64 = 64;

/// The latest changes, in order of their keys. One thread writes, any number of threads read, and no thread
/// waits for another.
///
/// It keeps every change with its number. A reader takes the newest change that its snapshot sees.
#[derive(Debug, Default)]
pub(super) struct Memory {
    changes: SkipMap<Key, Option<Slice>>,
    size: AtomicU64,
}

/// The newest change of a key comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    key: Slice,
    number: Reverse<u64>,
}

/// What is known about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Live(Slice),
    /// It was removed.
    Dead,
    /// It was changed, but only after the moment that is asked for.
    Unseen,
}

impl Memory {
    pub(super) fn insert(&self, key: Slice, value: Option<Slice>, number: u64) {
        let size = key.len() + value.as_ref().map_or(0, |value| value.len());
        self.size.fetch_add(size as u64 + OVERHEAD, Ordering::Relaxed);
        self.changes.insert(Key { key, number: Reverse(number) }, value);
    }

    /// About how many bytes this takes in memory.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// The row as it was before the change with the number `at`; `None` if it was not changed here.
    pub(super) fn get(&self, key: &Slice, at: u64) -> Option<Row> {
        match self.row(key, at) {
            Row::Unseen => None,
            row => Some(row),
        }
    }

    /// The first key behind a bound that was changed here, and its row as it was before `at`.
    pub(super) fn after(&self, start: &Bound<Slice>, at: u64) -> Option<(Slice, Row)> {
        let entry = match start {
            Bound::Unbounded => self.changes.front(),
            Bound::Included(key) => self.changes.lower_bound(Bound::Included(&Key::newest(key))),
            Bound::Excluded(key) => self.changes.lower_bound(Bound::Excluded(&Key::oldest(key))),
        };
        let key = entry?.key().key.clone();
        let row = self.row(&key, at);
        Some((key, row))
    }

    /// The last key before a bound that was changed here, and its row as it was before `at`.
    pub(super) fn before(&self, end: &Bound<Slice>, at: u64) -> Option<(Slice, Row)> {
        let entry = match end {
            Bound::Unbounded => self.changes.back(),
            Bound::Included(key) => self.changes.upper_bound(Bound::Included(&Key::oldest(key))),
            Bound::Excluded(key) => self.changes.upper_bound(Bound::Excluded(&Key::newest(key))),
        };
        let key = entry?.key().key.clone();
        let row = self.row(&key, at);
        Some((key, row))
    }

    /// All keys with their newest change and its number. Only for a memory that is not written any more.
    pub(super) fn newest(&self) -> impl Iterator<Item = (Slice, u64, Option<Slice>)> + '_ {
        let mut last: Option<Slice> = None;
        self.changes.iter().filter_map(move |entry| {
            let Key { key, number } = entry.key();
            if last.as_ref() == Some(key) {
                return None;
            }
            last = Some(key.clone());
            Some((key.clone(), number.0, entry.value().clone()))
        })
    }

    fn row(&self, key: &Slice, at: u64) -> Row {
        let Some(newest) = at.checked_sub(1) else { return Row::Unseen };
        let from = Key { key: key.clone(), number: Reverse(newest) };
        match self.changes.lower_bound(Bound::Included(&from)) {
            Some(entry) if entry.key().key == *key => match entry.value() {
                Some(value) => Row::Live(value.clone()),
                None => Row::Dead,
            },
            _ => Row::Unseen,
        }
    }
}

impl Key {
    fn newest(key: &Slice) -> Self {
        Self { key: key.clone(), number: Reverse(u64::MAX) }
    }

    fn oldest(key: &Slice) -> Self {
        Self { key: key.clone(), number: Reverse(0) }
    }
}
