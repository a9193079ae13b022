//! Finds code of the application that blocks a thread, while it blocks.
//!
//! If all of Tokio's threads are blocked, everything on them stops: other rooms, health checks, timers. So
//! the watch has a thread of its own.

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use partykit_core::runtime::RoomCell;
use pin_project_lite::pin_project;
use tracing::{info, warn};

/// The threads are looked at this often.
const LOOK: Duration = Duration::from_millis(500);

/// A thread that is in the same poll for this long is blocked.
const BLOCKED: Duration = Duration::from_secs(1);

/// The log repeats a blocked thread this often.
const AGAIN: Duration = Duration::from_secs(10);

/// All threads on which something was polled.
static THREADS: Mutex<Vec<Weak<Thread>>> = Mutex::new(Vec::new());

/// How many times a thread was blocked.
static BLOCKS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Arc<Thread> = {
        let thread = Arc::<Thread>::default();
        lock(&THREADS).push(Arc::downgrade(&thread));
        thread
    };
}

type Thread = Mutex<Polling>;

/// What a thread is polling.
#[derive(Default)]
struct Polling {
    /// How many polls there were.
    count: u64,
    work: Option<Work>,
}

/// Whose code it is.
#[derive(Clone)]
pub(crate) enum Work {
    Room(Arc<RoomCell>),
    /// A hook, by its name.
    Other(&'static str),
}

pin_project! {
    /// A future that is watched while it is polled.
    pub(crate) struct Watched<F> {
        work: Work,
        #[pin]
        future: F,
    }
}

/// Watches the threads that poll this future.
pub(crate) fn over<F: Future>(work: Work, future: F) -> Watched<F> {
    Watched { work, future }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _polled = Polled::begin(this.work);
        this.future.poll(cx)
    }
}

/// Ends a poll.
struct Polled(bool);

impl Polled {
    fn begin(work: &Work) -> Self {
        let begun = THREAD.try_with(|thread| {
            let mut polling = lock(thread);
            // A watched future inside of another one counts as a part of it.
            let begins = polling.work.is_none();
            if begins {
                polling.count += 1;
                polling.work = Some(work.clone());
            }
            begins
        });
        Self(begun.unwrap_or(false))
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        if self.0 {
            // The work is dropped after the lock is free.
            let _work = THREAD.try_with(|thread| lock(thread).work.take());
        }
    }
}

/// How many threads are blocked now, and how many times a thread was blocked in this process.
pub(crate) fn blocked() -> (usize, u64) {
    (lock(&NOW).len(), BLOCKS.load(Ordering::Relaxed))
}

/// The names of what blocks threads now, for the log.
pub(crate) fn blocking() -> Vec<String> {
    lock(&NOW).values().map(Work::name).collect()
}

/// What blocks threads now, by thread.
static NOW: Mutex<std::collections::BTreeMap<usize, Work>> =
    Mutex::new(std::collections::BTreeMap::new());

/// Starts the watch, once in a process.
pub(crate) fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        let looking = || {
            let mut watch = Watch::default();
            loop {
                thread::sleep(LOOK);
                watch.look(Instant::now());
            }
        };
        let started: io::Result<_> =
            thread::Builder::new().name("partykit-watch".into()).spawn(looking);
        if let Err(error) = started {
            warn!("cannot start the thread that reports blocked handlers: {error}");
        }
    });
}

/// What the last look has seen.
#[derive(Default)]
struct Watch {
    known: HashMap<usize, Known>,
}

struct Known {
    count: u64,
    since: Instant,
    said: Option<Instant>,
}

