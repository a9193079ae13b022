use std::{
    fmt,
    io::ErrorKind,
    mem,
    ops::Bound,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, InternalValue, SequenceNumberCounter,
    Slice, ValueType, compaction::Leveled, config::PinningPolicy,
};
use partykit_core::RoomAddress;

use super::{
    collect::ToCollect,
    error::Fault,
    files::Files,
    gaps::Gaps,
    generations::{Collector, Generations},
    guard::{guarded, lock, quietly},
    keys, leftovers,
    memory::{Memory, Row},
    options::StoreOptions,
    record::Change,
    replay::Mark,
    rig,
    rows::Rows,
};

/// This many new files are merged into larger ones.
const FRESH_FILES: u8 = 4;

/// About how many bytes a merged file has.
const MERGED_FILE: u64 = 16 << 20;

/// Merges need no older versions: a reader of an older snapshot holds the files of its time.
const NOW: u64 = u64::MAX;

/// All rows of all rooms, in order: a log-structured merge tree. The latest changes are in memory, and in the
/// log. The rest is in files. A file is never changed, only replaced.
///
/// The files are those of the crate `lsm-tree`. The memory and the view of both are our own: `lsm-tree` locks
/// its own ones while it syncs, and then readers, writers and everything else on their threads would wait.
///
/// What must stay true:
///
/// * **A snapshot has all that it reads**: memory and files as they were at one moment, and the number of
///   the first change that it does not see, taken together. Nothing in it ever changes, except that the
///   newest memory gets changes with numbers that it does not see.
/// * **A reader that has a file sees every change in it.** Memory is put aside when all of its changes are
///   visible, and a view with the file comes later still. So a file needs only the newest change of a key,
///   and a merge can forget all older ones, even while older files are still being read.
/// * **Memory goes when its file is there**, in one step: no view lacks both. Memories become files in
///   the order in which they were put aside.
pub(super) struct Tree {
    #[cfg(test)]
    faults: super::faults::Faults,
    files: AnyTree,
    /// The number of the next change. Held while changes are made, so that no reader sees a part of them.
    next: Mutex<u64>,
    /// Never held while anything waits.
    current: Mutex<Current>,
    /// Held while memory is written to a file, until the list of files has the file.
    flushing: Mutex<()>,
    /// Held while a newer view is shown, so that an older view never replaces it.
    showing: Mutex<()>,
    /// Views that were shown before. The threads of upkeep drop them, because dropping the last one may
    /// remove files.
    past: Mutex<Vec<Arc<View>>>,
    gaps: Gaps,
    collector: Collector,
    /// How many rooms were cleared since memory was last put aside.
    cleared: AtomicU64,
    to_collect: Mutex<ToCollect>,
}

struct Current {
    view: Arc<View>,
    /// New snapshots see the changes with smaller numbers.
    visible: u64,
}

/// The parts of a tree at one moment.
#[derive(Clone, Default)]
pub(super) struct View {
    active: Arc<Memory>,
    /// The memories that were put aside, the newest first.
    sealed: Vec<Arc<Memory>>,
    files: Arc<Files>,
}

impl View {
    /// All memories, the newest first.
    pub(super) fn memories(&self) -> impl Iterator<Item = &Arc<Memory>> {
        std::iter::once(&self.active).chain(&self.sealed)
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }
}

