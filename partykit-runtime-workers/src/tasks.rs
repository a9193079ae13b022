use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use js_sys::Promise;
use send_wrapper::SendWrapper;
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
    running: RefCell<FuturesUnordered<LocalBoxFuture<'static, ()>>>,
    /// Futures that were spawned and not polled yet.
    fresh: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    /// Set when the context has ended.
    ended: Cell<bool>,
    bell: Arc<Bell>,
    /// Rings it.
    waker: Waker,
}

/// Wakes the futures of a context.
struct Bell(SendWrapper<Door>);

struct Door {
    tasks: Weak<Inner>,
    /// Something has to be polled.
    rung: Cell<bool>,
    /// A call of the platform is running. It polls before it returns.
    is_entered: Cell<bool>,
    /// A promise of this context on which [`pass`] waits. The platform runs callbacks of a promise in the
    /// context that made it, even if another context resolves it.
    open: RefCell<Option<Deferred>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(Rc::new_cyclic(|me: &Weak<Inner>| {
            let door = Door {
                tasks: me.clone(),
                rung: Cell::new(false),
                is_entered: Cell::new(false),
                open: RefCell::default(),
            };
            let bell = Arc::new(Bell(SendWrapper::new(door)));
            Inner {
                running: RefCell::default(),
                fresh: RefCell::default(),
                ended: Cell::new(false),
                waker: Waker::from(bell.clone()),
                bell,
            }
        }))
    }

    /// Begins a call of the platform. Futures that are woken until the result is dropped are polled by
    /// [`Tasks::run`], or at the end. So they need no promise.
    pub(crate) fn enter(&self) -> Entered<'_> {
        let is_inner = self.0.bell.0.is_entered.replace(true);
        Entered { tasks: self, is_inner }
    }

    /// Runs a future without a result. Call it in the own context.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        if self.0.ended.get() {
            return;
        }
        self.0.fresh.borrow_mut().push(future.boxed_local());
        if !self.0.bell.0.is_entered.get() {
            self.arm();
        }
        self.0.bell.ring();
    }

    /// Runs a future, and returns a promise of its result. If it panics, and panics unwind, the promise is
    /// rejected. The future shares data with others only through locks and cells, which a panic leaves whole.
    pub(crate) fn promise(
        &self,
        future: impl Future<Output = Result<JsValue, JsValue>> + 'static,
    ) -> Promise {
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
        let door = &inner.bell.0;
        if !door.rung.get() {
            return;
        }
        // Called from inside of a poll: the outer call goes on polling.
        let Ok(mut running) = inner.running.try_borrow_mut() else { return };
        let _entered = self.enter();
        let mut cx = Context::from_waker(&inner.waker);
        CURRENT.set(Rc::downgrade(inner));
        for _ in 0..POLLS {
            if inner.ended.get() {
                break;
            }
            if !inner.fresh.borrow().is_empty() {
                running.extend(inner.fresh.take());
            }
            door.rung.set(false);
            let has_ended = matches!(running.poll_next_unpin(&mut cx), Poll::Ready(Some(())));
            if !has_ended && !door.rung.get() && inner.fresh.borrow().is_empty() {
                break;
            }
            // If the limit of polls is reached, the rest is woken.
            door.rung.set(true);
        }
        let has_ended = inner.ended.get();
        let gone = if has_ended { std::mem::take(&mut *running) } else { FuturesUnordered::new() };
        drop(running);
        drop(gone);
    }

    /// The tasks whose future calls this.
    pub(crate) fn current() -> WeakTasks {
        WeakTasks(CURRENT.with_borrow(Weak::clone))
    }

    /// Drops all futures and takes no more, because the context is gone.
    pub(crate) fn end(&self) {
        self.0.ended.set(true);
        let fresh = self.0.fresh.take();
        // The futures are dropped outside of the borrow, because they may spawn something when they are
        // dropped. If this is called inside of a poll, the polled future stays until it is pending, and is
        // not polled again.
        let running =
            self.0.running.try_borrow_mut().map(|mut running| std::mem::take(&mut *running));
        drop((fresh, running));
    }

    /// Makes the promise by which the context can be woken.
    fn arm(&self) {
        let mut open = self.0.bell.0.open.borrow_mut();
        if open.is_none() {
            let deferred = Deferred::new();
            RUN.with(|run| drop(deferred.promise().then(run)));
            *open = Some(deferred);
        }
    }

    fn is_idle(&self) -> bool {
        self.0.fresh.borrow().is_empty()
            && self.0.running.try_borrow().is_ok_and(|running| running.is_empty())
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
        let door = &self.tasks.0.bell.0;
        door.is_entered.set(false);
        if !self.tasks.is_idle() {
            self.tasks.arm();
        }
        if door.rung.get() || panics {
            door.open();
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

impl Bell {
    fn ring(&self) {
        if !self.0.rung.replace(true) && !self.0.is_entered.get() {
            self.0.open();
        }
    }
}

impl Door {
    fn open(&self) {
        // Tasks that are gone are not called. Tasks that will be called are kept until then: otherwise the
        // platform would report an error.
        let Some(tasks) = self.tasks.upgrade() else { return };
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

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
