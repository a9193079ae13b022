//! Gives the disk space of deleted rows back, when there is time.
//!
//! A merge removes deleted rows, but merges happen only where rows are written. So this starts a merge if
//! there are no writes.

use std::{collections::BTreeSet, mem};

use lsm_tree::Slice;

use super::{
    error::Fault,
    files::Files,
    guard::{guarded, lock},
    keys,
    memory::Row,
    tree::Tree,
};

/// All files are written again when at least a fourth of their bytes, and at least this many bytes, belong to
/// deleted rows; or when a fourth of their rows, and at least this many rows, are tombstones.
const SHARE: u64 = 4;
const WORTH_BYTES: u64 = 1 << 20;
const WORTH_ROWS: u64 = 10_000;

/// Files with more bytes than this in total are not written again: it would take many seconds, and a store of
/// that size is merged by its writes.
const LARGEST: u64 = 512 << 20;

/// Files that were not merged yet are merged when they have this many removed rows.
const WORTH_MERGING: u64 = 1_000;

/// How many rows of earlier generations are counted, at most, to see how much they are.
const COUNTED: usize = 1 << 20;

/// A start looks at most at this many rooms that were cleared.
const FOUND: usize = 1 << 16;

/// What may be deleted from the files.
#[derive(Debug, Default)]
pub(super) struct ToCollect {
    /// The rooms that were cleared, and whose files were not looked at since.
    pub(super) rooms: BTreeSet<Vec<u8>>,
    /// About how many deleted bytes were found in files that also have other rows. A merge may have removed
    /// some of them.
    counted: u64,
}

/// Removes deleted rows from the files, if there are enough of them.
pub(super) fn tidy(tree: &Tree, is_ending: &dyn Fn() -> bool) -> Result<(), Fault> {
    let rooms = mem::take(&mut lock(tree.to_collect()).rooms);
    for room in rooms {
        if is_ending() {
            return Ok(());
        }
        let size = collect(tree, &room)?;
        lock(tree.to_collect()).counted += size;
    }
    let rest = lock(tree.to_collect()).counted;
    let files = tree.files();
    let (size, tombstones) = (files.size(), files.tombstones());
    let is_worth_it = rest >= WORTH_BYTES && rest.saturating_mul(SHARE) >= size
        || tombstones >= WORTH_ROWS && tombstones.saturating_mul(SHARE) >= files.rows();
    if is_worth_it && size <= LARGEST {
        lock(tree.to_collect()).counted = 0;
        return tree.rewrite();
    }
    if files.fresh_tombstones() >= WORTH_MERGING {
        tree.merge_when(1)?;
    }
    Ok(())
}

/// Removes the files that have only earlier generations of a room. Returns about how many bytes of earlier
/// generations are left in other files.
fn collect(tree: &Tree, room: &[u8]) -> Result<u64, Fault> {
    let files = tree.files();
    let value = guarded(|| files.get(&keys::generation_of(room)))?;
    let Some(generation) = value.and_then(|value| keys::Generation::read(&value)) else {
        return Ok(0);
    };
    let (start, end) = keys::earlier(room, generation);
    if files.size_within(&start, &end) > 0 {
        tree.drop_within(&start, &end)?;
    }
    size(&tree.files(), &start, &end)
}

fn size(files: &Files, start: &[u8], end: &[u8]) -> Result<u64, Fault> {
    use std::ops::Bound::{Excluded, Included};
    let bounds = (Included(Slice::from(start)), Excluded(Slice::from(end)));
    let mut size = 0;
    for mut cursor in files.cursors(&bounds, false) {
        for _ in 0..COUNTED {
            let Some((key, row)) = guarded(|| cursor.next())? else { break };
            let value = if let Row::Live(value) = row { value.len() } else { 0 };
            size += (key.len() + value) as u64;
        }
    }
    Ok(size)
}

/// The rooms that were ever cleared. Rows of their earlier generations may still be in the files.
pub(super) fn find(files: &Files) -> Result<BTreeSet<Vec<u8>>, Fault> {
    use std::ops::Bound::{Excluded, Included};
    let (start, end) = keys::generations();
    let bounds = (Included(Slice::from(start)), Excluded(Slice::from(end)));
    let mut rooms = BTreeSet::new();
    for mut cursor in files.cursors(&bounds, false) {
        while rooms.len() < FOUND
            && let Some((key, _)) = guarded(|| cursor.next())?
        {
            rooms.extend(keys::cleared_room(&key).map(<[u8]>::to_vec));
        }
    }
    Ok(rooms)
}
