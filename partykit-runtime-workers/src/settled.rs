use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use js_sys::Promise;
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};

use crate::{
    clock, js,
    tasks::{Tasks, WeakTasks},
};

/// Waits for a promise of the same context. The platform calls back in that context, so the tasks run at
/// once. (Other futures need one more promise to wake the tasks.)
pub(crate) struct Settled {
    key: u32,
    slot: Rc<Slot>,
}

#[derive(Default)]
struct Slot {
    outcome: Cell<Option<Result<JsValue, JsValue>>>,
    waiting: Cell<Option<(Waker, WeakTasks)>>,
}

thread_local! {
    /// The promises that are waited for.
    static SLOTS: RefCell<(u32, BTreeMap<u32, Rc<Slot>>)> = RefCell::default();

    /// The function that the platform calls. One serves all promises, because each closure for JavaScript is
    /// garbage later.
    static SETTLED: Closure<dyn FnMut(u32, bool, JsValue)> = Closure::new(settled);
}

impl Settled {
    pub(crate) fn of(promise: &Promise) -> Self {
        let slot = Rc::new(Slot::default());
        let key = SLOTS.with(|slots| {
            let (last, slots) = &mut *slots.borrow_mut();
            *last = last.wrapping_add(1);
            slots.insert(*last, slot.clone());
            *last
        });
        SETTLED.with(|settled| js::wait(promise, settled.as_ref().unchecked_ref(), key));
        Self { key, slot }
    }
}

impl Future for Settled {
    type Output = Result<JsValue, JsValue>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.slot.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                self.slot.waiting.set(Some((cx.waker().clone(), Tasks::current())));
                Poll::Pending
            }
        }
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        SLOTS.with(|slots| slots.borrow_mut().1.remove(&self.key));
    }
}

fn settled(key: u32, is_kept: bool, value: JsValue) {
    clock::arrive();
    // Without a slot, the waiting future was dropped.
    let Some(slot) = SLOTS.with(|slots| slots.borrow_mut().1.remove(&key)) else { return };
    slot.outcome.set(Some(if is_kept { Ok(value) } else { Err(value) }));
    if let Some((waker, tasks)) = slot.waiting.take() {
        let tasks = tasks.upgrade();
        let _call = tasks.as_ref().map(Tasks::enter);
        waker.wake();
    }
}
