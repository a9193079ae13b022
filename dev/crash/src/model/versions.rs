use std::{
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// All states that one room has had in this life, one for each of its commits.
#[derive(Debug)]
pub(super) struct Versions {
    room: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    versions: Vec<Version>,
    /// How many of them are certain to be there.
    done: usize,
}

/// What a room has after one of its commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The sum of the hashes of its rows.
    pub(super) rows: u64,
    /// When it is to be woken.
    pub(super) wake: Option<u64>,
}

impl Version {
    /// Never 0, which is what the other process knows of a room before it is there.
    fn hash(self) -> u64 {
        let wake = self.wake.map_or(0, |at| (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        self.rows.wrapping_add(wake)
    }
}

impl Versions {
    /// Of a room that was found like this.
    pub(super) fn new(room: usize, found: Version) -> Self {
        say(format_args!("found {room} {}", found.hash()));
        Self { room, state: Mutex::new(State { versions: vec![found], done: 1 }) }
    }

    /// A commit begins.
    pub(super) fn begin(&self, version: Version) {
        say(format_args!("begins {} {}", self.room, version.hash()));
        self.state().versions.push(version);
    }

    /// It was answered, as the last one of this many operations.
    pub(super) fn done(&self, operations: u64) {
        let mut state = self.state();
        state.done = state.versions.len();
        drop(state);
        say(format_args!("done {} {operations}", self.room));
    }

    /// The first version that a read may see that begins now.
    pub(super) fn first(&self) -> usize {
        self.state().done - 1
    }

    /// Whether any version `is` so that a read may have seen that began at `first` and has just ended.
    pub(super) fn any_since(&self, first: usize, is: impl FnMut(&Version) -> bool) -> bool {
        self.state().versions[first..].iter().any(is)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says a line to the process that watches.
pub(super) fn say(line: std::fmt::Arguments<'_>) {
    // Without a watcher there is nobody left who could be told.
    let _ = io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}