impl Watch {
    fn look(&mut self, now: Instant) {
        let threads: Vec<Arc<Thread>> = {
            let mut threads = lock(&THREADS);
            threads.retain(|thread| thread.strong_count() > 0);
            threads.iter().filter_map(Weak::upgrade).collect()
        };
        let mut polled = HashMap::new();
        for thread in &threads {
            let polling = lock(thread);
            if let Some(work) = &polling.work {
                polled.insert(Arc::as_ptr(thread) as usize, (polling.count, work.clone()));
            }
        }
        self.known.retain(|thread, known| {
            let goes_on = polled.get(thread).is_some_and(|(count, _)| *count == known.count);
            if !goes_on && let Some(work) = lock(&NOW).remove(thread) {
                work.has_returned(now - known.since);
            }
            goes_on
        });
        for (thread, (count, work)) in polled {
            let known = self.known.entry(thread).or_insert(Known { count, since: now, said: None });
            if known.since < now {
                work.wake_another_thread();
            }
            let is_due = known.said.is_none_or(|said| now - said >= AGAIN);
            if now - known.since >= BLOCKED && is_due {
                if known.said.is_none() {
                    BLOCKS.fetch_add(1, Ordering::Relaxed);
                    lock(&NOW).insert(thread, work.clone());
                }
                known.said = Some(now);
                work.blocks(now - known.since);
            }
        }
    }
}

impl Work {
    /// Only one of Tokio's threads waits for sockets and timers. If this is the one that is blocked, the others
    /// sleep until they get a task.
    fn wake_another_thread(&self) {
        if let Self::Room(cell) = self {
            cell.host().spawn(Box::pin(async {}));
        }
    }

    fn blocks(&self, since: Duration) {
        match self {
            Self::Room(cell) => {
                let (party, room) = (cell.address().party(), cell.address().room().as_str());
                let handler = cell.running().map(|handler| handler.name());
                warn!(
                    party,
                    room,
                    handler,
                    ?since,
                    "a handler blocks its thread, and everything that waits for it: await, or move the \
                     work to tokio::task::spawn_blocking"
                );
            }
            Self::Other(name) => warn!(
                hook = name,
                ?since,
                "a hook blocks its thread, and everything that waits for it: await, or move the work \
                 to tokio::task::spawn_blocking"
            ),
        }
    }

    fn has_returned(&self, after: Duration) {
        match self {
            Self::Room(cell) => {
                let (party, room) = (cell.address().party(), cell.address().room().as_str());
                info!(party, room, ?after, "a handler no longer blocks its thread");
            }
            Self::Other(name) => info!(hook = name, ?after, "a hook no longer blocks its thread"),
        }
    }

    /// The room and handler, or the hook.
    fn name(&self) -> String {
        match self {
            Self::Room(cell) => {
                let handler = cell.running().map_or("a handler", |handler| handler.name());
                format!("{handler} of {}", cell.address())
            }
            Self::Other(name) => (*name).to_owned(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the process-wide lists say of this test's thread alone.
    fn is_named(name: &str) -> bool {
        blocking().iter().any(|blocked| blocked == name)
    }

    #[test]
    fn what_stays_in_one_poll_is_found_and_what_returns_is_not() {
        let (begin, mut watch) = (Instant::now(), Watch::default());
        let look = |watch: &mut Watch, seconds| watch.look(begin + Duration::from_secs(seconds));
        let blocks = || BLOCKS.load(Ordering::Relaxed);
        let before = blocks();
        let waker = std::task::Waker::noop();
        let mut blocking = std::pin::pin!(over(Work::Other("the one"), async {
            // A poll within it does not end it.
            let _ = std::pin::pin!(over(Work::Other("inside"), async {}))
                .poll(&mut Context::from_waker(waker));
            look(&mut watch, 0);
            assert!(!is_named("the one"));
            look(&mut watch, 1);
            assert!(is_named("the one"));
            look(&mut watch, 2);
        }));
        assert!(blocking.as_mut().poll(&mut Context::from_waker(waker)).is_ready());
        assert!(blocks() > before);
        look(&mut watch, 3);
        assert!(!is_named("the one"));

        // Many short polls do not count as blocking, even if each look sees one.
        for second in 4..10 {
            let mut short = std::pin::pin!(over(Work::Other("short"), async {
                look(&mut watch, second);
            }));
            assert!(short.as_mut().poll(&mut Context::from_waker(waker)).is_ready());
        }
        assert!(!is_named("short"));
    }
}
