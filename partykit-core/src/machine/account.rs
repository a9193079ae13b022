use std::time::Duration;

use super::WakeCause;

/// How a room has spent its life so far.
///
/// `resident` is the time in which an instance was in memory; `active` the part of it in which a
/// handler, a task or a commit ran, which is what Durable Objects bill.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::Account;
///
/// let account = Account::default();
/// assert_eq!(account.resident_saved(), 0.0);
/// assert_eq!(account.wakes(), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Account {
    /// Since the room came into memory, or its first connection.
    pub life: Duration,
    /// With an instance in memory.
    pub resident: Duration,
    /// With a handler, task or commit running.
    pub active: Duration,
    /// How often the instance was dropped because the room was idle.
    pub sleeps: u64,
    /// How often the instance was dropped because something failed.
    pub resets: u64,
    /// How often each kind of event made an instance necessary.
    pub causes: Vec<(WakeCause, u64)>,
    /// The last time that an event made an instance necessary, and which kind. Counted like `life`.
    pub last_wake: Option<(WakeCause, Duration)>,
    /// Messages that were lost because the room could not start or shut down.
    pub dropped_messages: u64,
    /// Handlers that ran longer than they may without an await at which they could be cancelled.
    pub overruns: u64,
}

impl Account {
    /// The share of its life that the room did not spend resident, 0 to 1.
    pub fn resident_saved(&self) -> f64 {
        self.saved(self.resident)
    }

    /// The share of its life in which nothing ran, 0 to 1.
    pub fn active_saved(&self) -> f64 {
        self.saved(self.active)
    }

    /// How often an event made an instance necessary.
    pub fn wakes(&self) -> u64 {
        self.causes.iter().map(|(_, times)| times).sum()
    }

    fn saved(&self, spent: Duration) -> f64 {
        if self.life.is_zero() {
            return 0.0;
        }
        1.0 - spent.as_secs_f64() / self.life.as_secs_f64()
    }
}

/// Keeps an [`Account`] as time goes on.
#[derive(Debug)]
pub(crate) struct Accountant {
    account: Account,
    born: Duration,
    settled: Duration,
    resident: bool,
    active: bool,
}

impl Accountant {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            account: Account::default(),
            born: now,
            settled: now,
            resident: false,
            active: false,
        }
    }

    /// Books the time since the last call, and what holds from now on.
    pub(crate) fn settle(&mut self, now: Duration, resident: bool, active: bool) {
        let passed = now.saturating_sub(self.settled);
        if self.resident {
            self.account.resident += passed;
        }
        if self.active {
            self.account.active += passed;
        }
        self.settled = now.max(self.settled);
        (self.resident, self.active) = (resident, active);
    }

    pub(crate) fn woke(&mut self, now: Duration, cause: WakeCause) {
        self.account.last_wake = Some((cause, now.saturating_sub(self.born)));
        match self.account.causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, times)) => *times += 1,
            None => self.account.causes.push((cause, 1)),
        }
    }

    pub(crate) fn slept(&mut self) {
        self.account.sleeps += 1;
    }

    pub(crate) fn reset(&mut self) {
        self.account.resets += 1;
    }

    pub(crate) fn dropped_message(&mut self) {
        self.account.dropped_messages += 1;
    }

    pub(crate) fn overran(&mut self) {
        self.account.overruns += 1;
    }

    pub(crate) fn account(&self, now: Duration) -> Account {
        let passed = now.saturating_sub(self.settled);
        let mut account = self.account.clone();
        account.life = now.saturating_sub(self.born);
        account.resident += if self.resident { passed } else { Duration::ZERO };
        account.active += if self.active { passed } else { Duration::ZERO };
        account
    }
}
