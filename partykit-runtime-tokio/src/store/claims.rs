use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use partykit_core::{Epoch, RoomAddress};
use tokio::sync::Notify;

/// Who holds which room. Nothing of it is on disk but the number of lives that the store has had.
#[derive(Debug, Default)]
pub(super) struct Claims {
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last claim, of whichever room.
    last: u64,
    newest: HashMap<RoomAddress, Epoch>,
    /// The rooms whose commits are being written.
    writing: HashSet<RoomAddress>,
}

/// What becomes of a commit whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is being written from now on.
    Begins,
    /// Another one of the room is being written.
    IsLater,
    IsStale,
}

/// How many claims fit into one life of a room.
const CLAIMS: u32 = 40;

/// A smaller table is not worth the moment in which it becomes smaller still.
const WORTH_SHRINKING: usize = 1024;

impl Claims {
    /// From now on claims are of this life of the store, or a later one.
    pub(super) fn begin_life(&self, incarnation: u64) {
        let mut state = self.state();
        state.last = state.last.max(incarnation << CLAIMS);
    }

    /// Takes a room over. What its former holder has not begun to write is not written any more; what
    /// it has begun is waited for.
    pub(super) async fn claim(&self, room: &RoomAddress) -> Epoch {
        let epoch = {
            let mut state = self.state();
            state.last += 1;
            let epoch = Epoch(state.last);
            state.newest.insert(room.clone(), epoch);
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
        if state.newest.get(room) == Some(&epoch) {
            state.newest.remove(room);
            let (capacity, count) = (state.newest.capacity(), state.newest.len());
            if capacity >= WORTH_SHRINKING && count <= capacity / 4 {
                state.newest.shrink_to(capacity / 2);
            }
        }
    }

    /// How many rooms are claimed.
    pub(super) fn count(&self) -> usize {
        self.state().newest.len()
    }

    /// Takes the commits whose turn it is.
    pub(super) fn begin<'a>(
        &self,
        commits: impl Iterator<Item = (&'a RoomAddress, Epoch)>,
    ) -> Vec<Turn> {
        let mut state = self.state();
        let turn = |(room, epoch): (&RoomAddress, Epoch)| {
            if state.newest.get(room) != Some(&epoch) {
                Turn::IsStale
            } else if state.writing.insert(room.clone()) {
                Turn::Begins
            } else {
                Turn::IsLater
            }
        };
        commits.map(turn).collect()
    }

    /// What was being written is, or it has failed.
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
