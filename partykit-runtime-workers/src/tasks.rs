use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::Future,
    panic::AssertUnwindSafe,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Wake, Waker},
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use js_sys::Promise;
use send_wrapper::SendWrapper;
use slab::Slab;
use wasm_bindgen::{JsValue, prelude::Closure};

use crate::{clock, js::Deferred};

/// A call of the platform polls at most this many ready tasks. The rest follows a moment later.
const POLLS: u32 = 256;

/// The futures of one context of the platform: of one object, or of one request to the entry.
///
/// The platform's values (sockets, storage, requests) can be used only while their own context runs, and one
/// Wasm instance serves many contexts. So each context polls only its own futures: inside of the platform's
/// calls ([`Tasks::enter`]), and when they are woken from any context.
#[derive(Clone)]
pub(crate) struct Tasks(Rc<Inner>);

struct Inner {
    /// The futures that have not ended.
    running: RefCell<Slab<Arc<Task>>>,
    /// Those that have to be polled, in the order in which they were woken.
    ready: RefCell<VecDeque<Arc<Task>>>,
    is_polling: Cell<bool>,
    /// A call of the platform is running. It polls before it returns.
    is_entered: Cell<bool>,
    /// Set when the context has ended.
    ended: Cell<bool>,
    /// A promise of this context on which [`pass`] waits. The platform runs callbacks of a promise in the
    /// context that made it, even if another context resolves it.
    open: RefCell<Option<Deferred>>,
    me: Weak<Inner>,
}

/// A future. Wakers are handles of it, so it has to be `Send`.
struct Task(SendWrapper<Slot>);

struct Slot {
    /// `None` while it is polled, and when it has ended.
    future: Cell<Option<LocalBoxFuture<'static, ()>>>,
    is_ready: Cell<bool>,
    /// Its place among those that run.
    place: usize,
    tasks: Weak<Inner>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(Rc::new_cyclic(|me| Inner {
            running: RefCell::default(),
            ready: RefCell::default(),
            is_polling: Cell::new(false),
            is_entered: Cell::new(false),
            ended: Cell::new(false),
            open: RefCell::default(),
            me: me.clone(),
        }))
    }

    /// Begins a call of the platform. Futures that are woken until the result is dropped are polled by
    /// [`Tasks::run`], or at the end. So they need no promise.
    pub(crate) fn enter(&self) -> Entered<'_> {
        let is_inner = self.0.is_entered.replace(true);
        Entered { tasks: self, is_inner }
    }

    /// Runs a future without a result. Call it in the own context.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let inner = &self.0;
        if inner.ended.get() {
            return;
        }
        let mut running = inner.running.borrow_mut();
        let task = Arc::new(Task(SendWrapper::new(Slot {
            future: Cell::new(Some(future.boxed_local())),
            is_ready: Cell::new(false),
            place: running.vacant_key(),
            tasks: inner.me.clone(),
        })));
        running.insert(task.clone());
        drop(running);
        if !inner.is_entered.get() {
            inner.arm();
        }
        task.wake();
    }

    /// Runs a future, and returns a promise of its result. If it panics, and panics unwind, the promise is
    /// rejected. The future shares data with others only through locks and cells, which a panic leaves whole.
    pub(crate) fn promise(
        &self,
        future: impl Future<Output = Result<JsValue, JsValue>> + 'static,
    ) -> Promise {
        self.promise_boxed(future.boxed_local())
    }

    /// One for all types of futures: a Worker should be small.
    fn promise_boxed(&self, future: LocalBoxFuture<'static, Result<JsValue, JsValue>>) -> Promise {
        let deferred = Deferred::new();
        let promise = deferred.promise();
        let future = AssertUnwindSafe(future).catch_unwind();
        self.spawn(async move {
            match future.await {
                Ok(Ok(value)) => deferred.resolve(&value),
                Ok(Err(error)) => deferred.reject(&error),
                Err(_) => deferred.reject(&js_sys::Error::new("it panicked").into()),
            }
        });
        promise
    }

    /// Polls all ready futures, also those that become ready meanwhile. Call it in the own context.
    pub(crate) fn run(&self) {
        let inner = &self.0;
        // Called from inside of a poll: the outer call goes on polling.
        if inner.is_polling.get() || inner.ready.borrow().is_empty() {
            return;
        }
        let _entered = self.enter();
        CURRENT.set(inner.me.clone());
        for _ in 0..POLLS {
            let ready = inner.ready.borrow_mut().pop_front();
            let Some(task) = ready else { break };
            inner.poll(&task);
        }
    }

    /// The tasks whose future calls this.
    pub(crate) fn current() -> WeakTasks {
        WeakTasks(CURRENT.with_borrow(Weak::clone))
    }

    /// Drops all futures and takes no more, because the context is gone.
    pub(crate) fn end(&self) {
        let inner = &self.0;
        inner.ended.set(true);
        // The futures are dropped outside of the borrow, because they may spawn something when they are
        // dropped. If this is called inside of a poll, the polled future stays until it is pending, and is
        // not polled again.
        let (ready, running) = (inner.ready.take(), inner.running.take());
        let futures: Vec<_> = running.iter().map(|(_, task)| task.0.future.take()).collect();
        drop((futures, ready, running));
    }
}

