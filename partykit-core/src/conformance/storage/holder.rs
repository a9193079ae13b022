use std::{
    collections::BTreeMap,
    fmt::{Debug, Display},
    ops::Bound,
};

use bytes::Bytes;

use crate::{Backend, BackendError, Batch, Epoch, KeyRange, RoomAddress, RoomId};

pub(super) type Rows = Vec<(Bytes, Bytes)>;

pub(super) const EVERYTHING: KeyRange = (Bound::Unbounded, Bound::Unbounded);

/// Who holds the newest claim of a room.
pub(super) struct Holder<'a, B: ?Sized> {
    pub(super) backend: &'a B,
    pub(super) room: RoomAddress,
    pub(super) epoch: Epoch,
    pub(super) found_empty: bool,
}

impl<'a, B: Backend + ?Sized> Holder<'a, B> {
    pub(super) async fn claim(backend: &'a B, room: &RoomAddress) -> Self {
        let claim = done("claim", backend.claim(room).await);
        Self { backend, room: room.clone(), epoch: claim.epoch, found_empty: claim.empty }
    }

    /// As if `epoch` had come from a claim.
    pub(super) fn with_epoch(backend: &'a B, room: &RoomAddress, epoch: Epoch) -> Self {
        Self { backend, room: room.clone(), epoch, found_empty: false }
    }

    pub(super) async fn claim_anew(&mut self) {
        *self = Self::claim(self.backend, &self.room.clone()).await;
    }

    pub(super) async fn commit(&self, batch: Batch) {
        done("commit", self.try_commit(batch).await);
    }

    pub(super) async fn try_commit(&self, batch: Batch) -> Result<(), BackendError> {
        self.backend.commit(&self.room, self.epoch, batch).await
    }

    pub(super) fn release(&self) {
        self.backend.release(&self.room, self.epoch);
    }

    pub(super) async fn read(&self, keys: &[Bytes]) -> Vec<Option<Bytes>> {
        let values = done("read", self.backend.read(&self.room, keys).await);
        assert_eq!(values.len(), keys.len(), "a read gives one answer for every key");
        values
    }

    pub(super) async fn scan(&self, range: &KeyRange, reverse: bool, limit: usize) -> Rows {
        done("scan", self.backend.scan(&self.room, range, reverse, limit).await)
    }

    pub(super) async fn rows(&self) -> Rows {
        self.scan(&EVERYTHING, false, usize::MAX).await
    }

    /// That the commit of this claim is refused and changes nothing.
    pub(super) async fn assert_is_fenced(&self, batch: Batch) {
        let before = self.rows().await;
        match self.try_commit(batch).await {
            Err(BackendError::StaleEpoch(epoch)) => assert_eq!(
                epoch, self.epoch,
                "contract line 4 (fencing): the error names the epoch that is refused"
            ),
            other => panic!(
                "contract line 4 (fencing): a commit with an older epoch was answered {other:?}"
            ),
        }
        let broken = "contract line 4 (fencing): a refused commit changed something";
        assert_rows(&self.rows().await, &before, broken);
    }
}

/// Panics with the first row that differs.
#[track_caller]
pub(super) fn assert_rows(
    found: &[(Bytes, Bytes)],
    expected: &[(Bytes, Bytes)],
    broken: impl Display,
) {
    let differs = |at: &usize| found.get(*at) != expected.get(*at);
    if let Some(at) = (0..found.len().max(expected.len())).find(differs) {
        panic!(
            "{broken}: {} rows were found and {} expected; row {at} is {}, and should be {}",
            found.len(),
            expected.len(),
            brief(found.get(at)),
            brief(expected.get(at)),
        );
    }
}

fn brief(row: Option<&(Bytes, Bytes)>) -> String {
    let clip = |bytes: &Bytes| match bytes.len() {
        0..=32 => format!("{bytes:?}"),
        length => format!("{:?}.. ({length} bytes)", bytes.slice(..32)),
    };
    row.map_or("none".into(), |(key, value)| format!("{} = {}", clip(key), clip(value)))
}

pub(super) fn address(party: &str, room: &str) -> RoomAddress {
    match RoomId::new(room) {
        Ok(id) => RoomAddress::new(party, id),
        Err(error) => panic!("{error}"),
    }
}

/// A batch of puts.
pub(super) fn puts<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    rows: impl IntoIterator<Item = (K, V)>,
) -> Batch {
    let writes = rows.into_iter().map(|(key, value)| (bytes(key), Some(bytes(value))));
    Batch { writes: writes.collect(), ..Batch::default() }
}

/// A batch of deletes.
pub(super) fn deletes<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Batch {
    let writes = keys.into_iter().map(|key| (bytes(key), None)).collect();
    Batch { writes, ..Batch::default() }
}

/// The same batch, but with everything removed first.
pub(super) fn cleared(batch: Batch) -> Batch {
    Batch { clear: true, ..batch }
}

pub(super) fn bytes(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

pub(super) fn row(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> (Bytes, Bytes) {
    (bytes(key), bytes(value))
}

/// What the contract says that `batch` does.
pub(super) fn apply(rows: &mut BTreeMap<Bytes, Bytes>, batch: &Batch) {
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

/// What the contract says that a scan finds.
pub(super) fn expect_scan(
    rows: &BTreeMap<Bytes, Bytes>,
    range: &KeyRange,
    reverse: bool,
    limit: usize,
) -> Rows {
    let inside = rows.iter().filter(|(key, _)| std::ops::RangeBounds::contains(range, *key));
    let inside = inside.map(|(key, value)| (key.clone(), value.clone()));
    if reverse { inside.rev().take(limit).collect() } else { inside.take(limit).collect() }
}

pub(super) fn done<T>(call: &str, result: Result<T, impl Debug>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a {call} failed that had no reason to: {error:?}"),
    }
}

/// Keys at the edges of the order, sorted.
pub(super) fn odd_keys() -> Vec<Bytes> {
    let mut keys: Vec<Bytes> = [
        &b""[..],
        b"\x00",
        b"\x00\x00",
        b"\x00\x01",
        b"\x00\xFF",
        b"\x01",
        b"%",
        b"/",
        b"10",
        b"9",
        b"A",
        b"a",
        b"a\x00",
        b"a\x00\x00",
        b"a/b",
        b"aa",
        b"b",
        b"\x7F",
        b"\x80",
        "é".as_bytes(),
        "e\u{301}".as_bytes(),
        b"\xFE\xFF",
        b"\xFF",
        b"\xFF\x00",
        b"\xFF\xFE",
        b"\xFF\xFF",
        b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        &[0x00; LONGEST_KEY],
        &[b'a'; LONGEST_KEY - 1],
        &[b'a'; LONGEST_KEY],
        &[0xFF; LONGEST_KEY],
    ]
    .map(bytes)
    .into();
    keys.sort();
    keys
}

/// The longest key that core makes: 2,048 bytes of the user's behind one of its own.
const LONGEST_KEY: usize = 2049;