impl Tree {
    /// Opens the tree, whose list of files [is checked](super::list). Makes it if it is not there.
    pub(super) fn open(path: &Path, options: &StoreOptions) -> Result<Arc<Self>, Fault> {
        let collector = Collector::default();
        let (next, visible) = <(SequenceNumberCounter, SequenceNumberCounter)>::default();
        let config = Config::new(path, next, visible)
            .use_cache(Arc::new(Cache::with_capacity_bytes(options.cache_bytes())))
            .use_descriptor_table(Some(Arc::new(DescriptorTable::new(options.open_files()))))
            .with_compaction_filter_factory(Some(Arc::new(collector.clone())))
            // Indices and filters are read part by part when they are needed, and share the cache of all
            // blocks. So opening reads none of them, and memory does not grow with the files.
            .index_block_partitioning_policy(PinningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(false))
            .filter_block_partitioning_policy(PinningPolicy::all(true))
            .filter_block_pinning_policy(PinningPolicy::all(false));
        let files = quietly(|| guarded(|| config.open()))?;
        let next = files.get_highest_seqno().map_or(1, |highest| highest + 1);
        let tree = Self {
            files,
            next: Mutex::new(next),
            current: Mutex::new(Current { view: Arc::default(), visible: next }),
            #[cfg(test)]
            faults: super::faults::Faults::of(&path.with_file_name("log")),
            flushing: Mutex::default(),
            showing: Mutex::default(),
            past: Mutex::default(),
            gaps: Gaps::default(),
            collector,
            cleared: AtomicU64::new(0),
            to_collect: Mutex::default(),
        };
        tree.show(None)?;
        Ok(Arc::new(tree))
    }

    /// The tree as it is now.
    pub(super) fn snapshot(self: &Arc<Self>) -> Snapshot {
        let current = lock(&self.current);
        Snapshot { view: current.view.clone(), at: current.visible, tree: self.clone() }
    }

