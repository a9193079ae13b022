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

/// How many times a call of the platform polls what is ready. The rest gets its turn in a moment.
const POLLS: u32 = 256;

/// The futures of one context of the platform: of one object, or of one request to the entry.
///
/// The platform's values (sockets, storage, requests) can only be used while their own context runs, and
/// one Wasm instance serves many contexts. So each context polls its own futures and no others: within the
/// platform's calls ([`Tasks::enter`]), and when they are woken, wherever that is done from.
#[derive(Clone)]
pub(crate) struct Tasks(Rc<Inner>);

struct Inner {
    running: RefCell<FuturesUnordered<LocalBoxFuture<'static, ()>>>,
    /// Spawned, and not yet polled.
    fresh: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    /// Nothing runs any more.
    ended: Cell<bool>,
    bell: Arc<Bell>,
}

/// Wakes the futures of a context.
struct Bell(SendWrapper<Door>);

struct Door {
    tasks: Weak<Inner>,
    /// Something is to be polled.
    rung: Cell<bool>,
    /// A call of the platform is in there, and polls before it returns.
    is_entered: Cell<bool>,
    /// A promise that was made in the context, and on which [`pass`] waits: the platform runs what waits
    /// for a promise in the context that made it, also if another one resolves it.
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
            Inner {
                running: RefCell::default(),
                fresh: RefCell::default(),
                ended: Cell::new(false),
                bell: Arc::new(Bell(SendWrapper::new(door))),
            }
        }))
    }

    /// The platform has called: what is woken until this is dropped is polled by [`Tasks::run`], or at the
    /// end. So what happens within an event takes no detour over a promise.
    pub(crate) fn enter(&self) -> Entered<'_> {
        let is_inner = self.0.bell.0.is_entered.replace(true);
        Entered { tasks: self, is_inner }
    }

    /// Runs a future that has nothing to say. Called in the own context.
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

    /// Runs a future whose end somebody waits for. If it panics, and panics unwind, the promise is
    /// rejected: what the future shares with others is behind locks and cells that it leaves whole.
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

    /// Polls what is ready, and what becomes ready by that. Called in the own context.
    pub(crate) fn run(&self) {
        let inner = &self.0;
        let door = &inner.bell.0;
        if !door.rung.get() {
            return;
        }
        // Within a poll there is nothing to do: who polls goes on.
        let Ok(mut running) = inner.running.try_borrow_mut() else { return };
        let _entered = self.enter();
        let waker = Waker::from(inner.bell.clone());
        let mut cx = Context::from_waker(&waker);
        CURRENT.set(Rc::downgrade(inner));
        for _ in 0..POLLS {
            if inner.ended.get() {
                break;
            }
            running.extend(inner.fresh.take());
            door.rung.set(false);
            let has_ended = matches!(running.poll_next_unpin(&mut cx), Poll::Ready(Some(())));
            if !has_ended && !door.rung.get() && inner.fresh.borrow().is_empty() {
                break;
            }
            // Should the last poll have been the last allowed one, the rest is woken.
            door.rung.set(true);
        }
        let has_ended = inner.ended.get();
        let gone = if has_ended { std::mem::take(&mut *running) } else { FuturesUnordered::new() };
        drop(running);
        drop(gone);
    }

    /// Those that poll the future which calls this.
    pub(crate) fn current() -> WeakTasks {
        WeakTasks(CURRENT.with_borrow(Weak::clone))
    }

    /// Drops all futures, and takes no more: the context is gone.
    pub(crate) fn end(&self) {
        self.0.ended.set(true);
        let fresh = self.0.fresh.take();
        // Outside of the borrow: what is dropped may want to spawn something. Within a poll, the future
        // that is being polled stays until it is pending, and is not polled again.
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
/// Tasks that become ready meanwhile start no call of their own: this one polls them when it ends. If a
/// future panics, the others may still be ready.
pub(crate) struct Entered<'a> {
    tasks: &'a Tasks,
    /// Another call is around this one, and does the rest.
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
    /// Those that poll.
    static CURRENT: RefCell<Weak<Inner>> = const { RefCell::new(Weak::new()) };

    /// Those whose door was opened and not yet passed: the platform is about to call them.
    static CALLED: RefCell<(u32, BTreeMap<u32, Rc<Inner>>)> = RefCell::default();

    /// What the platform calls then, with the key of those in there. One for all: each closure that is
    /// made for JavaScript is garbage there later.
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
        // A room that is gone is not called, and one that is called is held until then: otherwise the
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
