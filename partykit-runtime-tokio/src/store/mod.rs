//! Storage on disk. [`DiskBackend`] is one store for all rooms; commits that wait at the same time share one
//! sync. What is done with a whole store: [backup](DiskBackend::backup), [`verify`], [`dump`], [`load`] and
//! [`salvage`].

// The way of a commit: `DiskBackend` queues it. The `writer`, one thread, takes all commits that wait and
// checks that each still holds its room. The `engine` writes them as one `record` of the `log`, syncs it
// once, and changes the `tree` in `memory`. Then all are answered. When a part of the memory is full,
// `upkeep` (two other threads) writes it to a file and merges files; then the part of the log that is in the
// files is removed. Opening a store reads the last part of the log again: see `replay`. Reads use a snapshot
// of the tree and do not go through the writer: see `reading` and `rows`.

mod ahead;
mod claims;
mod collect;
mod copies;
#[cfg(test)]
mod costs;
mod engine;
mod error;
#[cfg(test)]
mod faults;
mod files;
mod gaps;
#[cfg(test)]
mod gaps_model;
mod generations;
mod guard;
mod home;
mod keys;
mod leftovers;
mod list;
mod listing;
mod log;
mod memory;
#[cfg(test)]
mod model;
mod options;
mod place;
mod postponed;
mod queue;
mod reading;
mod record;
mod replay;
// Not for users: no list of the public API has it.
#[cfg(feature = "planted-faults")]
#[doc(hidden)]
pub mod rig;
#[cfg(not(feature = "planted-faults"))]
#[path = "rig_off.rs"]
mod rig;
mod rows;
mod sectors;
#[cfg(test)]
mod tests;
mod tree;
mod upkeep;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use bytes::Bytes;
use partykit_core::{
    Backend, BackendError, Batch, Claim, Epoch, KeyRange, RoomAddress, RoomId, Timestamp,
};

pub use copies::{
    Backup, BackupOptions, CopyError, Dump, Finding, Load, LoadOptions, Progress, Salvage,
    SalvageOptions, Selection, Stage, Verification, dump, load, load_into, salvage, verify,
};
pub use postponed::StoreStats;
pub use {error::StoreError, options::StoreOptions};

use self::{
    error::Fault,
    listing::Listing,
    reading::{Read, Readers},
    rows::{Rows, Step},
    tree::{Snapshot, Tree},
    writer::{Shared, State, Writer},
};

/// The format of stores that this release writes, and the newest that it reads.
///
/// Increase it with each change of what is on disk: the home, the log or the keys.
const FORMAT: u32 = 2;

/// What a commit waits for.
///
/// ```
/// use partykit_runtime_tokio::store::Durability;
///
/// assert_eq!(Durability::default(), Durability::Durable);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// It waits until it is on the disk. What a client was told then survives a crash of the process or of
    /// the machine, and a loss of power, if the disk is honest about what it has stored. The commits of all
    /// rooms that wait at the same time share one sync.
    #[default]
    Durable,
    /// It waits until the operating system has it. A sync follows within a second or two.
    ///
    /// **What clients were told can be lost.** If the machine crashes or its power fails, up to the last two
    /// seconds of all rooms are lost. All rooms then come back as they were at one moment before, with no
    /// handler half done. If only the process dies, by a panic or a `kill -9`, nothing is lost. A normal
    /// shutdown loses nothing.
    Relaxed,
}

