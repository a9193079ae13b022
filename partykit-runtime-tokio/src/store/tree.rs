use std::{
    collections::BTreeMap,
    fmt, fs, io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SequenceNumberCounter,
    compaction::Leveled, config::PinningPolicy,
};
use partykit_core::RoomAddress;
use xxhash_rust::xxh3::xxh3_128;

use super::{error::Fault, keys, record::Change, replay::Mark, rig};

/// How many bytes of changes are in memory before they go to a file. Counted as the tree does it, so
/// the process needs about twice as much; and for a moment there can be three of this size. A small one
/// makes opening quick, a large one would save rewriting.
pub(super) const IN_MEMORY: u64 = 4 << 20;

/// The files of the tree that were read last stay in memory up to here, 4 KiB blocks of them. Rooms
/// keep what they use, so what is read again soon is small.
const CACHE: u64 = 4 << 20;

/// How many of the tree's files are open at a time, at most.
const DESCRIPTORS: usize = 64;

/// When so many files have come from memory, they are merged into larger ones.
const FRESH_FILES: u8 = 4;

/// About how long a merged file is.
const MERGED_FILE: u64 = 16 << 20;

/// All rows of all rooms, in order: a log-structured merge tree. What was changed last is in memory,
/// and in the log; the rest is in files that are never changed, only replaced.
pub(super) struct Tree {
    tree: AnyTree,
    /// The next number of a change.
    next: SequenceNumberCounter,
    /// Changes with smaller numbers are seen.
    visible: AtomicU64,
    /// Held while changes are made, so that nobody sees a part of them.
    changing: Mutex<()>,
    /// How many look at the tree as it was before the change with this number.
    snapshots: Mutex<BTreeMap<u64, usize>>,
    first_wake: Mutex<FirstWake>,
}

/// Before which key there is no wake-up. Without it, whoever asks for the first one would step over all
/// that were removed, which are in the tree until its files are merged.
struct FirstWake {
    key: Vec<u8>,
    /// Counts how often the key went down.
    lowered: u64,
}

impl Tree {
    /// Opens the tree, or makes it unless it must be there.
    pub(super) fn open(path: &Path, must_exist: bool) -> Result<Arc<Self>, Fault> {
        check_list_of_files(path, must_exist)?;
        let next = SequenceNumberCounter::default();
        let visible = SequenceNumberCounter::default();
        let config = Config::new(path, next.clone(), visible)
            .use_cache(Arc::new(Cache::with_capacity_bytes(CACHE)))
            .use_descriptor_table(Some(Arc::new(DescriptorTable::new(DESCRIPTORS))))
            // Indices and filters are read when they are asked, part by part, and stay where all blocks
            // do: opening reads none of them, and memory does not grow with the files.
            .index_block_partitioning_policy(PinningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(false))
            .filter_block_partitioning_policy(PinningPolicy::all(true))
            .filter_block_pinning_policy(PinningPolicy::all(false));
        let tree = guarded(|| config.open())?;
        next.fetch_max(tree.get_highest_seqno().map_or(1, |highest| highest + 1));
        Ok(Arc::new(Self {
            tree,
            visible: AtomicU64::new(next.get()),
            next,
            changing: Mutex::default(),
            snapshots: Mutex::default(),
            first_wake: Mutex::new(FirstWake { key: keys::wakes().0, lowered: 0 }),
        }))
    }

    /// The tree as it is now.
    pub(super) fn snapshot(self: &Arc<Self>) -> Snapshot {
        let mut snapshots = lock(&self.snapshots);
        let at = self.visible.load(Ordering::Acquire);
        *snapshots.entry(at).or_default() += 1;
        Snapshot { tree: self.clone(), at }
    }

