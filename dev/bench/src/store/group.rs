//! The least that lets many commits share one sync: a queue, a thread, an answer for each.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use partykit::Result;
use tokio::sync::oneshot;

/// A commit, and who waits for it.
type Waiting<T> = (T, oneshot::Sender<Result<(), String>>);

/// How many commits are written as one, at most.
const GROUP: usize = 1024;

/// Commits of `T` that are written together by one thread.
pub(crate) struct Group<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<Waiting<T>>,
    is_closed: bool,
}

impl<T: Send + 'static> Group<T> {
    /// `write` makes all that it is given durable.
    pub(crate) fn start(mut write: impl FnMut(&[T]) -> Result<()> + Send + 'static) -> Self {
        let state = Mutex::new(State { waiting: Vec::new(), is_closed: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let queue = shared.clone();
        let thread = thread::spawn(move || {
            while let Some(group) = queue.next() {
                let (commits, answers): (Vec<T>, Vec<_>) = group.into_iter().unzip();
                let result = write(&commits).map_err(|error| error.to_string());
                for answer in answers {
                    let _ = answer.send(result.clone());
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Ends when the commit is durable.
    pub(crate) async fn commit(&self, commit: T) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting.push((commit, answer));
            if state.waiting.len() == 1 {
                self.shared.changed.notify_one();
            }
        }
        Ok(answered.await??)
    }
}

impl<T> Shared<T> {
    fn next(&self) -> Option<Vec<Waiting<T>>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |state: &mut State<T>| state.waiting.is_empty() && !state.is_closed;
        let mut state =
            self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        let count = state.waiting.len().min(GROUP);
        (count > 0).then(|| state.waiting.drain(..count).collect())
    }
}

impl<T> Drop for Group<T> {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
