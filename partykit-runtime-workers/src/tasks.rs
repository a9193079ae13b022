use std::{
    cell::{Cell, RefCell},
    future::Future,
    panic::AssertUnwindSafe,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use js_sys::{Function, Promise};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsValue, prelude::Closure};

use crate::clock;

/// How many times a call of the platform polls what is ready. The rest gets its turn in a moment.
const POLLS: u32 = 256;

/// The futures of one context of the platform: of one object, or of one request to the entry.
///
/// The platform's values (sockets, storage, requests) can only be used while their own context runs, and
/// one Wasm instance serves many contexts. So each context polls its own futures and no others: within the
/// platform's calls ([`Tasks::run`]), and when they are woken, wherever that is done from.
#[derive(Clone)]
pub(crate) struct Tasks(Rc<Inner>);

struct Inner {
    running: RefCell<FuturesUnordered<LocalBoxFuture<'static, ()>>>,
    /// Spawned, and not yet polled.
    fresh: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    /// Nothing runs any more.
    ended: Cell<bool>,
    bell: Arc<Bell>,
    run: Closure<dyn FnMut(JsValue)>,
}

/// Wakes the futures of a context.
struct Bell(SendWrapper<Door>);

struct Door {
    tasks: Weak<Inner>,
    /// Those of the door that was opened, until it is passed: the platform is about to call them.
    called: RefCell<Option<Rc<Inner>>>,
    /// Something is to be polled.
    rung: Cell<bool>,
    is_running: Cell<bool>,
    /// Resolves a promise that was made in the context, and on which [`Inner::run`] waits: the platform
    /// runs what waits for a promise in the context that made it, also if another one resolves it.
    open: RefCell<Option<Function>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(Rc::new_cyclic(|me: &Weak<Inner>| {
            let door = Door {
                tasks: me.clone(),
                called: RefCell::default(),
                rung: Cell::new(false),
                is_running: Cell::new(false),
                open: RefCell::default(),
            };
            let me = AssertUnwindSafe(me.clone());
            Inner {
                running: RefCell::default(),
                fresh: RefCell::default(),
                ended: Cell::new(false),
                bell: Arc::new(Bell(SendWrapper::new(door))),
                run: Closure::new(move |_| {
                    let me = &me;
                    if let Some(inner) = me.upgrade() {
                        clock::arrive();
                        inner.bell.0.called.take();
                        Self(inner).run();
                    }
                }),
            }
        }))
    }

    /// Runs a future that has nothing to say. Called in the own context.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        if self.0.ended.get() {
            return;
        }
        self.0.fresh.borrow_mut().push(future.boxed_local());
        self.arm();
        self.0.bell.ring();
    }

    /// Runs a future whose end somebody waits for. If it panics, and panics unwind, the promise is
    /// rejected: what the future shares with others is behind locks and cells that it leaves whole.
    pub(crate) fn promise(
        &self,
        future: impl Future<Output = Result<JsValue, JsValue>> + 'static,
    ) -> Promise {
        let mut future = Some(AssertUnwindSafe(future).catch_unwind());
        Promise::new(&mut |resolve, reject| {
            let Some(future) = future.take() else { return };
            self.spawn(async move {
                let settled = match future.await {
                    Ok(Ok(value)) => resolve.call1(&JsValue::UNDEFINED, &value),
                    Ok(Err(error)) => reject.call1(&JsValue::UNDEFINED, &error),
                    Err(_) => {
                        reject.call1(&JsValue::UNDEFINED, &js_sys::Error::new("it panicked").into())
                    }
                };
                // The functions of a promise throw nothing.
                drop(settled);
            });
        })
    }

    /// Polls what is ready, and what becomes ready by that. Called in the own context.
    pub(crate) fn run(&self) {
        let inner = &self.0;
        // Within a poll there is nothing to do: who polls goes on.
        let Ok(mut running) = inner.running.try_borrow_mut() else { return };
        let waker = Waker::from(inner.bell.clone());
        let polling = Polling::begin(self);
        let mut cx = Context::from_waker(&waker);
        for _ in 0..POLLS {
            if inner.ended.get() {
                break;
            }
            running.extend(inner.fresh.take());
            inner.bell.0.rung.set(false);
            let has_ended = matches!(running.poll_next_unpin(&mut cx), Poll::Ready(Some(())));
            if !has_ended && !inner.bell.0.rung.get() && inner.fresh.borrow().is_empty() {
                break;
            }
            // Should the last poll have been the last allowed one, the rest is woken.
            inner.bell.0.rung.set(true);
        }
        let has_ended = inner.ended.get();
        let gone = if has_ended { std::mem::take(&mut *running) } else { FuturesUnordered::new() };
        let is_idle = running.is_empty();
        drop(running);
        drop(polling);
        drop(gone);
        if !is_idle {
            self.arm();
        }
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
            let promise = Promise::new(&mut |resolve, _| *open = Some(resolve));
            drop(promise.then(&self.0.run));
        }
    }
}

/// Nobody opens the door while somebody polls, who then goes on by himself; but if a future panics,
/// others may be ready.
struct Polling<'a>(&'a Tasks);

impl<'a> Polling<'a> {
    fn begin(tasks: &'a Tasks) -> Self {
        tasks.0.bell.0.is_running.set(true);
        Self(tasks)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let door = &self.0.0.bell.0;
        door.is_running.set(false);
        if door.rung.get() || std::thread::panicking() {
            self.0.arm();
            door.open();
        }
    }
}

impl Bell {
    fn ring(&self) {
        if !self.0.rung.replace(true) && !self.0.is_running.get() {
            self.0.open();
        }
    }
}

impl Door {
    fn open(&self) {
        // Nobody is called who is gone, nor goes before the call: the platform would report an error.
        let Some(tasks) = self.tasks.upgrade() else { return };
        let open = self.open.borrow_mut().take();
        if let Some(open) = open {
            *self.called.borrow_mut() = Some(tasks);
            // The function of a promise throws nothing.
            drop(open.call0(&JsValue::UNDEFINED));
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