    /// Makes changes, all at once for whoever looks.
    pub(super) fn change<'a>(&self, changes: impl Iterator<Item = Change<'a>>) {
        let _changing = lock(&self.changing);
        let number = self.next.next();
        for (key, value) in changes {
            match value {
                Some(value) => {
                    self.lower_first_wake(key);
                    self.tree.insert(key, value, number);
                }
                None => {
                    self.tree.remove(key, number);
                }
            }
        }
        self.visible.store(number + 1, Ordering::Release);
    }

    /// How much is in memory only, apart from what is on its way to a file.
    pub(super) fn in_memory(&self) -> u64 {
        self.tree.active_memtable().size()
    }

    /// How much of the log the tree has, in files and in memory.
    pub(super) fn mark(self: &Arc<Self>) -> Result<Mark, Fault> {
        let Some(value) = self.snapshot().get(keys::MARK)? else { return Ok(Mark::default()) };
        let (number, file) = value.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let file = file.try_into().map_err(|_| Fault::damage("the tree's mark is none"))?;
        Ok(Mark { number: u64::from_le_bytes(*number), file: u64::from_le_bytes(file) })
    }

    /// Puts aside what is in memory, for [`Tree::flush`]: it is what the log has up to `mark`.
    pub(super) fn seal(&self, mark: Mark) {
        let value = [mark.number.to_le_bytes(), mark.file.to_le_bytes()].concat();
        self.change([(keys::MARK, Some(&value[..]))].into_iter());
        self.tree.rotate_memtable();
    }

    /// Writes what was put aside to a file, durably.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        guarded(|| {
            let lock = self.tree.get_flush_lock();
            self.tree.flush(&lock, self.unseen_before())
        })?;
        self.forget()
    }

    /// Merges files, if there are too many. Says whether there were.
    pub(super) fn merge(&self) -> Result<bool, Fault> {
        let before = self.tree.current_version().id();
        let strategy = Leveled::default()
            .with_l0_threshold(FRESH_FILES)
            .with_table_target_size(rig::size(MERGED_FILE));
        guarded(|| self.tree.compact(Arc::new(strategy), self.unseen_before()))?;
        let has_changed = self.tree.current_version().id() != before;
        if has_changed {
            self.forget()?;
        }
        Ok(has_changed)
    }

    /// Shows the newest files to all that look from now on, and drops what nobody sees any more.
    pub(super) fn forget(&self) -> Result<(), Fault> {
        {
            let _changing = lock(&self.changing);
            self.visible.fetch_max(self.next.get(), Ordering::AcqRel);
        }
        let path = &self.tree.tree_config().path;
        guarded(|| self.tree.get_version_history_lock().maintenance(path, self.unseen_before()))
    }

    /// Nobody looks at the tree as it was before this number, nor will.
    fn unseen_before(&self) -> u64 {
        let snapshots = lock(&self.snapshots);
        let oldest = snapshots.first_key_value().map(|(at, _)| *at);
        let now = self.visible.load(Ordering::Acquire);
        rig::unseen_before(oldest.unwrap_or(now), now)
    }

    fn lower_first_wake(&self, key: &[u8]) {
        let (first, behind) = keys::wakes();
        if key >= &first[..] && key < &behind[..] {
            let mut first = lock(&self.first_wake);
            if key < &first.key[..] {
                first.key = key.to_vec();
                first.lowered += 1;
            }
        }
    }
}

/// The tree as it was at one moment.
pub(super) struct Snapshot {
    tree: Arc<Tree>,
    at: u64,
}

/// Rows that are read one by one.
pub(super) struct Rows(Box<dyn DoubleEndedIterator<Item = lsm_tree::IterGuardImpl> + Send>);

impl Snapshot {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<lsm_tree::Slice>, Fault> {
        let can_be = key.len() <= keys::MAX;
        if can_be { guarded(|| self.tree.tree.get(key, self.at)) } else { Ok(None) }
    }

    /// Which of a room's rows there are.
    pub(super) fn generation(&self, room: &RoomAddress) -> Result<keys::Generation, Fault> {
        let Some(value) = self.get(&keys::generation(room))? else {
            return Ok(keys::Generation::default());
        };
        keys::Generation::read(&value)
            .ok_or_else(|| Fault::damage("the generation of a room is not a number"))
    }

