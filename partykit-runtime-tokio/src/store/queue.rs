use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use partykit_core::{BackendError, Batch, Epoch, RoomAddress};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::Fault;

/// How many bytes of commits the queue may have, for all rooms together. Further commits wait for a place in
/// it. A batch from core has at most 32 MiB, so every batch fits.
const WAITING: u32 = 64 << 20;

/// What a commit counts beyond its keys and values.
const OVERHEAD: usize = 256;

/// How many commits are written at a time, and about how many bytes. At least one commit is written.
const GROUP: usize = 1024;
const GROUP_BYTES: usize = 4 << 20;

/// The commits that wait for their turn.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    space: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    fault: Option<Fault>,
    is_closed: bool,
}

/// A commit, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) room: RoomAddress,
    pub(super) epoch: Epoch,
    pub(super) batch: Batch,
    answer: oneshot::Sender<Result<(), BackendError>>,
    _space: OwnedSemaphorePermit,
}

/// What the writer has to do next.
#[derive(Debug)]
pub(super) enum Work {
    Commits(Vec<Waiting>),
    /// One of the threads of upkeep has failed.
    Fault(Fault),
    /// There was nothing to do before the given moment.
    Nothing,
    End,
}

impl Default for Queue {
    fn default() -> Self {
        let space = Arc::new(Semaphore::new(WAITING as usize));
        Self { state: Mutex::default(), changed: Condvar::new(), space }
    }
}

impl Queue {
    /// Waits until there is space, queues a commit, and waits for its answer.
    pub(super) async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        let size = batch.size() + batch.writes.len() * 16 + OVERHEAD;
        let size = u32::try_from(size).map_or(WAITING, |size| size.min(WAITING));
        let is_closed = |_| BackendError::Failed("the store is closed".into());
        let space = self.space.clone().acquire_many_owned(size).await.map_err(|_| is_closed(()))?;
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state();
            if state.is_closed {
                return Err(is_closed(()));
            }
            let room = room.clone();
            state.waiting.push_back(Waiting { room, epoch, batch, answer, _space: space });
            if state.waiting.len() == 1 {
                self.changed.notify_one();
            }
        }
        answered.await.unwrap_or_else(|_| Err(is_closed(())))
    }

    /// Waits for something to do, until `until` at most.
    pub(super) fn next(&self, until: Option<Instant>) -> Work {
        let mut state = self.state();
        loop {
            if let Some(fault) = state.fault.take() {
                return Work::Fault(fault);
            }
            if !state.waiting.is_empty() {
                return Work::Commits(state.take());
            }
            if state.is_closed {
                return Work::End;
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) if time.is_zero() => return Work::Nothing,
                Some(time) => {
                    let waited = self.changed.wait_timeout(state, time);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Puts commits back at the front of the queue.
    pub(super) fn put_back(&self, commits: impl DoubleEndedIterator<Item = Waiting>) {
        let mut state = self.state();
        commits.rev().for_each(|commit| state.waiting.push_front(commit));
    }

    pub(super) fn report(&self, fault: Fault) {
        self.state().fault.get_or_insert(fault);
        self.changed.notify_one();
    }

    /// Forgets a fault of an engine that is closed.
    pub(super) fn clear_fault(&self) {
        self.state().fault = None;
    }

    /// Takes no more commits. Those that wait are still written.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    /// Takes commits again.
    pub(super) fn reopen(&self) {
        self.state().is_closed = false;
    }

    /// Answers all waiting commits with an error.
    pub(super) fn clear(&self) {
        let waiting = std::mem::take(&mut self.state().waiting);
        drop(waiting);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Vec<Waiting> {
        let mut bytes = 0;
        let fits = |commit: &&Waiting| {
            let is_first = bytes == 0;
            bytes += commit.batch.size() + OVERHEAD;
            is_first || bytes <= GROUP_BYTES
        };
        let count = self.waiting.iter().take(GROUP).take_while(fits).count();
        self.waiting.drain(..count).collect()
    }
}

impl Waiting {
    /// The receiver may be gone.
    pub(super) fn answer(self, answer: Result<(), BackendError>) {
        let _ = self.answer.send(answer);
    }
}
