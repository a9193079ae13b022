use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use partykit_core::{RoomAddress, Timestamp};
use tokio::{sync::Notify, task::JoinHandle};

/// What rooms tell the task that rings their alarms: see `ringer`.
pub(crate) struct Alarms {
    told: Mutex<Told>,
    changed: Notify,
    ringer: Mutex<Option<JoinHandle<()>>>,
}

struct Told {
    /// The task looks at the store at this time anyway, so rooms need not report later alarms.
    looks_at: Timestamp,
    /// Rooms whose alarms were due when they were set.
    due: HashSet<RoomAddress>,
}

impl Alarms {
    /// Stands for no alarm.
    pub(crate) const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

    pub(crate) fn new() -> Arc<Self> {
        let told = Told { looks_at: Self::NEVER, due: HashSet::new() };
        Arc::new(Self { told: Mutex::new(told), changed: Notify::new(), ringer: Mutex::default() })
    }

    /// Notes that a room wants to be woken at this time.
    pub(crate) fn set(&self, room: &RoomAddress, at: Timestamp, now: Timestamp) {
        let mut told = lock(&self.told);
        if at <= now {
            told.due.insert(room.clone());
        } else if at < told.looks_at {
            told.looks_at = at;
        } else {
            return;
        }
        drop(told);
        self.changed.notify_one();
    }

    /// Waits until a room has reported an alarm that the task would not see in time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes the rooms whose alarms were due when they were set, and the time at which the task would have
    /// looked. From now until [`looks_at`](Self::looks_at), rooms report every alarm.
    pub(crate) fn take(&self) -> (HashSet<RoomAddress>, Timestamp) {
        let mut told = lock(&self.told);
        (std::mem::take(&mut told.due), std::mem::replace(&mut told.looks_at, Self::NEVER))
    }

    /// Notes that the task looks at the store at this time. Returns that time, or an earlier one that a room
    /// has reported meanwhile.
    pub(crate) fn looks_at(&self, at: Timestamp) -> Timestamp {
        let mut told = lock(&self.told);
        told.looks_at = told.looks_at.min(at);
        told.looks_at
    }

    /// Sets the task that rings.
    pub(crate) fn rung_by(&self, ringer: JoinHandle<()>) {
        *lock(&self.ringer) = Some(ringer);
    }

    /// Stops ringing. Alarms that are not over stay in the store.
    pub(crate) fn stop(&self) {
        if let Some(ringer) = lock(&self.ringer).take() {
            ringer.abort();
        }
    }
}

impl fmt::Debug for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarms").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
