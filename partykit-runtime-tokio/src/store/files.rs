use std::ops::Bound;

use lsm_tree::{
    AbstractTree, AnyTree, Slice, Table, table::filter::standard_bloom::Builder as Filter,
};

use super::memory::Row;

/// A range of keys.
pub(super) type Bounds = (Bound<Slice>, Bound<Slice>);

/// The tree's files as they were at one moment. They stay on disk as long as this value or a clone exists.
///
/// Reading this list waits for no sync. The tree has a list too, but locks it for five syncs or more whenever
/// it changes; so this is a copy of it.
#[derive(Default)]
pub(super) struct Files {
    /// The newest come first. The files of one run follow each other, each with keys of its own.
    runs: Vec<Vec<Table>>,
    /// How many of the runs came from memory and were not merged yet.
    fresh: usize,
}

impl Files {
    /// Waits until the list of files is no longer being changed. Not for a thread that serves rooms.
    pub(super) fn of(tree: &AnyTree) -> Self {
        let version = tree.current_version();
        let runs = version.iter_levels().flat_map(|level| level.iter());
        Self { fresh: version.l0().run_count(), runs: runs.map(|run| run.to_vec()).collect() }
    }

    pub(super) fn fresh(&self) -> usize {
        self.fresh
    }

    pub(super) fn count(&self) -> usize {
        self.tables().count()
    }

    /// The bytes of all files.
    pub(super) fn size(&self) -> u64 {
        self.tables().map(|table| table.metadata.file_size).sum()
    }

    /// How many rows the files have. Removed and replaced rows count too.
    pub(super) fn rows(&self) -> u64 {
        self.tables().map(|table| table.metadata.item_count).sum()
    }

    /// How many of the rows only say that a row was removed.
    pub(super) fn tombstones(&self) -> u64 {
        self.tables().map(|table| table.metadata.tombstone_count).sum()
    }

    /// How many of the tombstones are in files that were not merged yet.
    pub(super) fn fresh_tombstones(&self) -> u64 {
        let fresh = self.runs[..self.fresh].iter().flatten();
        fresh.map(|table| table.metadata.tombstone_count).sum()
    }

    /// The bytes of the files that have only keys of this range.
    pub(super) fn size_within(&self, start: &[u8], end: &[u8]) -> u64 {
        let is_within = |table: &&Table| {
            let range = &table.metadata.key_range;
            &range.min()[..] >= start && &range.max()[..] < end
        };
        self.tables().filter(is_within).map(|table| table.metadata.file_size).sum()
    }

    pub(super) fn get(&self, key: &[u8]) -> lsm_tree::Result<Option<Slice>> {
        let mut hash = None;
        for run in &self.runs {
            let index = run.partition_point(|table| &table.metadata.key_range.max()[..] < key);
            let table = run.get(index);
            let Some(table) = table.filter(|table| &table.metadata.key_range.min()[..] <= key)
            else {
                continue;
            };
            let hash = *hash.get_or_insert_with(|| Filter::get_hash(key));
            if let Some(row) = table.get(key, u64::MAX, hash)? {
                return Ok((!row.is_tombstone()).then_some(row.value));
            }
        }
        Ok(None)
    }

    /// The runs that can have rows of a range, the newest first.
    pub(super) fn cursors(&self, bounds: &Bounds, reverse: bool) -> Vec<Cursor> {
        let cursor = |run: &Vec<Table>| {
            let begin = match &bounds.0 {
                Bound::Unbounded => 0,
                Bound::Included(key) => {
                    run.partition_point(|table| table.metadata.key_range.max() < key)
                }
                Bound::Excluded(key) => {
                    run.partition_point(|table| table.metadata.key_range.max() <= key)
                }
            };
            let end = match &bounds.1 {
                Bound::Unbounded => run.len(),
                Bound::Included(key) => {
                    run.partition_point(|table| table.metadata.key_range.min() <= key)
                }
                Bound::Excluded(key) => {
                    run.partition_point(|table| table.metadata.key_range.min() < key)
                }
            };
            let mut tables = run.get(begin..end).filter(|tables| !tables.is_empty())?.to_vec();
            if !reverse {
                tables.reverse();
            }
            Some(Cursor { tables, rows: None, bounds: bounds.clone(), reverse })
        };
        self.runs.iter().filter_map(cursor).collect()
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.runs.iter().flatten()
    }
}

/// The rows of a run, one by one. A file has one change of a key at most: see [`Tree`](super::tree::Tree).
pub(super) struct Cursor {
    /// The files that are still to be read, the next one last.
    tables: Vec<Table>,
    rows: Option<Box<dyn DoubleEndedIterator<Item = lsm_tree::Result<FileRow>> + Send>>,
    bounds: Bounds,
    reverse: bool,
}

/// A key, and what a file says of it.
pub(super) type FileRow = (Slice, Row);

impl Cursor {
    pub(super) fn next(&mut self) -> lsm_tree::Result<Option<FileRow>> {
        loop {
            if let Some(rows) = &mut self.rows {
                let row = if self.reverse { rows.next_back() } else { rows.next() };
                match row {
                    Some(row) => return row.map(Some),
                    None => self.rows = None,
                }
            }
            let Some(table) = self.tables.pop() else { return Ok(None) };
            let rows = table.range(self.bounds.clone()).map(|row| {
                row.map(|row| {
                    let is_dead = row.is_tombstone();
                    (row.key.user_key, if is_dead { Row::Dead } else { Row::Live(row.value) })
                })
            });
            self.rows = Some(Box::new(rows));
        }
    }
}
