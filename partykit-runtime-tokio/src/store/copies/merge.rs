use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fs::File,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::table::{self, Blocks, Next, Version};

/// The changes in the log that the tree's files do not have: the newest value of each key. `None` if the key
/// was removed.
pub(super) type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// A file with rows.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) id: u64,
    pub(super) added: u64,
    pub(super) path: PathBuf,
    pub(super) is_missing: bool,
    /// Held open if the store is in use and may remove the file.
    held: Option<Arc<File>>,
    /// The smallest and the greatest key. `None` if the part that says so is damaged.
    pub(super) bounds: Option<(Bytes, Bytes)>,
}

/// Keys whose values are unknown, because a part of a file is broken or missing.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    /// The number of the run. What a later run has for these keys may be out of date.
    run: usize,
    pub(super) table: u64,
    /// The position in the file in bytes. `None` if the file is missing.
    pub(super) at: Option<u64>,
    pub(super) from: Bound<Bytes>,
    pub(super) to: Bound<Bytes>,
}

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    /// Whether it is certain that no newer value of this row is lost.
    pub(super) is_certain: bool,
}

/// All rows of a range of keys, in order, from the log and the files: what the tree would show.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    heads: BinaryHeap<Head>,
    log: std::collections::btree_map::Range<'a, Bytes, Option<Bytes>>,
    runs: Vec<Run<'a>>,
    end: Option<Bytes>,
    last: Option<Bytes>,
    by_number: bool,
    pub(super) holes: Vec<Hole>,
    /// How many bytes of files were read.
    pub(super) read: u64,
}

impl<'a> Merge<'a> {
    /// Reads from `start` on, and up to `end` if there is one. `by_number` is for runs whose order is not
    /// known: the numbers of the changes then decide which row is newer.
    pub(super) fn new(
        tables: &'a [Vec<Table>],
        log: &'a Changes,
        start: &[u8],
        end: Option<&[u8]>,
        by_number: bool,
    ) -> io::Result<Self> {
        let start = Bytes::copy_from_slice(start);
        let log = log.range(start.clone()..);
        let runs = tables.iter().map(|tables| Run {
            tables: tables.iter().collect(),
            start: start.clone(),
            blocks: None,
            versions: VecDeque::new(),
            last: None,
        });
        let end = end.map(Bytes::copy_from_slice);
        let mut merge = Self {
            heads: BinaryHeap::new(),
            log,
            runs: runs.collect(),
            end,
            last: None,
            by_number,
            holes: Vec::new(),
            read: 0,
        };
        for source in 0..=merge.runs.len() {
            merge.advance(source)?;
        }
        Ok(merge)
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        while let Some(head) = self.heads.pop() {
            let is_newest = self.last.as_ref() != Some(&head.key);
            let is_certain =
                !self.holes.iter().any(|hole| hole.run < head.source && hole.has(&head.key));
            self.advance(head.source)?;
            if is_newest {
                self.last = Some(head.key.clone());
                if let Some(value) = head.value {
                    return Ok(Some(Found { key: head.key, value, is_certain }));
                }
            }
        }
        Ok(None)
    }

    /// Puts the next version of a source into the heap. Source 0 is the log.
    fn advance(&mut self, source: usize) -> io::Result<()> {
        let version = match source.checked_sub(1) {
            None => self.log.next().map(|(key, value)| Version {
                key: key.clone(),
                value: value.clone(),
                number: u64::MAX,
            }),
            Some(run) => self.runs[run].next(run, &mut self.holes, &mut self.read)?,
        };
        let is_within = |key: &Bytes| self.end.as_ref().is_none_or(|end| key < end);
        if let Some(Version { key, value, number }) = version.filter(|it| is_within(&it.key)) {
            let rank = if self.by_number { 0 } else { source };
            self.heads.push(Head { key, rank, number, source, value });
        }
        Ok(())
    }
}

impl Hole {
    pub(super) fn has(&self, key: &[u8]) -> bool {
        let is_behind = match &self.from {
            Bound::Included(from) => &from[..] <= key,
            Bound::Excluded(from) => &from[..] < key,
            Bound::Unbounded => true,
        };
        let is_before = match &self.to {
            Bound::Included(to) => key <= &to[..],
            Bound::Excluded(to) => key < &to[..],
            Bound::Unbounded => true,
        };
        is_behind && is_before
    }

    /// Whether the hole can have keys from `start` on and before `end`.
    pub(super) fn touches(&self, start: &[u8], end: &[u8]) -> bool {
        let ends_before = match &self.to {
            Bound::Included(to) | Bound::Excluded(to) => &to[..] < start,
            Bound::Unbounded => false,
        };
        let begins_behind = match &self.from {
            Bound::Included(from) | Bound::Excluded(from) => &from[..] >= end,
            Bound::Unbounded => false,
        };
        !ends_before && !begins_behind
    }
}

