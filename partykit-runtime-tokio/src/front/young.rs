//! Handshakes that the accepting task runs itself.
//!
//! Nearly all handshakes are over as soon as their room has had its turn. Such a handshake needs no task, and stays
//! on the thread that accepted it. What takes longer, or runs code of the application, gets a task of its own.

use std::{
    any::Any,
    cell::Cell,
    future::{self, Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use futures_util::{future::BoxFuture, task::AtomicWaker};
use pin_project_lite::pin_project;
use tokio::{
    runtime,
    task::{consume_budget, yield_now},
    time::{Sleep, sleep},
};
use tracing::error;

use super::client::Rest;
use crate::gather::gather;

/// When this many handshakes wait in the accepting task, their rooms have their turns before another client is
/// accepted. Those that still wait then get tasks.
const MOST: usize = 32;

/// At the latest after this time, a handshake gets a task of its own. From then on it is noticed when its client
/// leaves.
const LONGEST: Duration = Duration::from_secs(1);

thread_local! {
    static WHERE: Cell<Where> = const { Cell::new(Where::OwnTask) };
}

/// Where the future runs that is polled on this thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    OwnTask,
    /// In the accepting task.
    Young,
    /// The same, and it has to get a task of its own before it goes on.
    Leaves,
}

/// The handshakes that an accepting task runs.
pub(super) struct Young {
    waiting: Vec<BoxFuture<'static, ()>>,
    news: Arc<News>,
    /// Wakes the accepting task, for those that wait.
    waker: Waker,
    /// When those that wait get tasks. Set while there may be some.
    due: Option<Pin<Box<Sleep>>>,
    tokio: runtime::Handle,
}

/// Whether one of those that wait can go on. An accepting task is woken for each client, so it would poll them often
/// for nothing.
#[derive(Default)]
struct News {
    is_there: AtomicBool,
    task: AtomicWaker,
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The task that takes it sees what was done before.
        if !self.is_there.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }
}

impl Young {
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(super) fn new() -> Self {
        let news = Arc::<News>::default();
        let waker = news.clone().into();
        Self { waiting: Vec::new(), news, waker, due: None, tokio: runtime::Handle::current() }
    }

    /// Does what can be done now for a connection. `serve` does it, and returns what is left to do.
    pub(super) async fn begin(&mut self, serve: impl FnOnce(&mut Context<'_>) -> Rest) {
        consume_budget().await;
        if self.waiting.len() >= MOST {
            yield_now().await;
            self.go_on();
            if self.waiting.len() >= MOST {
                self.let_go();
            }
        }
        let mut rest = None;
        let mut cx = Context::from_waker(&self.waker);
        let fate = guarded(|| {
            rest = serve(&mut cx);
            rest.as_mut().map_or(Poll::Ready(()), |rest| rest.as_mut().poll(&mut cx))
        });
        match (fate, rest) {
            (Fate::Waits, Some(rest)) => self.waiting.push(rest),
            (Fate::Leaves, Some(rest)) => drop(self.tokio.spawn(rest)),
            (Fate::Over, _) | (_, None) => {}
        }
    }

    /// Goes on with all that wait, if there is news for one of them. Never ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.news.task.register(cx.waker());
        self.go_on();
        loop {
            let Some(due) = &mut self.due else {
                if self.waiting.is_empty() {
                    return Poll::Pending;
                }
                self.due = Some(Box::pin(sleep(LONGEST)));
                continue;
            };
            ready!(due.as_mut().poll(cx));
            self.let_go();
        }
    }

    fn go_on(&mut self) {
        if !self.news.is_there.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut cx = Context::from_waker(&self.waker);
        let mut at = 0;
        while let Some(serving) = self.waiting.get_mut(at) {
            match guarded(|| serving.as_mut().poll(&mut cx)) {
                Fate::Waits => at += 1,
                Fate::Over => drop(self.waiting.swap_remove(at)),
                Fate::Leaves => drop(self.tokio.spawn(self.waiting.swap_remove(at))),
            }
        }
    }

