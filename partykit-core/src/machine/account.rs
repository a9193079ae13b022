use std::time::Duration;

use serde::Serialize;

use super::{awake::AwakeReason, wake_cause::WakeCause};
use crate::value::shapes;

/// How long a room was awake and why, since it came into memory. For several rooms, the sum.
///
/// `resident` is the time in which an instance was in memory. `active` is the part of it in which a handler,
/// a task or a commit ran; Durable Objects bill this part.
///
/// As JSON, times are numbers of seconds, and `causes` is an object.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::Account;
///
/// let account = Account::default();
/// assert_eq!(account.resident_saved(), 0.0);
/// assert_eq!(account.wakes(), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Account {
    /// Since the room came into memory, or its first connection.
    #[serde(serialize_with = "shapes::seconds")]
    pub life: Duration,
    /// With an instance in memory.
    #[serde(serialize_with = "shapes::seconds")]
    pub resident: Duration,
    /// With a handler, task or commit running.
    #[serde(serialize_with = "shapes::seconds")]
    pub active: Duration,
    /// What `resident` was spent on.
    pub awake: TimeAwake,
    /// The longest time without a pause in which an instance was in memory. It may still go on.
    pub longest_awake: Option<LongestAwake>,
    /// How often the instance was dropped because the room was idle.
    pub sleeps: u64,
    /// How often the instance was dropped because something failed.
    pub resets: u64,
    /// How often each kind of event made an instance necessary, in the order of the kinds' names. Kinds that
    /// never did are left out.
    #[serde(serialize_with = "shapes::counts")]
    pub causes: Vec<(WakeCause, u64)>,
    /// The kind of the last event that made an instance necessary, and when that was, counted like `life`.
    /// `None` in a sum.
    #[serde(serialize_with = "shapes::moment")]
    pub last_wake: Option<(WakeCause, Duration)>,
    /// Messages that were lost because the room could not start or shut down.
    pub dropped_messages: u64,
    /// Handlers that returned a [`Reject`](crate::Reject): a client sent something wrong.
    pub rejected: u64,
    /// Handlers that ran longer than they may without an await at which they could be cancelled.
    pub overruns: u64,
    /// Connections that the runtime closed because their clients read too slowly.
    pub slow_clients: u64,
}

/// How long an instance was in memory for each kind of reason. Several reasons may hold at the same time, so
/// the sum can be more than [`Account::resident`].
///
/// ```no_run
/// # fn show(stats: partykit_core::RoomStats) {
/// let awake = &stats.account.awake;
/// println!("{:?} for tasks, {:?} for the idle time alone", awake.task, awake.idle);
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TimeAwake {
    /// A handler ran.
    #[serde(serialize_with = "shapes::seconds")]
    pub handler: Duration,
    /// A commit was in flight, or outputs waited for one.
    #[serde(serialize_with = "shapes::seconds")]
    pub commit: Duration,
    /// At least one task ran.
    #[serde(serialize_with = "shapes::seconds")]
    pub task: Duration,
    /// At least one [`KeepAwake`](crate::KeepAwake) guard was held.
    #[serde(serialize_with = "shapes::seconds")]
    pub guard: Duration,
    /// At least one streaming response body was open.
    #[serde(serialize_with = "shapes::seconds")]
    pub response_body: Duration,
    /// None of these, but the server does not hibernate and a client was connected.
    #[serde(serialize_with = "shapes::seconds")]
    pub connections: Duration,
    /// No reason: the room only waited for its idle time to end.
    #[serde(serialize_with = "shapes::seconds")]
    pub idle: Duration,
}

