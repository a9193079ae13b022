//! Which rooms are in memory. Knows nothing of tokio, so that a model checker can run it.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use partykit_core::{Refusal, RoomAddress, runtime::RoomCell};

/// So many locks share the rooms; more than there are cores to wait for one another.
const SHARDS: usize = 64;

/// A shard gives memory back when it has at least this much room and a quarter of it would do.
const WORTH_SHRINKING: usize = 64;

/// The table of rooms in memory. A room that is not in it is nothing but its rows in storage.
///
/// **No room is ever in memory twice.** What could break it is an input that reaches a cell which the
/// table has just forgotten, while the next input makes a new cell. Therefore
///
/// * everything that can bring a vacant cell to life (connect, request, tell) goes in through
///   [`Registry::enter`], which holds the shard's lock while it does;
/// * [`Registry::forget`] removes a cell under the same lock, and only if it is vacant *then*;
/// * a vacant cell has no connection, no task and no guard, so that nobody who still holds it has an
///   input for it that would start its instance.
///
/// So a cell outside of the table is vacant, and stays so for ever.
///
/// The order of locks is shard, then cell. A cell calls
/// [`Host::vacant`](partykit_core::runtime::Host::vacant) without holding its own.
pub(crate) struct Registry {
    shards: Box<[Mutex<Rooms>]>,
    hasher: RandomState,
    closed: AtomicBool,
}

type Rooms = HashMap<RoomAddress, Arc<RoomCell>>;

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Gives a room an input, and makes its cell first if it has none. Both closures run under the
    /// shard's lock: they must not come back here.
    ///
    /// # Errors
    ///
    /// When the registry is [closed](Registry::close); the closures are dropped unused.
    pub(crate) fn enter<R>(
        &self,
        address: &RoomAddress,
        make: impl FnOnce() -> Arc<RoomCell>,
        input: impl FnOnce(&Arc<RoomCell>) -> R,
    ) -> Result<R, Refusal> {
        let mut rooms = self.shard(address);
        if self.closed.load(Ordering::SeqCst) {
            drop(rooms);
            return Err(Refusal::ShuttingDown);
        }
        if let Some(cell) = rooms.get(address) {
            return Ok(input(cell));
        }
        let cell = make();
        let result = input(&cell);
        // A cell that refused its first input, or is through with it already, never calls `forget`
        // again: it must not get an entry.
        if !cell.is_vacant() {
            rooms.insert(address.clone(), cell);
        }
        Ok(result)
    }

    /// A room that is in memory, for what a room without a cell has no use for: a broadcast, a question.
    pub(crate) fn find(&self, address: &RoomAddress) -> Option<Arc<RoomCell>> {
        self.shard(address).get(address).cloned()
    }

    /// Drops the cell from the table if it is vacant. Said when it seemed to be; that may be long ago,
    /// and another cell may stand in its place.
    pub(crate) fn forget(&self, cell: &Arc<RoomCell>) {
        let mut rooms = self.shard(cell.address());
        let is_known = rooms.get(cell.address()).is_some_and(|known| Arc::ptr_eq(known, cell));
        if !is_known || !cell.is_vacant() {
            return;
        }
        let forgotten = rooms.remove(cell.address());
        if rooms.capacity() >= WORTH_SHRINKING && rooms.len() <= rooms.capacity() / 4 {
            let half = rooms.capacity() / 2;
            rooms.shrink_to(half);
        }
        drop(rooms);
        drop(forgotten);
    }

    /// All rooms in memory, in no order, shard by shard: not a picture of one moment.
    pub(crate) fn all(&self) -> Vec<Arc<RoomCell>> {
        let shards = self.shards.iter().map(lock);
        shards.flat_map(|rooms| rooms.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Lets no input in any more and returns the rooms there are; nobody can add one behind them.
    pub(crate) fn close(&self) -> Vec<Arc<RoomCell>> {
        self.closed.store(true, Ordering::SeqCst);
        self.all()
    }

    /// Drops all entries of a closed registry.
    pub(crate) fn clear(&self) {
        debug_assert!(
            self.closed.load(Ordering::SeqCst),
            "an open registry never forgets a live room"
        );
        for shard in &self.shards {
            let rooms = std::mem::take(&mut *lock(shard));
            drop(rooms);
        }
    }

    fn shard(&self, address: &RoomAddress) -> MutexGuard<'_, Rooms> {
        // The modulo is below SHARDS, whatever the width of usize.
        lock(&self.shards[(self.hasher.hash_one(address) % SHARDS as u64) as usize])
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// No code under a shard's lock leaves the table half-changed.
fn lock(shard: &Mutex<Rooms>) -> MutexGuard<'_, Rooms> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