    /// Makes changes. Readers see all of them at once.
    pub(super) fn change<'a>(&self, changes: impl Iterator<Item = Change<'a>>) {
        #[cfg(test)]
        self.faults.trip("change");
        let mut next = lock(&self.next);
        let memory = lock(&self.current).view.active.clone();
        for (key, value) in changes {
            let key = Slice::from(key);
            if value.is_some() {
                // Invariant: a put is noted before it is visible, so that no gap hides it.
                self.gaps.put(*next, &key);
                if keys::cleared_room(&key).is_some() {
                    self.cleared.fetch_add(1, Ordering::Relaxed);
                }
            }
            memory.insert(key, value.map(Slice::from), *next);
        }
        *next += 1;
        lock(&self.current).visible = *next;
    }

    /// How many bytes are only in the memory that is written to.
    pub(super) fn in_memory(&self) -> u64 {
        #[cfg(test)]
        self.faults.trip("in_memory");
        lock(&self.current).view.active.size()
    }

    /// How many rooms were cleared by changes that are only in memory.
    pub(super) fn cleared(&self) -> u64 {
        self.cleared.load(Ordering::Relaxed)
    }

    /// How many runs of files wait to be merged.
    pub(super) fn fresh_files(&self) -> usize {
        lock(&self.current).view.files.fresh()
    }

    /// How much of the log the tree has in its files and memory.
    pub(super) fn mark(self: &Arc<Self>) -> Result<Mark, Fault> {
        #[cfg(test)]
        self.faults.trip("mark");
        let Some(value) = self.snapshot().get(keys::MARK)? else { return Ok(Mark::default()) };
        let (number, file) = value.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let file = file.try_into().map_err(|_| {
            Fault::damage("the row that says how much of the log the tree has cannot be read")
        })?;
        Ok(Mark { number: u64::from_le_bytes(*number), file: u64::from_le_bytes(file) })
    }

    /// Puts the current memory aside, for [`Tree::flush`]. The log has its changes up to `mark`.
    pub(super) fn seal(&self, mark: Mark) {
        #[cfg(test)]
        self.faults.trip("seal");
        let value = [mark.number.to_le_bytes(), mark.file.to_le_bytes()].concat();
        self.change([(keys::MARK, Some(&value[..]))].into_iter());
        self.cleared.store(0, Ordering::Relaxed);
        // No change is made while this lock is held.
        let _changing = lock(&self.next);
        self.replace_view(|view| {
            let sealed = mem::take(&mut view.active);
            view.sealed.insert(0, sealed);
        });
    }

    /// Writes the oldest memory that was put aside to a file, durably. Only one thread calls this.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        #[cfg(test)]
        self.faults.trip("flush");
        let view = lock(&self.current).view.clone();
        let Some(memory) = view.sealed.last() else { return Ok(()) };
        let files = &view.files;
        let mut cleared = Vec::new();
        let mut generations =
            Generations::new(|key: &[u8]| match memory.get(&Slice::from(key), NOW) {
                Some(Row::Live(value)) => Ok(Some(value)),
                _ => files.get(key),
            });
        let rows = memory.newest().filter_map(|(key, number, value)| {
            if let Some(room) = keys::cleared_room(&key) {
                cleared.push(room.to_vec());
            }
            // Not written: a row that was put and removed since the last file, and a row of an earlier
            // generation. This hides nothing wrongly: all older changes are in the files, and they have no
            // live row with this key.
            let is_needed = match &value {
                Some(_) => Ok(true),
                None => files.get(&key).map(|row| row.is_some()),
            };
            let is_needed = is_needed.and_then(|is| Ok(is && !generations.is_over(&key)?));
            match is_needed {
                Ok(false) => None,
                Ok(true) => Some(Ok(match value {
                    Some(value) => {
                        InternalValue::from_components(key, value, number, ValueType::Value)
                    }
                    None => InternalValue::new_tombstone(key, number),
                })),
                Err(error) => Some(Err(error)),
            }
        });
        let _flushing = lock(&self.flushing);
        guarded(|| {
            if let Some((tables, _)) = self.files.flush_to_tables(rows)? {
                self.files.register_tables(&tables, None, None, &[], NOW)?;
            }
            Ok(())
        })?;
        lock(&self.to_collect).rooms.extend(cleared);
        self.show(Some(memory))
    }

    /// Merges files if there are too many. Returns whether there were.
    pub(super) fn merge(&self) -> Result<bool, Fault> {
        #[cfg(test)]
        self.faults.trip("merge");
        self.merge_when(FRESH_FILES)
    }

    pub(super) fn merge_when(&self, fresh: u8) -> Result<bool, Fault> {
        let before = self.files.current_version().id();
        let strategy = Leveled::default()
            .with_l0_threshold(fresh)
            .with_table_target_size(rig::size(MERGED_FILE));
        self.merged(|| self.files.compact(Arc::new(strategy), NOW).map(drop))?;
        let has_changed = self.files.current_version().id() != before;
        if has_changed {
            self.show(None)?;
        }
        Ok(has_changed)
    }

    /// Writes all files again as one run, without removed rows.
    pub(super) fn rewrite(&self) -> Result<(), Fault> {
        self.merged(|| self.files.major_compact(rig::size(MERGED_FILE), NOW).map(drop))?;
        self.show(None)
    }

    /// Runs a merge. If the disk has no space for it, returns [`Fault::NoSpace`] and leaves the tree as it
    /// was.
    fn merged(&self, merge: impl FnOnce() -> lsm_tree::Result<()>) -> Result<(), Fault> {
        let path = &self.files.tree_config().path;
        let before = leftovers::tables(path).map_err(Fault::io("read"))?;
        let result = quietly(|| guarded(merge));
        if let Err(Fault::Io(_, error)) = &result
            && matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        {
            let _flushing = lock(&self.flushing);
            if leftovers::remove(path, &before, &self.files).unwrap_or(false)
                && let Err(Fault::Io(_, error)) = result
            {
                return Err(Fault::NoSpace(error));
            }
        }
        result
    }

    /// Removes the files that have only keys of a range.
    pub(super) fn drop_within(&self, start: &[u8], end: &[u8]) -> Result<(), Fault> {
        quietly(|| guarded(|| self.files.drop_range(start..end)))?;
        self.show(None)
    }

    /// Holds the lock of the list of files meanwhile, as the code that syncs files does.
    #[cfg(test)]
    pub(super) fn while_locked(&self, during: impl FnOnce()) {
        let _list = self.files.get_version_history_lock();
        during();
    }

    /// The files as they are now.
    pub(super) fn files(&self) -> Arc<Files> {
        lock(&self.current).view.files.clone()
    }

    /// What may be deleted from the files.
    pub(super) fn to_collect(&self) -> &Mutex<ToCollect> {
        &self.to_collect
    }

    /// Drops old views that have no reader left. Returns whether some still have a reader.
    pub(super) fn forget(&self) -> bool {
        #[cfg(test)]
        self.faults.trip("forget");
        let mut past = lock(&self.past);
        let (seen, unseen) =
            mem::take(&mut *past).into_iter().partition(|view| Arc::strong_count(view) > 1);
        *past = seen;
        let is_seen = !past.is_empty();
        drop(past);
        drop::<Vec<_>>(unseen);
        is_seen
    }

    /// Lets new snapshots see the newest files, instead of the memory that they came from.
    fn show(&self, written: Option<&Arc<Memory>>) -> Result<(), Fault> {
        #[cfg(test)]
        self.faults.trip("show");
        let _showing = lock(&self.showing);
        let files = Arc::new(guarded(|| Ok(Files::of(&self.files)))?);
        self.collector.publish(files.clone());
        self.replace_view(|view| {
            view.files = files;
            if let Some(written) = written {
                view.sealed.retain(|memory| !Arc::ptr_eq(memory, written));
            }
        });
        self.forget();
        Ok(())
    }

    fn replace_view(&self, change: impl FnOnce(&mut View)) {
        let mut current = lock(&self.current);
        let mut view = (*current.view).clone();
        change(&mut view);
        let past = mem::replace(&mut current.view, Arc::new(view));
        drop(current);
        lock(&self.past).push(past);
    }
}

