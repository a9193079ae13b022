use std::{cell::Cell, time::Duration};

use partykit_core::Timestamp;

/// The platform's clock. It stands still while code runs, so it is read once for each call of the platform.
pub(crate) struct Clock {
    /// The latest time that was read, in milliseconds. It never goes back, even if the wall clock does.
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

thread_local! {
    /// The wall clock of the current call of the platform. `None` until it is read.
    static WALL: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Begins a call of the platform: the clock may have moved.
pub(crate) fn arrive() {
    WALL.set(None);
}

fn wall() -> u64 {
    WALL.get().unwrap_or_else(|| {
        // Whole milliseconds, far below 2^53.
        let now = js_sys::Date::now() as u64;
        WALL.set(Some(now));
        now
    })
}
