//! The platform's clock. It stands still while code runs, and moves when something arrives: so it is read
//! once for each call of the platform.

use std::{cell::Cell, time::Duration};

use partykit_core::Timestamp;

thread_local! {
    /// The wall clock of the current call of the platform. `None` until it is read.
    static WALL: Cell<Option<u64>> = const { Cell::new(None) };

    /// The latest time that was seen, in milliseconds: the wall clock may be set back, [`elapsed`] is not.
    static LATEST: Cell<u64> = const { Cell::new(0) };
}

/// Begins a call of the platform: the clock may have moved.
pub(crate) fn arrive() {
    WALL.set(None);
}

/// The same, at a time that JavaScript has read.
pub(crate) fn arrive_at(millis: f64) {
    // Whole milliseconds, far below 2^53.
    set(millis as u64);
}

/// Time that never goes back.
pub(crate) fn elapsed() -> Duration {
    wall();
    Duration::from_millis(LATEST.get())
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(wall())
}

fn wall() -> u64 {
    WALL.get().unwrap_or_else(|| set(js_sys::Date::now() as u64))
}

fn set(now: u64) -> u64 {
    WALL.set(Some(now));
    LATEST.set(LATEST.get().max(now));
    now
}