/// Keeps all rows of all rooms in one directory: the [`Backend`] of a self-hosted runtime, and its
/// default.
///
/// Clones share one store. The directory is made when the store is opened, so a place that cannot be used is
/// noticed at the start. The directory belongs to one process at a time. On Unix the directory itself is
/// locked, so the lock holds even if files in it are deleted; elsewhere a file `lock` in it is locked.
///
/// A commit is durable when it is answered, unless the store was opened [`Relaxed`](Durability::Relaxed).
/// Those that wait at the same time are written as one, and synced once.
///
/// When a write fails, because the disk is full for example, all commits that wait fail with it. Then the
/// store is opened again, to learn what is on disk. If that fails, it is tried again after 100 ms; the pause
/// doubles up to 5 s. Until it succeeds, all commits and reads are refused with the cause. A panic of the
/// engine counts as a failed write.
///
/// When the directory is removed, moved or replaced, or other files are copied over its own, commits and
/// reads are refused with [`StoreError::Moved`]. That begins before the next commit is answered, or within a
/// second if there are no commits. Nothing is written to what is there instead, and the directory is not made
/// again. When the directory is back as it was, the store goes on.
///
/// # What it costs
///
/// A room that is not claimed has no entry in memory. [`StoreOptions`] limit the memory of all rooms
/// together. Default: up to 32 MiB of changes that are not in files yet (far less without writes), and 4 MiB
/// of what was read last. The store has three threads, and for short times a fourth one. On disk, each row's
/// key begins with the names of party and room and 8 more bytes. The log has up to 32 MiB.
///
/// Clearing a room ([`Batch::clear`]) writes one row, no matter how many rows the room has. Only a commit
/// waits for a sync. A read from memory never waits for the disk. Other reads wait for the disk on a thread
/// of Tokio's blocking pool.
///
/// ```
/// use partykit_core::{Backend, Batch, RoomAddress, RoomId};
/// use partykit_runtime_tokio::store::{DiskBackend, Durability};
///
/// # #[tokio::main]
/// # async fn main() -> partykit_core::Result {
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("data");
/// let backend = DiskBackend::open(&path, Durability::Durable)?;
/// assert!(path.exists(), "a place that cannot be used is known at once");
///
/// let room = RoomAddress::new("chat", RoomId::new("lobby")?);
/// let claim = backend.claim(&room).await?;
/// let writes = [("topic".into(), Some("rust".into()))].into();
/// backend.commit(&room, claim.epoch, Batch { writes, ..Batch::default() }).await?;
/// backend.close().await;
///
/// let backend = DiskBackend::open(&path, Durability::Durable)?;
/// assert_eq!(backend.read(&room, &["topic".into()]).await?, [Some("rust".into())]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DiskBackend(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    readers: Readers,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Whether another process has had it until now.
    waits: AtomicBool,
}

impl DiskBackend {
    /// Opens the store in this directory, or makes one. A relative path is resolved against the current
    /// directory.
    ///
    /// Blocks for some milliseconds, while it reads the last few MiB that were written. The size of the store
    /// makes no difference.
    ///
    /// # Errors
    ///
    /// When the directory has no store that this release can read, or is damaged, in use, or not accessible:
    /// see [`StoreError`].
    pub fn open(path: impl AsRef<Path>, durability: Durability) -> Result<Self, StoreError> {
        Self::open_with(path, durability, StoreOptions::default())
    }

    /// As [`DiskBackend::open`], with other amounts of memory and files.
    ///
    /// # Errors
    ///
    /// As [`DiskBackend::open`].
    pub fn open_with(
        path: impl AsRef<Path>,
        durability: Durability,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let shared = Shared::new(path.as_ref(), durability, options)?;
        let writer = Writer::open(shared.clone()).map_err(|fault| fault.at(&shared.path))?;
        let thread = thread::Builder::new().name("partykit-store".into());
        let writer = thread
            .spawn(move || writer.run())
            .map_err(|error| Fault::Io("opened", error).at(&shared.path))?;
        let (readers, writer) = (Readers::default(), Mutex::new(Some(writer)));
        Ok(Self(Arc::new(Inner { shared, readers, writer, waits: AtomicBool::new(false) })))
    }

    /// One that another process has. [`reopen`](DiskBackend::reopen) opens it.
    #[cfg(unix)]
    pub(crate) fn closed(
        path: impl AsRef<Path>,
        durability: Durability,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let shared = Shared::new(path.as_ref(), durability, options)?;
        shared.queue.close();
        shared.state.send_replace(State::Closed);
        let (readers, writer) = (Readers::default(), Mutex::new(None));
        Ok(Self(Arc::new(Inner { shared, readers, writer, waits: AtomicBool::new(true) })))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0.shared.path
    }

    /// How the store is right now.
    pub fn stats(&self) -> StoreStats {
        self.0.shared.postponed.stats()
    }

    /// Writes and syncs the waiting commits, and closes the store. Later calls fail. Dropping the last clone
    /// closes the store too, but blocks the thread that drops it.
    pub async fn close(&self) {
        self.0.shared.queue.close();
        let mut states = self.0.shared.state.subscribe();
        // The sender is in `self`, so the channel is open.
        let _ = states.wait_for(|state| matches!(state, State::Closed)).await;
    }

