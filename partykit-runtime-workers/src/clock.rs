use std::{cell::Cell, time::Duration};

use partykit_core::Timestamp;

/// The platform's clock. It stands still while code runs, and moves when something arrives.
pub(crate) struct Clock {
    /// The latest time that was seen, in milliseconds: the wall clock may be set back, this is not.
    latest: Cell<u64>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { latest: Cell::new(wall()) }
    }

    /// Time that never goes back.
    pub(crate) fn elapsed(&self) -> Duration {
        self.latest.set(self.latest.get().max(wall()));
        Duration::from_millis(self.latest.get())
    }

    /// The wall clock.
    pub(crate) fn now() -> Timestamp {
        Timestamp::from_millis(wall())
    }
}

fn wall() -> u64 {
    // Whole milliseconds, far below 2^53.
    js_sys::Date::now() as u64
}