/// A time without a pause in which an instance was in memory.
///
/// ```no_run
/// # fn show(stats: partykit_core::RoomStats) {
/// if let Some(longest) = &stats.account.longest_awake {
///     println!("{:?} in memory", longest.duration);
///     if let Some(reason) = &longest.held_by {
///         // task "answer" started at src/lib.rs:27:14
///         println!("held for {:?} by {reason}", longest.held);
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LongestAwake {
    /// How long it was.
    #[serde(serialize_with = "shapes::seconds")]
    pub duration: Duration,
    /// The [task](AwakeReason::Task) or [guard](AwakeReason::Guard) that held the room awake for the longest
    /// part of it, with its call site. `None` if there was no task or guard.
    pub held_by: Option<AwakeReason>,
    /// For how long that one held it.
    #[serde(serialize_with = "shapes::seconds")]
    pub held: Duration,
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

    /// Adds another room's account to this one. Returns whether the longest time awake is the other's
    /// now.
    ///
    /// ```
    /// use partykit_core::Account;
    ///
    /// let mut sum = Account::default();
    /// let mut room = Account::default();
    /// room.sleeps = 2;
    /// sum.add(&room);
    /// sum.add(&room);
    /// assert_eq!(sum.sleeps, 4);
    /// ```
    pub fn add(&mut self, other: &Self) -> bool {
        self.life += other.life;
        self.resident += other.resident;
        self.active += other.active;
        self.awake.add(&other.awake);
        self.sleeps += other.sleeps;
        self.resets += other.resets;
        let mut causes = Causes::default();
        let all = self.causes.iter().chain(&other.causes);
        all.for_each(|(cause, times)| causes.count(*cause, *times));
        self.causes = causes.list();
        self.last_wake = None;
        self.dropped_messages += other.dropped_messages;
        self.rejected += other.rejected;
        self.overruns += other.overruns;
        self.slow_clients += other.slow_clients;
        let longest = |account: &Self| account.longest_awake.as_ref().map(|time| time.duration);
        let is_longer = longest(other) > longest(self);
        if is_longer {
            self.longest_awake.clone_from(&other.longest_awake);
        }
        is_longer
    }

    fn saved(&self, spent: Duration) -> f64 {
        if self.life.is_zero() {
            return 0.0;
        }
        1.0 - spent.as_secs_f64() / self.life.as_secs_f64()
    }
}

impl TimeAwake {
    /// Books that a room was like this for some time.
    pub(super) fn book(&mut self, was: &Condition, passed: Duration) {
        let awake = [
            (was.handler, &mut self.handler),
            (was.commit, &mut self.commit),
            (was.task, &mut self.task),
            (was.guard, &mut self.guard),
            (was.body, &mut self.response_body),
        ];
        let mut idles = true;
        for (holds, time) in awake {
            if holds {
                *time += passed;
                idles = false;
            }
        }
        if idles {
            *(if was.connections { &mut self.connections } else { &mut self.idle }) += passed;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.handler += other.handler;
        self.commit += other.commit;
        self.task += other.task;
        self.guard += other.guard;
        self.response_body += other.response_body;
        self.connections += other.connections;
        self.idle += other.idle;
    }
}

/// What holds for a room from now on, until it says something else.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Condition {
    pub(crate) resident: bool,
    pub(crate) active: bool,
    pub(crate) handler: bool,
    pub(crate) commit: bool,
    pub(crate) task: bool,
    pub(crate) guard: bool,
    pub(crate) body: bool,
    /// A client is connected, and the server does not hibernate.
    pub(crate) connections: bool,
}

/// How often each cause made an instance necessary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Causes([u64; WakeCause::ALL.len()]);

impl Causes {
    pub(super) fn count(&mut self, cause: WakeCause, more: u64) {
        self.0[cause as usize] += more;
    }

    /// Those that did at least once, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (WakeCause, u64)> {
        WakeCause::ALL.into_iter().zip(self.0).filter(|(_, times)| *times > 0)
    }

    fn list(&self) -> Vec<(WakeCause, u64)> {
        self.iter().collect()
    }
}

/// The account of a room up to some moment.
#[derive(Clone, Debug)]
pub(super) struct Book {
    /// Without its life and its causes.
    pub(super) account: Account,
    pub(super) causes: Causes,
    pub(super) born: Duration,
}

impl Book {
    pub(super) fn new(born: Duration) -> Self {
        Self { account: Account::default(), causes: Causes::default(), born }
    }

    /// The account as it is shown.
    pub(super) fn account(self, now: Duration) -> Account {
        let life = now.saturating_sub(self.born);
        Account { causes: self.causes.list(), life, ..self.account }
    }
}