    /// Gives each a task.
    pub(super) fn let_go(&mut self) {
        self.due = None;
        self.waiting.drain(..).for_each(|serving| drop(self.tokio.spawn(serving)));
    }
}

/// A connection outlives the task that has accepted it.
impl Drop for Young {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What becomes of a handshake.
enum Fate {
    Over,
    Waits,
    /// It has to get a task of its own.
    Leaves,
}

fn guarded(work: impl FnOnce() -> Poll<()>) -> Fate {
    let _restore = Restore(WHERE.replace(Where::Young));
    // Rooms wait for the end of the gathering, so they take all clients in that have come until then.
    let polled = catch_unwind(AssertUnwindSafe(|| gather(work)));
    match polled {
        Ok(Poll::Ready(())) => Fate::Over,
        Ok(Poll::Pending) if WHERE.get() == Where::Leaves => Fate::Leaves,
        Ok(Poll::Pending) => Fate::Waits,
        // One connection must not take the listener with it.
        Err(payload) => {
            error!("a handshake panicked, so its connection is closed: {}", text(&*payload));
            Fate::Over
        }
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

/// Restores [`WHERE`], also on a panic.
struct Restore(Where);

impl Drop for Restore {
    fn drop(&mut self) {
        WHERE.set(self.0);
    }
}

pin_project! {
    /// A future that is polled in a task of its own.
    pub(super) struct InOwnTask<F> {
        is_needed: bool,
        #[pin]
        future: F,
    }
}

/// Has the handshake that runs on this thread get a task of its own, if `is_needed`, and goes on there.
pub(super) fn in_own_task<F: Future>(is_needed: bool, future: F) -> InOwnTask<F> {
    InOwnTask { is_needed, future }
}

impl<F: Future> Future for InOwnTask<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if *this.is_needed && WHERE.get() != Where::OwnTask {
            // The accepting task looks for it and gives the handshake a task.
            WHERE.set(Where::Leaves);
            return Poll::Pending;
        }
        this.future.poll(cx)
    }
}

/// The same with nothing to poll.
pub(super) fn own_task() -> InOwnTask<impl Future<Output = ()> + Send> {
    in_own_task(true, future::ready(()))
}

/// Waits until the handshake that runs on this thread has a task of its own, without asking for one.
pub(super) async fn grown_up() {
    poll_fn(|_| match WHERE.get() {
        Where::OwnTask => Poll::Ready(()),
        Where::Young | Where::Leaves => Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::{sync::oneshot, task, time::Instant};

    use super::*;

    /// Where each step of the futures ran.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<(&'static str, task::Id)>>>);

    impl Log {
        fn note(&self, what: &'static str) {
            self.0.lock().unwrap().push((what, task::id()));
        }

        /// What ran, and whether it was in this task.
        fn take(&self) -> Vec<(&'static str, bool)> {
            let noted = std::mem::take(&mut *self.0.lock().unwrap());
            noted.into_iter().map(|(what, id)| (what, task::try_id() == Some(id))).collect()
        }
    }

    /// Runs a test as a task, as an accepting task is one.
    async fn accepting<F: Future<Output: Send> + Send + 'static>(test: F) -> F::Output {
        task::spawn(test).await.unwrap()
    }

    /// Begins with what has nothing to do at once.
    async fn begin(young: &mut Young, serving: impl Future<Output = ()> + Send + 'static) {
        young.begin(|_| Some(Box::pin(serving))).await;
    }

    /// Lets all other tasks run.
    async fn others_run(young: &mut Young) {
        for _ in 0..4 {
            tokio::select! {
                biased;
                () = poll_fn(|cx| young.poll(cx)) => unreachable!("it is never ready"),
                () = yield_now() => {}
            }
        }
    }

    #[tokio::test]
    async fn what_ends_or_is_woken_soon_needs_no_task() {
        accepting(async {
            let (log, mut young) = (Log::default(), Young::new());
            let (verdict, decided) = oneshot::channel();
            let (at_once, later) = (log.clone(), log.clone());
            begin(&mut young, async move { at_once.note("at once") }).await;
            begin(&mut young, async move {
                in_own_task(false, decided).await.unwrap();
                later.note("later");
            })
            .await;
            assert_eq!((log.take(), young.waiting.len()), (vec![("at once", true)], 1));
            verdict.send(()).unwrap();
            others_run(&mut young).await;
            assert_eq!((log.take(), young.waiting.len()), (vec![("later", true)], 0));
        })
        .await;
    }

    #[tokio::test]
    async fn code_of_the_application_has_a_task_of_its_own() {
        accepting(async {
            let (log, mut young) = (Log::default(), Young::new());
            let theirs = log.clone();
            let hook = async move { theirs.note("hook") };
            begin(&mut young, in_own_task(true, hook)).await;
            assert_eq!((log.take(), young.waiting.len()), (vec![], 0));
            others_run(&mut young).await;
            assert_eq!(log.take(), [("hook", false)]);

            // Also what comes to it later.
            let (theirs, (woken, waits)) = (log.clone(), oneshot::channel());
            begin(&mut young, async move {
                waits.await.unwrap();
                own_task().await;
                theirs.note("request");
            })
            .await;
            woken.send(()).unwrap();
            others_run(&mut young).await;
            assert_eq!(log.take(), [("request", false)]);
        })
        .await;
    }

    /// Its client may leave, which only its own task notices.
    #[tokio::test(start_paused = true)]
    async fn what_waits_for_long_gets_a_task() {
        accepting(async {
            let (log, mut young) = (Log::default(), Young::new());
            let grown = log.clone();
            begin(&mut young, async move {
                grown_up().await;
                grown.note("grown up");
            })
            .await;
            others_run(&mut young).await;
            assert_eq!((log.take(), young.waiting.len()), (vec![], 1));
            let longer = tokio::time::timeout(LONGEST * 2, poll_fn(|cx| young.poll(cx)));
            assert!(longer.await.is_err());
            assert_eq!((log.take(), young.waiting.len()), (vec![("grown up", false)], 0));
            assert!(young.due.is_none(), "nothing waits");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_accepting_task_is_woken_for_what_can_go_on() {
        accepting(async {
            let mut young = Young::new();
            let start = Instant::now();
            for _ in 0..3 {
                let (verdict, decided) = oneshot::channel::<()>();
                begin(&mut young, async move { decided.await.unwrap() }).await;
                task::spawn(async { verdict.send(()).unwrap() });
                poll_fn(|cx| {
                    let _ = young.poll(cx);
                    if young.waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            assert_eq!(start.elapsed(), Duration::ZERO, "it has only seen that the time is over");
        })
        .await;
    }

    #[tokio::test]
    async fn many_that_wait_do_not_grow_in_number() {
        accepting(async {
            let (log, mut young) = (Log::default(), Young::new());
            for _ in 0..3 * MOST {
                let grown = log.clone();
                let waits = async move {
                    grown_up().await;
                    grown.note("grown up");
                };
                begin(&mut young, waits).await;
                assert!(young.waiting.len() <= MOST);
            }
            drop(young);
            yield_now().await;
            assert_eq!(log.take(), [("grown up", false)].repeat(3 * MOST), "none is lost");
        })
        .await;
    }

    #[tokio::test]
    async fn a_panic_ends_one_connection() {
        accepting(async {
            let (log, mut young) = (Log::default(), Young::new());
            begin(&mut young, async { panic!("as code of ours might") }).await;
            assert!(WHERE.get() == Where::OwnTask);
            young.begin(|_| panic!("before there is a future")).await;
            assert!(WHERE.get() == Where::OwnTask);
            let next = log.clone();
            begin(&mut young, async move { next.note("next") }).await;
            assert_eq!((log.take(), young.waiting.len()), (vec![("next", true)], 0));
        })
        .await;
    }
}
