use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use wasm_bindgen::{JsCast, JsValue, prelude::Closure};

use crate::{clock, js};

/// The timers of one room, which share one timer of the platform. It runs only while the room
/// [works](Timers::work): a pending timer would keep an idle object in memory, and that costs money.
pub(crate) struct Timers {
    waiting: RefCell<BTreeMap<(Duration, u64), Waker>>,
    next: Cell<u64>,
    works: Cell<bool>,
    armed: RefCell<Option<(Duration, JsValue)>>,
    /// What the platform calls. Most rooms that wake need no timer, and a closure for JavaScript is garbage later.
    ring: OnceCell<Closure<dyn FnMut()>>,
    me: Weak<Self>,
}

impl Timers {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            waiting: RefCell::default(),
            next: Cell::new(0),
            works: Cell::new(false),
            armed: RefCell::default(),
            ring: OnceCell::new(),
            me: me.clone(),
        })
    }

    /// Sets whether the room works. Its timers run only while it works.
    pub(crate) fn work(&self, works: bool) {
        if self.works.replace(works) != works {
            self.arm();
        }
    }

    /// Waits until the clock shows `at` or later, while the room works.
    pub(crate) fn sleep_until(self: &Rc<Self>, at: Duration) -> Sleep {
        self.next.set(self.next.get() + 1);
        Sleep { timers: self.clone(), key: (at, self.next.get()) }
    }

    fn ring(&self) {
        clock::arrive();
        self.armed.take();
        let now = clock::elapsed();
        let mut waiting = self.waiting.borrow_mut();
        let later = waiting.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut *waiting, later);
        drop(waiting);
        due.into_values().for_each(Waker::wake);
        self.arm();
    }

    /// Sets the platform's timer to the first timer, if it is not set already.
    fn arm(&self) {
        let first = self.waiting.borrow().first_key_value().map(|((at, _), _)| *at);
        let wanted = first.filter(|at| self.works.get() && *at < Duration::MAX);
        let mut armed = self.armed.borrow_mut();
        if armed.as_ref().map(|(at, _)| *at) == wanted {
            return;
        }
        if let Some((_, timer)) = armed.take() {
            // If this fails, the timer has rung already.
            let _ = js::clear_timeout(&timer);
        }
        if let Some(at) = wanted {
            let left = at.saturating_sub(clock::elapsed()).as_millis();
            let millis = i32::try_from(left).unwrap_or(i32::MAX);
            let ring = self.ring.get_or_init(|| closure(self.me.clone()));
            let timer = js::set_timeout(ring.as_ref().unchecked_ref(), millis);
            *armed = timer.ok().map(|timer| (at, timer));
        }
    }
}

fn closure(timers: Weak<Timers>) -> Closure<dyn FnMut()> {
    // The waker was taken out before it is called, so a panic in it leaves the timers whole.
    let timers = AssertUnwindSafe(timers);
    Closure::new(move || {
        let timers = &timers;
        if let Some(timers) = timers.upgrade() {
            timers.ring();
        }
    })
}

impl Drop for Timers {
    fn drop(&mut self) {
        if let Some((_, timer)) = self.armed.take() {
            let _ = js::clear_timeout(&timer);
        }
    }
}

/// Waits for `time`, also in a room that does not work.
pub(crate) async fn pause(time: Duration) {
    let timers = Timers::new();
    timers.work(true);
    timers.sleep_until(clock::elapsed() + time).await;
}

/// See [`Timers::sleep_until`].
pub(crate) struct Sleep {
    timers: Rc<Timers>,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // An idle room's: it never rings, and is polled at each event.
        if self.key.0 == Duration::MAX {
            return Poll::Pending;
        }
        if clock::elapsed() >= self.key.0 {
            return Poll::Ready(());
        }
        let mut waiting = self.timers.waiting.borrow_mut();
        // A timer is polled at each event of its room, and mostly waits already.
        if waiting.get(&self.key).is_none_or(|known| !known.will_wake(cx.waker())) {
            waiting.insert(self.key, cx.waker().clone());
            drop(waiting);
            self.timers.arm();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.timers.waiting.borrow_mut().remove(&self.key);
        if waker.is_some() {
            self.timers.arm();
        }
    }
}