/// The files of a run, one after another.
#[derive(Debug)]
struct Run<'a> {
    tables: VecDeque<&'a Table>,
    start: Bytes,
    blocks: Option<(&'a Table, Blocks)>,
    versions: VecDeque<Version>,
    /// The last key that was read.
    last: Option<Bytes>,
}

impl<'a> Run<'a> {
    fn next(
        &mut self,
        run: usize,
        holes: &mut Vec<Hole>,
        read: &mut u64,
    ) -> io::Result<Option<Version>> {
        loop {
            while let Some(version) = self.versions.pop_front() {
                self.last = Some(version.key.clone());
                if version.key >= self.start {
                    return Ok(Some(version));
                }
            }
            let Some((table, blocks)) = &mut self.blocks else {
                match self.tables.pop_front() {
                    Some(table) => self.open(table, run, holes)?,
                    None => return Ok(None),
                }
                continue;
            };
            let (table, before) = (*table, blocks.position());
            let next = blocks.next()?;
            *read += blocks.position() - before;
            match next {
                Next::Rows(versions) => self.versions = versions.into(),
                Next::End => self.blocks = None,
                Next::Broken(broken) => {
                    let to = match broken.last {
                        Some(last) => Bound::Included(last),
                        None => self.end_of(table),
                    };
                    let (from, at) = (self.begin_of(table), Some(broken.at));
                    holes.push(Hole { run, table: table.id, at, from, to });
                }
            }
        }
    }

    fn open(&mut self, table: &'a Table, run: usize, holes: &mut Vec<Hole>) -> io::Result<()> {
        if table.bounds.as_ref().is_some_and(|(_, last)| last < &self.start) {
            return Ok(());
        }
        match table.open()? {
            Some(file) => {
                let mut blocks = Blocks::new(&file, table.added)?;
                blocks.skip_to(&self.start)?;
                self.blocks = Some((table, blocks));
            }
            None => {
                let (from, to) = (self.begin_of(table), self.end_of(table));
                holes.push(Hole { run, table: table.id, at: None, from, to });
            }
        }
        Ok(())
    }

    /// The key behind which the next hole begins.
    fn begin_of(&self, table: &Table) -> Bound<Bytes> {
        match (&self.last, &table.bounds) {
            (Some(last), Some((first, _))) if first > last => Bound::Included(first.clone()),
            (Some(last), _) => Bound::Excluded(last.clone()),
            (None, Some((first, _))) => Bound::Included(first.clone()),
            (None, None) => Bound::Unbounded,
        }
    }

    /// The greatest key that a file can have.
    fn end_of(&self, table: &Table) -> Bound<Bytes> {
        let next = self.tables.iter().find_map(|next| next.bounds.as_ref());
        match (&table.bounds, next) {
            (Some((_, last)), _) => Bound::Included(last.clone()),
            (None, Some((first, _))) => Bound::Included(first.clone()),
            (None, None) => Bound::Unbounded,
        }
    }
}

/// The next version of a source. They are ordered for a max-heap: the smallest key comes out first, and of
/// equal keys the newest version.
#[derive(Debug)]
struct Head {
    key: Bytes,
    /// The version with the smaller rank is newer. The numbers do not matter.
    rank: usize,
    number: u64,
    source: usize,
    value: Option<Bytes>,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let age = |head: &Self| (Reverse(head.rank), head.number);
        other.key.cmp(&self.key).then_with(|| age(self).cmp(&age(other)))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl Table {
    /// Finds a file. `hold` keeps it open, so that it can be read after the store has removed it.
    pub(super) fn find(path: &Path, id: u64, added: u64, hold: bool) -> io::Result<Self> {
        let mut table =
            Self { id, added, path: path.to_owned(), is_missing: false, held: None, bounds: None };
        let file = table.open()?;
        table.is_missing = file.is_none();
        table.bounds = file.as_deref().map(table::bounds).transpose()?.flatten();
        table.held = file.filter(|_| hold);
        Ok(table)
    }

    /// `None` if the file is missing.
    pub(super) fn open(&self) -> io::Result<Option<Arc<File>>> {
        if let Some(held) = &self.held {
            return Ok(Some(held.clone()));
        }
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(Some(Arc::new(file?))),
        }
    }

    /// Whether the file can have this key.
    pub(super) fn can_have(&self, key: &[u8]) -> bool {
        self.bounds.as_ref().is_none_or(|(first, last)| first <= key && key <= last)
    }
}