/// The tree as it was at one moment.
#[derive(Clone)]
pub(super) struct Snapshot {
    view: Arc<View>,
    /// The number of the first change that the snapshot does not see.
    at: u64,
    tree: Arc<Tree>,
}

impl Snapshot {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Fault> {
        if key.len() > keys::MAX {
            return Ok(None);
        }
        let key = Slice::from(key);
        let view = self.view();
        match view.memories().find_map(|memory| memory.get(&key, self.at())) {
            Some(Row::Live(value)) => Ok(Some(value)),
            Some(_) => Ok(None),
            None => guarded(|| view.files.get(&key)),
        }
    }

    /// The current generation of a room's rows.
    pub(super) fn generation(&self, room: &RoomAddress) -> Result<keys::Generation, Fault> {
        let Some(value) = self.get(&keys::generation(room))? else {
            return Ok(keys::Generation::default());
        };
        keys::Generation::read(&value)
            .ok_or_else(|| Fault::damage("the generation of a room is not a number"))
    }

    /// The rows of a range whose end is not before its start.
    pub(super) fn range(&self, range: keys::Range, reverse: bool) -> Rows {
        let bounds = (range.0.map(Slice::from), range.1.map(Slice::from));
        Rows::new(self.clone(), bounds, reverse)
    }

    /// The wake-ups from the first one on.
    pub(super) fn wakes(&self) -> Rows {
        self.wakes_from(Bound::Included(keys::wakes().0))
    }

    /// The wake-ups behind one.
    pub(super) fn wakes_behind(&self, mut key: Vec<u8>) -> Rows {
        key.truncate(keys::MAX);
        self.wakes_from(Bound::Excluded(key))
    }

    pub(super) fn at(&self) -> u64 {
        if rig::forgets_past() { lock(&self.tree.current).visible } else { self.at }
    }

    pub(super) fn view(&self) -> Arc<View> {
        if rig::forgets_past() { lock(&self.tree.current).view.clone() } else { self.view.clone() }
    }

    pub(super) fn gaps(&self) -> &Gaps {
        &self.tree.gaps
    }

    fn wakes_from(&self, start: Bound<Vec<u8>>) -> Rows {
        self.range((start, Bound::Excluded(keys::wakes().1)), false)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("files", &self.files().count()).finish_non_exhaustive()
    }
}
