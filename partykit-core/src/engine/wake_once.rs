//! One driver whenever there is work, and never two. This file knows nothing of rooms, executors or time, so
//! that a model checker can run it: `tests/wake_once`.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::PoisonError,
    task::Waker,
};

use super::sync::{Mutex, MutexGuard};

/// State that any code may change, and that one driver at a time works on.
///
/// A driver is started when there is work and none runs, woken when there is work and it runs, and ends
/// by itself when there is none. Whether there is work and whether a driver runs change under one lock:
/// work that arrives while a driver is ending finds it either still there or already gone, never in
/// between.
pub(crate) struct WakeOnce<T> {
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    state: T,
    /// The waker of the driver that runs. One that does nothing, once it was taken to be woken.
    driver: Option<Waker>,
}

/// What the caller has to do for the driver, after the lock is free: a waker runs foreign code.
#[must_use = "without it the driver never learns that there is work"]
pub(crate) enum Call {
    /// Nothing is needed.
    Nothing,
    /// No driver runs, and one is needed. The caller alone is told so, until it has [retired].
    ///
    /// [retired]: WakeOnce::retire
    Start,
    /// The driver waits: wake it.
    Wake(Waker),
}

impl<T> WakeOnce<T> {
    /// No driver runs yet.
    pub(crate) fn new(state: T) -> Self {
        Self { inner: Mutex::new(Inner { state, driver: None }) }
    }

    /// The state, for changes that give the driver nothing to do.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        Guard(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state. `act` also says whether a driver has to be there afterwards.
    pub(crate) fn enter<R>(&self, act: impl FnOnce(&mut T) -> (R, bool)) -> (R, Call) {
        let mut guard = self.lock();
        let Inner { state, driver } = &mut *guard.0;
        let (result, is_work) = act(state);
        let call = match driver {
            Some(waker) if waker.will_wake(Waker::noop()) => Call::Nothing,
            Some(waker) => Call::Wake(mem::replace(waker, Waker::noop().clone())),
            None if is_work => {
                *driver = Some(Waker::noop().clone());
                Call::Start
            }
            None => Call::Nothing,
        };
        (result, call)
    }

    /// For the driver: takes work. Later work wakes `waker`.
    pub(crate) fn take<R>(&self, waker: &Waker, take: impl FnOnce(&mut T) -> R) -> R {
        let mut guard = self.lock();
        let Inner { state, driver } = &mut *guard.0;
        match driver {
            Some(known) if known.will_wake(waker) => {}
            driver => *driver = Some(waker.clone()),
        }
        take(state)
    }

    /// For the driver: ends it, unless `rest` returns `None` because there is work. When this returns
    /// something, the driver must not touch the state any more.
    pub(crate) fn retire<R>(&self, rest: impl FnOnce(&mut T) -> Option<R>) -> Option<R> {
        let mut guard = self.lock();
        let rested = rest(&mut guard.0.state)?;
        guard.0.driver = None;
        Some(rested)
    }
}

/// The state, locked.
pub(crate) struct Guard<'a, T>(MutexGuard<'a, Inner<T>>);

impl<T> Guard<'_, T> {
    /// Whether a driver runs.
    pub(crate) fn is_driven(&self) -> bool {
        self.0.driver.is_some()
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.state
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.state
    }
}
