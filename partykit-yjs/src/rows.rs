//! How a document is stored: as a snapshot, and the changes since.
//!
//! | key | value |
//! |---|---|
//! | `yjs:m` | what the snapshot weighs: its bytes (8) and its nested types (4), little-endian |
//! | `yjs:s:0000`, .. | the snapshot, an update of Yjs's first format, in pieces of up to 1 MiB |
//! | `yjs:u:0000000000000000`, .. | a change: a header of 16 bytes, then an update of Yjs's first format |
//! | `yjs:bad:` and a change's key | an update that could not be read when the snapshot was made |
//!
//! The header has the sums over all changes up to this one: their number (4), their bytes (8) and their
//! nested types (4), little-endian. So a room that has just woken reads only the last row before it appends
//! the next one.

use bytes::Bytes;
use partykit_core::{List, Room, StorageError};

const META: &str = "yjs:m";
const SNAPSHOT: &str = "yjs:s:";
const CHANGE: &str = "yjs:u:";
const BAD: &str = "yjs:bad:";

/// The most bytes of a piece of the snapshot, and of a change.
pub(crate) const PIECE: usize = 1 << 20;
const HEADER: usize = 16;

/// How many keys are deleted in one call.
const KEYS: usize = 128;

/// The sums over what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// The number of the next change.
    next: u64,
    /// How many changes there are, and their bytes.
    pub(crate) changes: u32,
    pub(crate) change_bytes: u64,
    pub(crate) snapshot_bytes: u64,
    /// How many nested types were made, deleted ones included.
    change_types: u32,
    snapshot_types: u32,
}

impl Weight {
    pub(crate) async fn read(room: &Room) -> Result<Self, StorageError> {
        let storage = room.storage();
        let mut weight = Self::default();
        if let Some(meta) = storage.get_bytes(META).await? {
            weight.snapshot_bytes = number(&meta, 0, 8);
            weight.snapshot_types = number(&meta, 8, 4) as u32;
        }
        let last = List::new().prefix(CHANGE).reverse().limit(1);
        if let Some((key, row)) = storage.list_bytes(last).await?.pop() {
            weight.next = position(&key).saturating_add(1);
            weight.changes = number(&row, 0, 4) as u32;
            weight.change_bytes = number(&row, 4, 8);
            weight.change_types = number(&row, 12, 4) as u32;
        }
        Ok(weight)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.snapshot_bytes + self.change_bytes
    }

    pub(crate) fn types(&self) -> u32 {
        self.snapshot_types.saturating_add(self.change_types)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes == 0 && self.snapshot_bytes == 0
    }

    /// Stores a change of at most [`PIECE`] bytes, which makes `types` nested types.
    pub(crate) fn append(
        &mut self,
        room: &Room,
        update: &[u8],
        types: u32,
    ) -> Result<(), StorageError> {
        let mut next = *self;
        next.next += 1;
        next.changes = next.changes.saturating_add(1);
        next.change_bytes += update.len() as u64;
        next.change_types = next.change_types.saturating_add(types);
        let mut row = Vec::with_capacity(HEADER + update.len());
        row.extend(next.changes.to_le_bytes());
        row.extend(next.change_bytes.to_le_bytes());
        row.extend(next.change_types.to_le_bytes());
        row.extend(update);
        room.storage().put_bytes(&format!("{CHANGE}{:016x}", self.next), row)?;
        *self = next;
        Ok(())
    }

    /// Stores the whole document as a snapshot, and removes everything else.
    pub(crate) fn replace(
        &mut self,
        room: &Room,
        snapshot: &[u8],
        types: u32,
    ) -> Result<(), StorageError> {
        let storage = room.storage();
        for (n, piece) in snapshot.chunks(PIECE).enumerate() {
            storage.put_bytes(&format!("{SNAPSHOT}{n:04x}"), piece.to_vec())?;
        }
        let mut meta = (snapshot.len() as u64).to_le_bytes().to_vec();
        meta.extend(types.to_le_bytes());
        storage.put_bytes(META, meta)?;
        let pieces = snapshot.len().div_ceil(PIECE) as u64;
        let old = self.snapshot_bytes.div_ceil(PIECE as u64);
        let surplus = (pieces..old).map(|n| format!("{SNAPSHOT}{n:04x}"));
        let first = self.next.saturating_sub(self.changes.into());
        let changes = (first..self.next).map(|n| format!("{CHANGE}{n:016x}"));
        let gone: Vec<String> = surplus.chain(changes).collect();
        for keys in gone.chunks(KEYS) {
            storage.delete_many(keys)?;
        }
        let snapshot_bytes = snapshot.len() as u64;
        *self = Self { snapshot_bytes, snapshot_types: types, ..Self::default() };
        Ok(())
    }
}

/// The snapshot, empty if there is none, and the changes since.
pub(crate) async fn read(room: &Room) -> Result<(Vec<u8>, Vec<(String, Bytes)>), StorageError> {
    let storage = room.storage();
    let pieces = storage.list_bytes(List::new().prefix(SNAPSHOT)).await?;
    let pieces: Vec<&[u8]> = pieces.iter().map(|(_, piece)| &**piece).collect();
    let snapshot = pieces.concat();
    let mut changes = storage.list_bytes(List::new().prefix(CHANGE)).await?;
    for (_, row) in &mut changes {
        *row = row.slice(HEADER.min(row.len())..);
    }
    Ok((snapshot, changes))
}

/// Keeps changes that cannot be read, under other keys. The snapshot replaces only the changes that can be
/// read.
pub(crate) fn set_aside(room: &Room, bad: &[(String, Bytes)]) -> Result<(), StorageError> {
    for (key, row) in bad {
        room.storage().put_bytes(&format!("{BAD}{key}"), row.clone())?;
    }
    Ok(())
}

fn position(key: &str) -> u64 {
    key.strip_prefix(CHANGE).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

fn number(row: &[u8], at: usize, length: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(found) = row.get(at..at + length) {
        bytes[..length].copy_from_slice(found);
    }
    u64::from_le_bytes(bytes)
}
