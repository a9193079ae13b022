//! Lets rooms wait until a loop has read all sockets that are ready. So a room handles everything that its
//! clients said meanwhile in one go, and what it says to one client leaves in one write.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

/// As many places for tasks are kept.
const KEPT: usize = 1024;

thread_local! {
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting::new()) };
    /// The time of what is gathered on this thread. `None` while nothing is gathered.
    static TIME: Cell<Option<Time>> = const { Cell::new(None) };
    /// The task that runs on this thread was woken by the end of a gathering.
    static GATHERED: Cell<bool> = const { Cell::new(false) };
}

/// A moment, and how long after another moment it is, if that was asked for.
#[derive(Clone, Copy)]
struct Time {
    now: Instant,
    since: Option<(Instant, Duration)>,
}

/// The tasks that wait on this thread.
struct Waiting {
    /// Whether something is gathered.
    gathers: bool,
    tasks: Vec<Waker>,
}

impl Waiting {
    const fn new() -> Self {
        Self { gathers: false, tasks: Vec::new() }
    }
}

/// Does some work. The [gathered](Gathered) tasks that it wakes on this thread run after it.
pub(crate) fn gather<R>(work: impl FnOnce() -> R) -> R {
    gather_and_count(work).0
}

/// The same. Also returns how many tasks these are.
pub(crate) fn gather_and_count<R>(work: impl FnOnce() -> R) -> (R, usize) {
    WAITING.with_borrow_mut(|waiting| waiting.gathers = true);
    let _end = Gathering;
    let result = work();
    (result, WAITING.with_borrow(|waiting| waiting.tasks.len()))
}

/// Wakes what waits, also when the work panics.
struct Gathering;

impl Drop for Gathering {
    fn drop(&mut self) {
        TIME.set(None);
        let mut tasks = WAITING.with_borrow_mut(|waiting| {
            waiting.gathers = false;
            mem::take(&mut waiting.tasks)
        });
        tasks.drain(..).for_each(Waker::wake);
        if tasks.capacity() <= KEPT {
            WAITING.with_borrow_mut(|waiting| waiting.tasks = tasks);
        }
    }
}

/// What is gathered on this thread from now on happens at this time, so that the clock is not read for each
/// message. Ends with the gathering.
pub(crate) fn at(time: Instant) {
    TIME.set(Some(Time { now: time, since: None }));
}

/// The time since this moment, at most a few messages old while something is gathered.
pub(crate) fn since(origin: Instant) -> Duration {
    let Some(time) = TIME.get() else { return origin.elapsed() };
    match time.since {
        Some((known, passed)) if known == origin => passed,
        _ => {
            let passed = time.now.saturating_duration_since(origin);
            TIME.set(Some(Time { since: Some((origin, passed)), ..time }));
            passed
        }
    }
}

/// Whether the gathered task that runs on this thread was woken by the end of a [gathering](gather). So
/// everything that was there to be read is read.
pub(crate) fn is_gathered() -> bool {
    GATHERED.get()
}

pin_project! {
    /// A future that is not woken before the [gathering](gather) on this thread has ended.
    pub(crate) struct Gathered<F> {
        waker: Option<(Arc<Later>, Waker)>,
        // It was made during a gathering, and has not run yet.
        begins: bool,
        #[pin]
        future: F,
    }
}

/// Has a task wait for the end of a [gathering](gather). A task that is made during one begins after it, as if
/// its end had woken the task: Tokio runs what a task has spawned when that task has ended its turn.
pub(crate) fn gathered<F: Future>(future: F) -> Gathered<F> {
    // There is nothing to gather on a thread that ends.
    let gathers = WAITING.try_with(|waiting| waiting.borrow().gathers);
    Gathered { waker: None, begins: gathers.unwrap_or(false), future }
}

impl<F: Future> Future for Gathered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let known = this.waker.take().filter(|(later, _)| later.task.will_wake(cx.waker()));
        let (later, waker) = this.waker.insert(known.unwrap_or_else(|| {
            let later =
                Arc::new(Later { task: cx.waker().clone(), waited: AtomicBool::new(false) });
            (later.clone(), Waker::from(later))
        }));
        let waited = later.waited.swap(false, Ordering::Relaxed);
        let _restore = Restore(GATHERED.replace(waited | mem::take(this.begins)));
        this.future.poll(&mut Context::from_waker(waker))
    }
}

