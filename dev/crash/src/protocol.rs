//! What clients and rooms say to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::script::Value;

/// The party of rooms in which several clients write.
pub(crate) const LEDGER: &str = "ledger";

/// The party of rooms in which one client does one step after the other.
pub(crate) const STREAM: &str = "stream";

/// How many of its last entries a room keeps.
pub(crate) const ENTRIES: u64 = 16;

/// What a client asks for, over either.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Writes the writer's next number, which is one more than its last.
    Write { writer: String, number: u64 },
    /// Sets the room's alarm; alarms have numbers too. In milliseconds since 1970.
    Alarm { number: u64, at: u64 },
    /// Does the step of this number of a stream, as if it were `now`.
    Step { number: u64, now: u64, fails: Option<Failure> },
    /// What is stored.
    State,
}

/// How the handler of a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// Before it has written anything.
    Before,
    /// After it has done the step, and more.
    After,
    /// The same, by a panic.
    Panic,
}

/// What a room says: the answer to one, or a broadcast.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Wrote(Entry),
    Set {
        number: u64,
        at: u64,
    },
    Rang(Ring),
    State(State),
    /// The step of this number of a stream.
    Did(u64),
    Stored(Stored),
    Refused(String),
}

/// One write, the room's `count`-th.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) count: u64,
    pub(crate) writer: String,
    pub(crate) number: u64,
}

/// An alarm that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) number: u64,
    pub(crate) at: u64,
    /// Its handler fails the first time.
    pub(crate) flaky: bool,
}

/// An alarm that rang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ring {
    /// The number of the last one set.
    pub(crate) number: u64,
    pub(crate) scheduled: u64,
    pub(crate) now: u64,
    /// How many rings are stored for this number, with this one: one, because what stores a ring also
    /// removes the alarm.
    pub(crate) times: u64,
}

/// All that a room stores. Each handler changes several of these together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// How many writes there were.
    pub(crate) count: u64,
    /// The same, under another key.
    pub(crate) mirror: u64,
    /// Each writer's last number.
    pub(crate) writers: BTreeMap<String, u64>,
    /// The last [`ENTRIES`], in any order.
    pub(crate) entries: Vec<Entry>,
    /// The counts that the ballast of the last entries speaks of, in any order; 0 for one that is torn.
    pub(crate) ballast: Vec<u64>,
    /// The last alarm that was set.
    pub(crate) set: Option<Setting>,
    /// Its number, under another key.
    pub(crate) set_mirror: u64,
    /// The last alarm that rang.
    pub(crate) rang: Option<Ring>,
    /// Its number, under another key.
    pub(crate) rang_mirror: u64,
    /// When an alarm is to ring, if one is.
    pub(crate) pending: Option<u64>,
}

/// How far a stream has come: the number of its last step, and how many parts of it are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) number: u64,
    pub(crate) parts: usize,
}

/// All that a stream stores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) position: Position,
    pub(crate) rows: BTreeMap<String, Value>,
    /// The alarm that was set last.
    pub(crate) set: Option<Setting>,
    /// The last alarm that rang.
    pub(crate) rang: Option<Ring>,
    /// Its number, under another key.
    pub(crate) rang_mirror: u64,
    /// When an alarm is to ring, if one is.
    pub(crate) pending: Option<u64>,
}