    /// Opens a store again that was [closed](DiskBackend::close), for all clones. Blocks as
    /// [`DiskBackend::open`] does.
    ///
    /// # Errors
    ///
    /// As [`DiskBackend::open`]. The store is then still closed.
    #[cfg(unix)]
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        let mut running = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*self.0.shared.state.borrow(), State::Closed) {
            return Ok(());
        }
        let shared = &self.0.shared;
        let writer = Writer::open(shared.clone()).map_err(|fault| fault.at(&shared.path))?;
        shared.queue.reopen();
        self.0.waits.store(false, Ordering::Relaxed);
        let thread = thread::Builder::new().name("partykit-store".into());
        let spawned = thread.spawn(move || writer.run());
        *running = Some(spawned.map_err(|error| Fault::Io("opened", error).at(&shared.path))?);
        Ok(())
    }

    /// Waits until the store is open.
    async fn opened(&self) -> Result<(), StoreError> {
        let failed =
            |error: BackendError| Fault::Io("copied", std::io::Error::other(error.to_string()));
        self.tree().await.map(drop).map_err(|error| failed(error).at(self.path()))
    }

    /// The tree, as soon as the store is open.
    async fn tree(&self) -> Result<Arc<Tree>, BackendError> {
        let settled = |state: &State| match state {
            State::Open(tree) => Some(Ok(tree.clone())),
            State::Recovering => None,
            State::Failed(cause) => Some(Err(BackendError::Failed(cause.clone().into()))),
            State::Closed => Some(Err(self.closed_error())),
        };
        let settled_now = settled(&self.0.shared.state.borrow());
        if let Some(tree) = settled_now {
            return tree;
        }
        let mut states = self.0.shared.state.subscribe();
        let state = states.wait_for(|state| settled(state).is_some()).await;
        let state = state.map_err(|error| BackendError::Failed(error.into()))?;
        settled(&state).unwrap_or_else(|| Err(self.closed_error()))
    }

    fn closed_error(&self) -> BackendError {
        let why = match self.0.waits.load(Ordering::Relaxed) {
            true => "the process before has the store until this one serves",
            false => "the store is closed",
        };
        BackendError::Failed(why.into())
    }

    async fn read_rows<R: Read>(
        &self,
        read: impl FnOnce(Snapshot) -> R,
    ) -> Result<R::Rows, BackendError> {
        let tree = self.tree().await?;
        let read = read(tree.snapshot());
        drop(tree);
        self.finish(read).await
    }

    async fn finish<R: Read>(&self, read: R) -> Result<R::Rows, BackendError> {
        let rows = self.0.readers.read(read).await;
        rows.map_err(|fault| self.0.shared.failed(fault))
    }
}

#[async_trait]
impl Backend for DiskBackend {
    async fn claim(&self, room: &RoomAddress) -> Result<Claim, BackendError> {
        let claims = &self.0.shared.claims;
        let epoch = claims.claim(room).await;
        let first = self.scan(room, &EVERYTHING, false, 1).await;
        match first {
            Ok(rows) => Ok(Claim { epoch, empty: rows.is_empty() }),
            Err(error) => {
                claims.release(room, epoch);
                Err(error)
            }
        }
    }

