use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use partykit_core::{Epoch, RoomAddress, RoomId};
use tokio::sync::Notify;

/// Who holds which room. Only the number of times that the store was opened is on disk; the rest is in
/// memory.
#[derive(Debug, Default)]
pub(super) struct Claims {
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last claim, counted over all rooms.
    last: u64,
    /// The newest claim of every room that has one, by party: so the rooms share the party's name.
    newest: HashMap<Box<str>, HashMap<RoomId, Epoch>>,
    /// The rooms whose commits are being written.
    writing: HashSet<RoomAddress>,
}

impl State {
    fn newest(&self, room: &RoomAddress) -> Option<Epoch> {
        self.newest.get(room.party())?.get(room.room()).copied()
    }
}

/// Whether a commit may be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The room is marked as being written.
    Begins,
    /// Another commit of the room is being written.
    IsLater,
    IsStale,
}

/// How many claims fit into one life of a room.
const CLAIMS: u32 = 40;

/// A table with fewer entries is not made smaller: that would save less than it costs.
const WORTH_SHRINKING: usize = 1024;

impl Claims {
    /// Sets the life of the store that new claims belong to. Claims of an earlier life are over.
    pub(super) fn begin_life(&self, incarnation: u64) {
        let mut state = self.state();
        state.newest.clear();
        state.last = state.last.max(incarnation << CLAIMS);
    }

    /// Takes a room over. Commits of the former holder that are not begun yet are refused. A commit that is
    /// being written is waited for.
    pub(super) async fn claim(&self, room: &RoomAddress) -> Epoch {
        let epoch = {
            let mut state = self.state();
            state.last += 1;
            let epoch = Epoch(state.last);
            match state.newest.get_mut(room.party()) {
                Some(newest) => drop(newest.insert(room.room().clone(), epoch)),
                None => {
                    let newest = HashMap::from([(room.room().clone(), epoch)]);
                    state.newest.insert(room.party().into(), newest);
                }
            }
            epoch
        };
        let mut given = Given { claims: self, room, epoch, has_arrived: false };
        loop {
            let mut written = std::pin::pin!(self.written.notified());
            written.as_mut().enable();
            if !self.state().writing.contains(room) {
                break;
            }
            written.await;
        }
        given.has_arrived = true;
        epoch
    }

    pub(super) fn release(&self, room: &RoomAddress, epoch: Epoch) {
        let mut state = self.state();
        let Some(newest) = state.newest.get_mut(room.party()) else { return };
        if newest.get(room.room()) != Some(&epoch) {
            return;
        }
        newest.remove(room.room());
        let (capacity, count) = (newest.capacity(), newest.len());
        if count == 0 {
            state.newest.remove(room.party());
        } else if capacity >= WORTH_SHRINKING && count <= capacity / 4 {
            newest.shrink_to(capacity / 2);
        }
    }

    /// How many rooms are claimed.
    pub(super) fn count(&self) -> usize {
        self.state().newest.values().map(HashMap::len).sum()
    }

    /// Takes the commits whose turn it is.
    pub(super) fn begin<'a>(
        &self,
        commits: impl Iterator<Item = (&'a RoomAddress, Epoch)>,
    ) -> Vec<Turn> {
        let mut state = self.state();
        let turn = |(room, epoch): (&RoomAddress, Epoch)| {
            if state.newest(room) != Some(epoch) {
                Turn::IsStale
            } else if state.writing.insert(room.clone()) {
                Turn::Begins
            } else {
                Turn::IsLater
            }
        };
        commits.map(turn).collect()
    }

    /// Frees the rooms whose commits were being written: those commits are done, or have failed.
    pub(super) fn end(&self) {
        self.state().writing.clear();
        self.written.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim whose future may be dropped before it ends. A dropped claim frees the room.
struct Given<'a> {
    claims: &'a Claims,
    room: &'a RoomAddress,
    epoch: Epoch,
    has_arrived: bool,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if !self.has_arrived {
            self.claims.release(self.room, self.epoch);
        }
    }
}
