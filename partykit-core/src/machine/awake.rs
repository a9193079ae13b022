use std::{fmt, panic::Location, time::Duration};

use serde::Serialize;

use crate::Handler;

/// One reason why a room does not sleep, with the place in the code that caused it where there is one.
///
/// ```
/// use partykit_core::AwakeReason;
///
/// assert!(AwakeReason::Mailbox(3).is_passing());
/// assert_eq!(AwakeReason::Mailbox(3).to_string(), "3 events wait");
/// assert!(!AwakeReason::ResponseBodies(1).is_passing(), "a client decides when it ends");
/// ```
///
/// As JSON, it is the text that it prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
#[non_exhaustive]
pub enum AwakeReason {
    /// A commit is in flight, or what was said waits for one.
    Commit,
    /// The server does not hibernate and this many connections are here.
    Connections(usize),
    /// A [`KeepAwake`](crate::KeepAwake) guard is held.
    Guard {
        /// What [`Room::keep_awake`](crate::Room::keep_awake) was told.
        name: &'static str,
        /// Where it was called.
        location: &'static Location<'static>,
    },
    /// This handler runs.
    Handler(Handler),
    /// This many events wait.
    Mailbox(usize),
    /// This many streaming response bodies are open.
    ResponseBodies(usize),
    /// A task runs.
    Task {
        /// What [`Room::spawn`](crate::Room::spawn) was told.
        name: &'static str,
        /// Where it was called.
        location: &'static Location<'static>,
    },
}

impl AwakeReason {
    /// Whether the reason goes by itself within the handlers' time limits. The others last until the
    /// server's code, or a client, ends them.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Commit | Self::Handler(_) | Self::Mailbox(_))
    }
}

impl From<AwakeReason> for String {
    fn from(reason: AwakeReason) -> Self {
        reason.to_string()
    }
}

impl fmt::Display for AwakeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit => f.write_str("a commit is in flight"),
            Self::Connections(count) => {
                write!(f, "{count} connections of a server that does not hibernate")
            }
            Self::Guard { name, location } => write!(f, "guard {name:?} taken at {location}"),
            Self::Handler(handler) => write!(f, "{handler} runs"),
            Self::Mailbox(events) => write!(f, "{events} events wait"),
            Self::ResponseBodies(count) => write!(f, "{count} response bodies are open"),
            Self::Task { name, location } => write!(f, "task {name:?} started at {location}"),
        }
    }
}

/// What keeps a room awake beside its events: tasks, guards and open bodies.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    next: u64,
    tasks: Vec<Hold>,
    guards: Vec<Hold>,
    bodies: usize,
    /// Since when the room is awake.
    awake_since: Duration,
    /// What had held it for the longest time when it let go, and for how long.
    longest: Option<(AwakeReason, Duration)>,
}

pub(crate) type Holder = (&'static str, &'static Location<'static>);

#[derive(Debug)]
struct Hold {
    id: u64,
    holder: Holder,
    since: Duration,
}

impl Holders {
    /// Numbers tasks and guards from here on: an earlier one may end late.
    pub(crate) fn continue_from(&mut self, last: u64) {
        self.next = last;
    }

    /// The number of the last task or guard.
    pub(crate) fn last(&self) -> u64 {
        self.next
    }

    pub(crate) fn add_task(&mut self, now: Duration, holder: Holder) -> u64 {
        self.next += 1;
        let id = self.next;
        self.tasks.push(Hold { id, holder, since: now });
        id
    }

    /// Ends a task; `false` if it was cancelled or has ended before.
    pub(crate) fn end_task(&mut self, now: Duration, id: u64) -> bool {
        let ended = remove(&mut self.tasks, id);
        ended.inspect(|hold| self.let_go(hold.task(), hold.since, now)).is_some()
    }

    pub(crate) fn has_task(&self, id: u64) -> bool {
        self.tasks.iter().any(|task| task.id == id)
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn cancel_tasks(&mut self, now: Duration) -> Vec<u64> {
        let tasks = std::mem::take(&mut self.tasks);
        tasks.iter().for_each(|hold| self.let_go(hold.task(), hold.since, now));
        tasks.into_iter().map(|task| task.id).collect()
    }

    pub(crate) fn add_guard(&mut self, now: Duration, holder: Holder) -> u64 {
        self.next += 1;
        self.guards.push(Hold { id: self.next, holder, since: now });
        self.next
    }

    pub(crate) fn end_guard(&mut self, now: Duration, id: u64) -> bool {
        let ended = remove(&mut self.guards, id);
        ended.inspect(|hold| self.let_go(hold.guard(), hold.since, now)).is_some()
    }

    pub(crate) fn guards(&self) -> usize {
        self.guards.len()
    }

    pub(crate) fn open_body(&mut self) {
        self.bodies += 1;
    }

    pub(crate) fn end_body(&mut self) {
        self.bodies = self.bodies.saturating_sub(1);
    }

    pub(crate) fn bodies(&self) -> usize {
        self.bodies
    }

    pub(crate) fn reasons(&self) -> impl Iterator<Item = AwakeReason> {
        let tasks = self.tasks.iter().map(Hold::task);
        let guards = self.guards.iter().map(Hold::guard);
        let bodies = (self.bodies > 0).then_some(AwakeReason::ResponseBodies(self.bodies));
        tasks.chain(guards).chain(bodies)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.guards.is_empty() && self.bodies == 0
    }

    /// The room wakes.
    pub(crate) fn awake(&mut self, now: Duration) {
        (self.awake_since, self.longest) = (now, None);
    }

    /// The task or guard that has held the room for the longest time since it woke, and for how long.
    pub(crate) fn longest(&self, now: Duration) -> Option<(AwakeReason, Duration)> {
        let held = |hold: &Hold| now.saturating_sub(hold.since.max(self.awake_since));
        let tasks = self.tasks.iter().map(|hold| (hold.task(), held(hold)));
        let guards = self.guards.iter().map(|hold| (hold.guard(), held(hold)));
        self.longest.clone().into_iter().chain(tasks).chain(guards).max_by_key(|(_, held)| *held)
    }

    fn let_go(&mut self, reason: AwakeReason, since: Duration, now: Duration) {
        let held = now.saturating_sub(since.max(self.awake_since));
        if self.longest.as_ref().is_none_or(|(_, longest)| held > *longest) {
            self.longest = Some((reason, held));
        }
    }
}

impl Hold {
    fn task(&self) -> AwakeReason {
        let (name, location) = self.holder;
        AwakeReason::Task { name, location }
    }

    fn guard(&self) -> AwakeReason {
        let (name, location) = self.holder;
        AwakeReason::Guard { name, location }
    }
}

fn remove(holds: &mut Vec<Hold>, id: u64) -> Option<Hold> {
    let at = holds.iter().position(|hold| hold.id == id)?;
    Some(holds.remove(at))
}