/// Restores [`GATHERED`], also on a panic.
struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        GATHERED.set(self.0);
    }
}

/// Wakes a gathered task.
struct Later {
    task: Waker,
    /// It was woken during a gathering, and has not run since.
    waited: AtomicBool,
}

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // There is nothing to gather on a thread that ends.
        let waits = WAITING.try_with(|waiting| {
            let mut waiting = waiting.borrow_mut();
            if waiting.gathers {
                self.waited.store(true, Ordering::Relaxed);
                waiting.tasks.push(self.task.clone());
            }
            waiting.gathers
        });
        if !waits.unwrap_or(false) {
            self.task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_gathered_task_is_woken_when_the_gathering_ends() {
        let count = Arc::<Count>::default();
        let woken = || count.0.load(Ordering::Relaxed);
        let waker = Waker::from(count.clone());
        let mut inner = None;
        let mut task = Box::pin(gathered(poll_fn(|cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(task);
        let inner = inner.unwrap();
        inner.wake_by_ref();
        assert_eq!(woken(), 1, "nothing is gathered");
        let ((), tasks) = gather_and_count(|| {
            inner.wake_by_ref();
            assert_eq!(woken(), 1);
        });
        assert_eq!(tasks, 1);
        assert_eq!(woken(), 2);
        let panicked = std::panic::catch_unwind(|| {
            gather(|| {
                inner.wake_by_ref();
                panic!("as a handler may");
            })
        });
        assert!(panicked.is_err());
        assert_eq!(woken(), 3, "it is not forgotten");
        inner.wake();
        assert_eq!(woken(), 4);
    }

    #[test]
    fn the_time_stands_still_while_something_is_gathered() {
        let second = Duration::from_secs(1);
        let origin = Instant::now();
        gather(|| {
            at(origin + 5 * second);
            assert_eq!(since(origin), 5 * second);
            assert_eq!(since(origin + second), 4 * second, "of another moment");
            assert_eq!(since(origin), 5 * second);
            at(origin + 6 * second);
            assert_eq!(since(origin), 6 * second);
        });
        assert!(since(origin) < 5 * second, "it goes on");
    }

    #[test]
    fn a_task_knows_whether_a_gathering_has_woken_it() {
        let (mut inner, mut told) = (None, Vec::new());
        let mut task = Box::pin(gathered(poll_fn(|cx| {
            inner = Some(cx.waker().clone());
            told.push(is_gathered());
            if told.len() < 4 { Poll::Pending } else { Poll::Ready((inner.take(), told.clone())) }
        })));
        let waker = Waker::from(Arc::<Count>::default());
        let mut cx = Context::from_waker(&waker);
        assert!(task.as_mut().poll(&mut cx).is_pending());
        let (later, _) = task.waker.clone().unwrap();
        gather(|| later.wake_by_ref());
        assert!(task.as_mut().poll(&mut cx).is_pending());
        assert!(task.as_mut().poll(&mut cx).is_pending());
        later.wake_by_ref();
        let Poll::Ready((_, told)) = task.as_mut().poll(&mut cx) else { unreachable!() };
        assert_eq!(told, [false, true, false, false]);
        assert!(!is_gathered(), "no task runs");
    }

    /// A room that wakes for what a loop has read has nothing to wait for.
    #[test]
    fn a_task_that_is_made_during_a_gathering_begins_at_its_end() {
        let mut told = Vec::new();
        let mut task = gather(|| {
            Box::pin(gathered(poll_fn(|_| {
                told.push(is_gathered());
                Poll::<()>::Pending
            })))
        });
        let waker = Waker::from(Arc::<Count>::default());
        let mut cx = Context::from_waker(&waker);
        assert!(task.as_mut().poll(&mut cx).is_pending());
        assert!(task.as_mut().poll(&mut cx).is_pending());
        drop(task);
        assert_eq!(told, [true, false]);
    }
}