impl Inner {
    fn poll(&self, task: &Arc<Task>) {
        task.0.is_ready.set(false);
        let Some(mut future) = task.0.future.take() else { return };
        let waker = Waker::from(task.clone());
        let mut polling = Polling { inner: self, task, is_pending: false };
        self.is_polling.set(true);
        let poll = future.poll_unpin(&mut Context::from_waker(&waker));
        if poll.is_pending() && !self.ended.get() {
            polling.is_pending = true;
            task.0.future.set(Some(future));
        }
    }

    /// Makes the promise by which the context can be woken.
    fn arm(&self) {
        let mut open = self.open.borrow_mut();
        if open.is_none() {
            let deferred = Deferred::new();
            RUN.with(|run| drop(deferred.promise().then(run)));
            *open = Some(deferred);
        }
    }

    /// Has the platform call [`pass`] soon, in this context.
    fn call(&self) {
        // Tasks that are gone are not called. Tasks that will be called are kept until then: otherwise the
        // platform would report an error.
        let Some(tasks) = self.me.upgrade() else { return };
        let open = self.open.borrow_mut().take();
        if let Some(open) = open {
            let key = CALLED.with(|called| {
                let (last, called) = &mut *called.borrow_mut();
                *last = last.wrapping_add(1);
                called.insert(*last, tasks);
                *last
            });
            open.resolve(&key.into());
        }
    }
}

/// A poll of a task. Its end is noted also if the poll panics.
struct Polling<'a> {
    inner: &'a Inner,
    task: &'a Task,
    is_pending: bool,
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.inner.is_polling.set(false);
        if !self.is_pending {
            let ended = self.inner.running.borrow_mut().try_remove(self.task.0.place);
            drop(ended);
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.0.is_ready.replace(true) {
            return;
        }
        let Some(inner) = self.0.tasks.upgrade().filter(|inner| !inner.ended.get()) else { return };
        inner.ready.borrow_mut().push_back(self);
        if !inner.is_entered.get() {
            inner.call();
        }
    }
}

/// A call of the platform.
///
/// Tasks that become ready meanwhile start no call of their own: this one polls them at its end. That also
/// holds if a future panics.
pub(crate) struct Entered<'a> {
    tasks: &'a Tasks,
    /// Whether it is inside of another call, which polls the rest.
    is_inner: bool,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.is_inner {
            return;
        }
        let panics = std::thread::panicking();
        if !panics {
            self.tasks.run();
        }
        let inner = &self.tasks.0;
        inner.is_entered.set(false);
        if !inner.running.borrow().is_empty() {
            inner.arm();
        }
        if panics || !inner.ready.borrow().is_empty() {
            inner.call();
        }
    }
}

/// Tasks that may be gone.
pub(crate) struct WeakTasks(Weak<Inner>);

impl WeakTasks {
    pub(crate) fn upgrade(&self) -> Option<Tasks> {
        self.0.upgrade().map(Tasks)
    }
}

thread_local! {
    /// The tasks that are polling now.
    static CURRENT: RefCell<Weak<Inner>> = const { RefCell::new(Weak::new()) };

    /// The tasks that the platform is about to call.
    static CALLED: RefCell<(u32, BTreeMap<u32, Rc<Inner>>)> = RefCell::default();

    /// The function that the platform calls for them, with their key. One serves all, because each closure
    /// for JavaScript is garbage later.
    static RUN: Closure<dyn FnMut(JsValue)> = Closure::new(pass);
}

/// A door was opened.
#[allow(clippy::needless_pass_by_value, reason = "what a closure gives")]
fn pass(key: JsValue) {
    clock::arrive();
    let key = key.as_f64().map_or(u32::MAX, |key| key as u32);
    let called = CALLED.with(|called| called.borrow_mut().1.remove(&key));
    if let Some(inner) = called {
        drop(Tasks(inner).enter());
    }
}
