use std::{fmt, panic::Location};

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    tasks: Vec<(u64, Holder)>,
    guards: Vec<(u64, Holder)>,
    bodies: usize,
}

pub(crate) type Holder = (&'static str, &'static Location<'static>);

impl Holders {
    pub(crate) fn add_task(&mut self, holder: Holder) -> u64 {
        self.next += 1;
        self.tasks.push((self.next, holder));
        self.next
    }

    /// Ends a task; `false` if it was cancelled or has ended before.
    pub(crate) fn end_task(&mut self, id: u64) -> bool {
        remove(&mut self.tasks, id)
    }

    pub(crate) fn has_task(&self, id: u64) -> bool {
        self.tasks.iter().any(|(task, _)| *task == id)
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn cancel_tasks(&mut self) -> Vec<u64> {
        self.tasks.drain(..).map(|(id, _)| id).collect()
    }

    pub(crate) fn add_guard(&mut self, holder: Holder) -> u64 {
        self.next += 1;
        self.guards.push((self.next, holder));
        self.next
    }

    pub(crate) fn end_guard(&mut self, id: u64) -> bool {
        remove(&mut self.guards, id)
    }

    pub(crate) fn open_body(&mut self) {
        self.bodies += 1;
    }

    pub(crate) fn end_body(&mut self) {
        self.bodies = self.bodies.saturating_sub(1);
    }

    pub(crate) fn reasons(&self) -> impl Iterator<Item = AwakeReason> {
        let tasks =
            self.tasks.iter().map(|&(_, (name, location))| AwakeReason::Task { name, location });
        let guards =
            self.guards.iter().map(|&(_, (name, location))| AwakeReason::Guard { name, location });
        let bodies = (self.bodies > 0).then_some(AwakeReason::ResponseBodies(self.bodies));
        tasks.chain(guards).chain(bodies)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.guards.is_empty() && self.bodies == 0
    }
}

fn remove(holders: &mut Vec<(u64, Holder)>, id: u64) -> bool {
    let before = holders.len();
    holders.retain(|(holder, _)| *holder != id);
    holders.len() < before
}
