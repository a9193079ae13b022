//! What clients were told, and whether the rooms kept their word.

mod ledger;
mod stream;

use std::fmt;

pub(crate) use ledger::History;
pub(crate) use stream::Track;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "who judges looks at all of them")]
pub enum Violation {
    /// A write that a client was told of is not there.
    Lost(String),
    /// A part of what a handler wrote is there, or something of a handler that failed.
    Half(String),
    /// What was deleted is back.
    Back(String),
    /// An alarm that a client was told of did not ring, or what its ring wrote is not there.
    AlarmLost(String),
    /// An alarm rang before its time.
    AlarmEarly(String),
    /// More is stored for an alarm than one ring.
    AlarmTwice(String),
    /// Something is there that nobody asked for.
    Invented(String),
    /// The server did not do what it was asked, or not in time, or ended by itself.
    Unserved(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, how) = match self {
            Self::Lost(how) => ("a write is lost", how),
            Self::Half(how) => ("half a handler is stored", how),
            Self::Back(how) => ("what was deleted is back", how),
            Self::AlarmLost(how) => ("an alarm is lost", how),
            Self::AlarmEarly(how) => ("an alarm rang before its time", how),
            Self::AlarmTwice(how) => ("an alarm is stored twice", how),
            Self::Invented(how) => ("nobody asked for this", how),
            Self::Unserved(how) => ("not served", how),
        };
        write!(f, "{what}: {how}")
    }
}
