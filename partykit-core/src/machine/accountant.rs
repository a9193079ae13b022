use std::time::Duration;

use super::{
    account::{Account, Book, Causes, Condition, LongestAwake, TimeAwake},
    awake::AwakeReason,
    ledger::Ledger,
    wake_cause::WakeCause,
};

/// Keeps an [`Account`] as time goes on.
///
/// A room that wakes does not read what was booked before: that is added when the room sleeps again, or when code
/// asks.
#[derive(Debug)]
pub(crate) struct Accountant {
    /// What was booked before this began.
    past: Ledger,
    /// When this began.
    opened: Duration,
    recent: Recent,
    settled: Duration,
    woken: Duration,
    condition: Condition,
}

/// What was booked since.
#[derive(Clone, Debug, Default)]
struct Recent {
    resident: Duration,
    active: Duration,
    awake: TimeAwake,
    /// In a place of its own, because it is known only when the room falls asleep.
    longest_awake: Option<Box<LongestAwake>>,
    sleeps: u64,
    resets: u64,
    causes: Causes,
    last_wake: Option<(WakeCause, Duration)>,
    dropped_messages: u64,
    rejected: u64,
    overruns: u64,
    slow_clients: u64,
}

impl Accountant {
    /// Goes on with what was booked.
    pub(super) fn new(past: Ledger, now: Duration) -> Self {
        Self {
            past,
            opened: now,
            recent: Recent::default(),
            settled: now,
            woken: now,
            condition: Condition::default(),
        }
    }

    /// Books the time since the last call, and what holds from now on.
    pub(crate) fn settle(&mut self, now: Duration, condition: Condition) {
        self.pass(now);
        self.condition = condition;
    }

    /// Books the time since the last call.
    pub(crate) fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.settled);
        // Often: a turn that ends, and the next one that begins, are settled at the same time.
        if !passed.is_zero() {
            self.recent.book(&self.condition, passed);
            self.settled = now;
        }
    }

    pub(crate) fn woke(&mut self, now: Duration, cause: WakeCause) {
        self.woken = now;
        self.recent.last_wake = Some((cause, now));
        self.recent.causes.count(cause, 1);
    }

    pub(crate) fn last_wake(&self) -> Option<WakeCause> {
        let recent = self.recent.last_wake.map(|(cause, _)| cause);
        recent.or_else(|| self.past.book(self.opened).account.last_wake.map(|(cause, _)| cause))
    }

    /// The instance is dropped; `holder` held it for the longest time. Returns how long it was there.
    pub(crate) fn ended(&mut self, holder: Option<(AwakeReason, Duration)>) -> Duration {
        let awake = self.settled.saturating_sub(self.woken);
        self.recent.stretch(awake, holder);
        awake
    }

    pub(crate) fn slept(&mut self) {
        self.recent.sleeps += 1;
    }

    pub(crate) fn reset(&mut self) {
        self.recent.resets += 1;
    }

    pub(crate) fn dropped_message(&mut self) {
        self.recent.dropped_messages += 1;
    }

    pub(crate) fn rejected(&mut self) {
        self.recent.rejected += 1;
    }

    pub(crate) fn overran(&mut self) {
        self.recent.overruns += 1;
    }

    pub(crate) fn slow_client(&mut self) {
        self.recent.slow_clients += 1;
    }

    /// The account up to now; `holder` has held the room for the longest time since it woke.
    pub(crate) fn account(
        &self,
        now: Duration,
        holder: Option<(AwakeReason, Duration)>,
    ) -> Account {
        let mut recent = self.recent.clone();
        recent.book(&self.condition, now.saturating_sub(self.settled));
        if self.condition.resident {
            recent.stretch(now.saturating_sub(self.woken), holder);
        }
        recent.added_to(self.past.book(self.opened)).account(now)
    }

    /// Everything that was booked so far.
    pub(super) fn book(&self) -> Book {
        self.recent.added_to(self.past.book(self.opened))
    }
}

impl Recent {
    /// Books that a room was like this for some time.
    fn book(&mut self, was: &Condition, passed: Duration) {
        if passed.is_zero() {
            return;
        }
        if was.active {
            self.active += passed;
        }
        if was.resident {
            self.resident += passed;
            self.awake.book(was, passed);
        }
    }

    /// Keeps this time awake if there was no longer one.
    fn stretch(&mut self, duration: Duration, holder: Option<(AwakeReason, Duration)>) {
        if self.longest_awake.as_ref().is_none_or(|longest| duration > longest.duration) {
            let (held_by, held) =
                holder.map_or((None, Duration::ZERO), |(by, held)| (Some(by), held));
            self.longest_awake = Some(Box::new(LongestAwake { duration, held_by, held }));
        }
    }

    /// Adds it to what was booked before.
    fn added_to(&self, mut book: Book) -> Book {
        let Book { account, causes, born } = &mut book;
        account.resident += self.resident;
        account.active += self.active;
        account.awake.add(&self.awake);
        let longest = account.longest_awake.as_ref().map(|longest| longest.duration);
        if let Some(recent) = &self.longest_awake
            && longest.is_none_or(|longest| recent.duration > longest)
        {
            account.longest_awake = Some((**recent).clone());
        }
        account.sleeps += self.sleeps;
        account.resets += self.resets;
        self.causes.iter().for_each(|(cause, times)| causes.count(cause, times));
        let last_wake = self.last_wake.map(|(cause, at)| (cause, at.saturating_sub(*born)));
        account.last_wake = last_wake.or(account.last_wake);
        account.dropped_messages += self.dropped_messages;
        account.rejected += self.rejected;
        account.overruns += self.overruns;
        account.slow_clients += self.slow_clients;
        book
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident() -> Condition {
        Condition { resident: true, ..Condition::default() }
    }

    /// As if it had never been put away in between.
    #[test]
    fn what_was_booked_before_a_sleep_is_added_to_what_comes_after_it() {
        let at = Duration::from_secs;
        let live = |accountant: &mut Accountant, from: u64, for_: u64, cause| {
            accountant.woke(at(from), cause);
            accountant.settle(at(from), resident());
            accountant.settle(at(from + for_), Condition::default());
            accountant.ended(None);
            accountant.slept();
        };
        let mut whole = Accountant::new(Ledger::blank(), at(10));
        let mut parts = Accountant::new(Ledger::blank(), at(10));
        for (from, for_, cause) in
            [(12, 2, WakeCause::Message), (20, 7, WakeCause::Alarm), (30, 3, WakeCause::Message)]
        {
            live(&mut whole, from, for_, cause);
            live(&mut parts, from, for_, cause);
            parts.rejected();
            whole.rejected();
            parts = Accountant::new(Ledger::of(parts.book()), at(from + for_ + 1));
            assert_eq!(parts.account(at(40), None), whole.account(at(40), None));
            assert_eq!(parts.last_wake(), Some(cause));
        }
        let account = parts.account(at(40), None);
        assert_eq!((account.life, account.resident, account.wakes()), (at(30), at(12), 3));
        assert_eq!(account.longest_awake.unwrap().duration, at(7));
        assert_eq!(account.last_wake, Some((WakeCause::Message, at(20))));
    }
}
