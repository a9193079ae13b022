//! What the page and the room say, as JSON.

use partykit::{Timestamp, When};
use serde::{Deserialize, Serialize};

/// What a client wants: `{"remind": {"text": "tea", "when": {"after": 180000}}}` or `{"cancel": {"id": ".."}}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wish {
    Remind { text: String, when: When },
    Cancel { id: String },
}

/// What all clients are told after each change.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// By the server's clock.
    pub(crate) now: Timestamp,
    /// Those that ring, the next one first.
    pub(crate) reminders: Vec<Reminder>,
    /// Those that have rung, the last one first.
    pub(crate) rang: Vec<Rang>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Reminder {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) when: When,
    pub(crate) next: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rang {
    pub(crate) text: String,
    pub(crate) at: Timestamp,
    /// How often it should have rung since, while the server was down.
    pub(crate) missed: u32,
}

/// What the sender of a wish is told that cannot be granted.
pub(crate) fn refused(why: &str) -> impl Serialize {
    #[derive(Serialize)]
    struct Refused<'a> {
        refused: &'a str,
    }
    Refused { refused: why }
}