    async fn read(
        &self,
        room: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError> {
        let count = keys.len();
        let (room, keys) = (room.clone(), keys.to_vec());
        let values = self.read_rows(|snapshot| Values {
            snapshot,
            room,
            prefix: None,
            keys: keys.into_iter(),
            values: Vec::with_capacity(count),
        });
        values.await
    }

    async fn scan(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        let (room, range) = (room.clone(), range.clone());
        let rows = self.read_rows(|snapshot| Scan {
            snapshot,
            room,
            range,
            rows: None,
            begin: 0,
            reverse,
            limit,
            found: Vec::new(),
        });
        rows.await
    }

    async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        let longest = batch.writes.keys().map(Bytes::len).max().unwrap_or(0);
        // The key of the longest row is the longest key of the room. A wake-up's key is no longer: it has a
        // time where a row has its generation.
        if keys::rows(room, Default::default()).len() + longest > keys::MAX {
            return Err(BackendError::Failed(
                "the names of party, room and row are too long".into(),
            ));
        }
        if batch.writes.values().flatten().any(|value| u32::try_from(value.len()).is_err()) {
            return Err(BackendError::Failed("a value has 4 GiB or more".into()));
        }
        self.tree().await?;
        self.0.shared.queue.commit(room, epoch, batch).await
    }

    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let found = self.read_rows(|snapshot| {
            let wakes = match after {
                Some((at, room)) => snapshot.wakes_behind(keys::wake(*at, room)),
                None => snapshot.wakes(),
            };
            WakeUps { wakes, limit, found: Vec::new() }
        });
        found.await
    }

    async fn rooms(
        &self,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomId>, BackendError> {
        let tree = self.tree().await?;
        let listing = Listing::new(tree.snapshot(), party, after, limit);
        drop(tree);
        match listing {
            Some(listing) => self.finish(listing).await,
            None => Ok(Vec::new()),
        }
    }

    fn release(&self, room: &RoomAddress, epoch: Epoch) {
        self.0.shared.claims.release(room, epoch);
    }
}

const EVERYTHING: KeyRange = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);

struct Values {
    snapshot: Snapshot,
    room: RoomAddress,
    /// What the keys of the room's rows begin with, once it is known.
    prefix: Option<Vec<u8>>,
    keys: std::vec::IntoIter<Bytes>,
    values: Vec<Option<Bytes>>,
}

impl Read for Values {
    type Rows = Vec<Option<Bytes>>;

    fn step(&mut self) -> Result<Option<Self::Rows>, Fault> {
        let prefix = match &mut self.prefix {
            Some(prefix) => prefix,
            none => none.insert(keys::rows(&self.room, self.snapshot.generation(&self.room)?)),
        };
        if let Some(key) = self.keys.next() {
            let value = self.snapshot.get(&[&prefix[..], &key].concat())?;
            self.values.push(value.map(|value| Bytes::copy_from_slice(&value)));
        }
        Ok((self.keys.len() == 0).then(|| std::mem::take(&mut self.values)))
    }
}

struct Scan {
    snapshot: Snapshot,
    room: RoomAddress,
    range: KeyRange,
    /// `None` until the prefix is known.
    rows: Option<Rows>,
    /// The length of the prefix in bytes.
    begin: usize,
    reverse: bool,
    limit: usize,
    found: Vec<(Bytes, Bytes)>,
}

impl Read for Scan {
    type Rows = Vec<(Bytes, Bytes)>;

    fn step(&mut self) -> Result<Option<Self::Rows>, Fault> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            none => {
                let prefix = keys::rows(&self.room, self.snapshot.generation(&self.room)?);
                let Some(range) = keys::within(&prefix, &self.range).filter(|_| self.limit > 0)
                else {
                    return Ok(Some(Vec::new()));
                };
                self.begin = prefix.len();
                none.insert(self.snapshot.range(range, self.reverse))
            }
        };
        let is_done = match rows.step()? {
            Step::Row(key, value) => {
                let key = Bytes::copy_from_slice(&key[self.begin..]);
                self.found.push((key, Bytes::copy_from_slice(&value)));
                self.found.len() == self.limit
            }
            Step::Nothing => false,
            Step::End => true,
        };
        Ok(is_done.then(|| std::mem::take(&mut self.found)))
    }
}

struct WakeUps {
    wakes: Rows,
    limit: usize,
    found: Vec<(Timestamp, RoomAddress)>,
}

impl Read for WakeUps {
    type Rows = Vec<(Timestamp, RoomAddress)>;

    fn step(&mut self) -> Result<Option<Self::Rows>, Fault> {
        let is_done = match self.wakes.step()? {
            Step::Row(key, _) => {
                let wake = keys::read_wake(&key);
                self.found.push(wake.ok_or_else(|| {
                    Fault::damage("a row of the index of wake-ups cannot be read")
                })?);
                self.found.len() == self.limit
            }
            Step::Nothing => false,
            Step::End => true,
        };
        Ok(is_done.then(|| std::mem::take(&mut self.found)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.take() {
            // An error means that the thread has panicked. There is nothing left to do then.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for DiskBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskBackend")
            .field("path", &self.path())
            .field("durability", &self.0.shared.durability)
            .field("claims", &self.0.shared.claims.count())
            .finish_non_exhaustive()
    }
}