    /// The rows of a range whose end is not before its start.
    pub(super) fn range(&self, range: keys::Range) -> Result<Rows, Fault> {
        guarded(|| Ok(Rows(self.tree.tree.range(range, self.at, None))))
    }

    /// The wake-ups from the first one on.
    pub(super) fn wakes(&self) -> Result<Wakes, Fault> {
        let (key, lowered) = {
            let first = lock(&self.tree.first_wake);
            (first.key.clone(), first.lowered)
        };
        let rows = self.wakes_from(Bound::Included(key))?;
        Ok(Wakes { rows, tree: Some(self.tree.clone()), lowered })
    }

    /// The wake-ups behind one.
    pub(super) fn wakes_behind(&self, mut key: Vec<u8>) -> Result<Wakes, Fault> {
        key.truncate(keys::MAX);
        let rows = self.wakes_from(Bound::Excluded(key))?;
        Ok(Wakes { rows, tree: None, lowered: 0 })
    }

    fn wakes_from(&self, start: Bound<Vec<u8>>) -> Result<Rows, Fault> {
        self.range((start, Bound::Excluded(keys::wakes().1)))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut snapshots = lock(&self.tree.snapshots);
        if let Some(count) = snapshots.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                snapshots.remove(&self.at);
            }
        }
    }
}

impl Rows {
    pub(super) fn next(
        &mut self,
        reverse: bool,
    ) -> Result<Option<(lsm_tree::Slice, lsm_tree::Slice)>, Fault> {
        guarded(|| {
            let row = if reverse { self.0.next_back() } else { self.0.next() };
            row.map(Guard::into_inner).transpose()
        })
    }
}

/// Wake-ups that are read one by one.
pub(super) struct Wakes {
    rows: Rows,
    /// Until the first one is found that there is.
    tree: Option<Arc<Tree>>,
    lowered: u64,
}

impl Wakes {
    pub(super) fn next(&mut self) -> Result<Option<lsm_tree::Slice>, Fault> {
        let key = self.rows.next(false)?.map(|(key, _)| key);
        if let Some(tree) = self.tree.take() {
            let mut first = lock(&tree.first_wake);
            if first.lowered == self.lowered {
                first.key = key.as_ref().map_or_else(|| keys::wakes().1, |key| key.to_vec());
            }
        }
        Ok(key)
    }
}

/// Checks the list of the tree's files, which the tree itself does not: a wrong one would hide rows.
fn check_list_of_files(path: &Path, must_exist: bool) -> Result<(), Fault> {
    let is_wrong = |what: &str| Err(Fault::damage(format!("the file `tree/{what}` is wrong")));
    let current = match fs::read(path.join("current")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if must_exist { is_wrong("current") } else { Ok(()) };
        }
        current => current.map_err(Fault::io("read"))?,
    };
    // The number of the list, its XXH3, and the kind of this checksum.
    let Some((version, rest)) = current.split_first_chunk() else { return is_wrong("current") };
    let Some((checksum, [0])) = rest.split_first_chunk() else { return is_wrong("current") };
    let name = format!("v{}", u64::from_le_bytes(*version));
    match fs::read(path.join(&name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => is_wrong(&name),
        Err(error) => Err(Fault::Io("read", error)),
        Ok(list) if xxh3_128(&list) == u128::from_le_bytes(*checksum) => Ok(()),
        Ok(_) => is_wrong(&name),
    }
}

/// Calls the tree, which panics on some damaged files.
fn guarded<T>(call: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Ok(result?),
        Err(payload) => {
            let what = payload.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(Fault::damage(format!("the tree gave up: {}", what.unwrap_or("unknown"))))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("files", &self.tree.table_count()).finish_non_exhaustive()
    }
}
