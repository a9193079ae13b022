//! What a store holds, and what is on its way to it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::Batch;

/// The rows of a store.
pub(super) type Rows = BTreeMap<Bytes, Bytes>;

/// The row with the number of the last write. Every write changes it: it tells how far a store has come.
pub(super) const LAST: &[u8] = b"last";

/// What became durable together: a handler's writes, or those up to a `sync`.
pub(super) struct Segment {
    pub(super) last: u64,
    pub(super) writes: Vec<(u64, Batch)>,
}

impl Segment {
    /// What these segments change together.
    pub(super) fn merged(segments: &[Self]) -> Batch {
        let mut merged = Batch::default();
        let writes = segments.iter().flat_map(|segment| &segment.writes);
        writes.for_each(|(_, batch)| merged.merge(batch.clone()));
        merged
    }

    /// What the room itself writes.
    pub(super) fn new(number: u64, batch: Batch) -> Self {
        Self { last: number, writes: vec![(number, batch)] }
    }

    /// What the store holds once this segment and those before it are in it.
    pub(super) fn fold(rows: &Rows, segments: &[Self]) -> Rows {
        let mut rows = rows.clone();
        let writes = segments.iter().flat_map(|segment| &segment.writes);
        writes.for_each(|(_, batch)| apply(&mut rows, batch));
        rows
    }
}

pub(super) fn apply(rows: &mut Rows, batch: &Batch) {
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

/// The number of the last write that these rows hold.
pub(super) fn last_write(rows: &Rows) -> u64 {
    rows.get(LAST).map_or(0, |value| parse(value))
}

pub(super) fn parse(number: &[u8]) -> u64 {
    std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).expect("a number")
}
