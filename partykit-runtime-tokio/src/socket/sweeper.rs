use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Link;
#[cfg(unix)]
use super::reactor::{Inbox, Reactor};

/// Seconds since the sweeper started. The first is 1, because the deadline 0 means no deadline.
pub(super) type Second = u32;

/// No visit is due.
pub(super) const NEVER: Second = Second::MAX;

/// The clock of all links of a runtime. It visits each link when the first of its time limits may be over. An
/// idle link is visited about twice a minute.
pub(crate) struct Sweeper {
    clock: AtomicU32,
    /// The loops that visit the links of plain TCP by themselves. Told when the second is over.
    #[cfg(unix)]
    loops: Mutex<Vec<Arc<Inbox>>>,
    visits: Mutex<Visits>,
}

/// Keyed by time, then by the link's address in memory.
type Visits = BTreeMap<(Second, usize), Weak<Link>>;

impl Sweeper {
    /// Starts the sweeper. Its task ends when the last handle is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn start() -> Arc<Self> {
        let sweeper = Arc::new(Self {
            clock: AtomicU32::new(1),
            #[cfg(unix)]
            loops: Mutex::default(),
            visits: Mutex::default(),
        });
        tokio::spawn(sweep_each_second(Arc::downgrade(&sweeper)));
        sweeper
    }

    /// Has the loops of a reactor visit their links.
    #[cfg(unix)]
    pub(super) fn watch(&self, reactor: &Reactor) {
        self.loops().extend_from_slice(reactor.inboxes());
    }

    #[cfg(unix)]
    fn loops(&self) -> MutexGuard<'_, Vec<Arc<Inbox>>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, up to a second late.
    pub(super) fn now(&self) -> Second {
        self.clock.load(Ordering::Relaxed)
    }

    /// The first second that begins at least `duration` after now.
    pub(super) fn after(&self, duration: Duration) -> Second {
        past(self.now(), duration)
    }

    /// Moves the visit of a link from `old` to `new`.
    pub(super) fn schedule(&self, link: &Weak<Link>, old: Second, new: Second) {
        let address = address(link);
        let mut visits = self.visits();
        visits.remove(&(old, address));
        visits.insert((new, address), link.clone());
    }

    /// Forgets a visit.
    pub(super) fn cancel(&self, link: &Weak<Link>, old: Second) {
        self.visits().remove(&(old, address(link)));
    }

    #[cfg(test)]
    pub(super) fn scheduled(&self) -> usize {
        self.visits().len()
    }

    fn sweep(&self, now: Second) {
        self.clock.store(now, Ordering::Relaxed);
        #[cfg(unix)]
        self.loops().iter().for_each(|inbox| inbox.sweep(now));
        while let Some(link) = self.next_due(now) {
            if let Some(link) = link.upgrade() {
                link.visit();
            }
        }
    }

    fn next_due(&self, now: Second) -> Option<Weak<Link>> {
        let mut visits = self.visits();
        let first = visits.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn visits(&self) -> MutexGuard<'_, Visits> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first second that begins at least `duration` after any moment in the second `start`.
pub(super) fn past(start: Second, duration: Duration) -> Second {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    start.saturating_add(Second::try_from(whole).unwrap_or(NEVER)).saturating_add(1)
}

async fn sweep_each_second(sweeper: Weak<Sweeper>) {
    let start = Instant::now();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let elapsed = (seconds.tick().await - start).as_secs();
        let Some(sweeper) = sweeper.upgrade() else { return };
        sweeper.sweep(Second::try_from(elapsed + 1).unwrap_or(NEVER - 1));
    }
}

fn address(link: &Weak<Link>) -> usize {
    link.as_ptr().addr()
}
