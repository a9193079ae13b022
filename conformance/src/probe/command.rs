use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a client can ask of a [`Probe`](crate::Probe): a text message, or the body of a request, that is
/// one of these as JSON, such as `{"do": "get", "key": "a"}`.
///
/// Each is answered with one JSON object, unless it says otherwise.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    tag = "do",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
#[allow(clippy::exhaustive_enums, reason = "cases and parties are of one crate")]
pub enum Command {
    /// Who is asked: `party`, `room`, `instance` (a random id made by each `on_start`), `reason`
    /// (why it started), `count`, and `connections` (their ids, in order).
    Who,
    /// The `ids` of the connections with a tag, in order.
    Tagged {
        /// The tag.
        tag: String,
    },
    /// About the newest connection with an id: its `tags`, `uri` and `said` (see [`Command::Count`]).
    Find {
        /// The id.
        id: String,
    },
    /// Sends a text to everybody, without an answer.
    Broadcast {
        /// The text.
        text: String,
        /// Only to those with this tag.
        #[serde(default)]
        tag: Option<String>,
        /// Not to the one who asks.
        #[serde(default)]
        except_me: bool,
    },
    /// Sends texts `0`, `1`, .. to the one who asks, without an answer.
    Many {
        /// How many.
        frames: u32,
    },
    /// Counts in the connection's state how often it has asked; `said` is the number.
    Count,
    /// Closes the asking connection, without an answer.
    Close {
        /// The code.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// Stores a value.
    Put {
        /// Its key.
        key: String,
        /// The value.
        value: Value,
    },
    /// The stored `value`, or `null`.
    Get {
        /// Its key.
        key: String,
    },
    /// Forgets a stored value.
    Delete {
        /// Its key.
        key: String,
    },
    /// The stored `rows`, as pairs of key and value, in key order.
    Rows {
        /// What their keys begin with.
        #[serde(default)]
        prefix: String,
    },
    /// Returns an `Err`; there is no answer to a message.
    Fail {
        /// Stores `true` under this key first, and says `after the write`.
        #[serde(default)]
        put: Option<String>,
    },
    /// Panics; there is no answer to a message.
    Panic {
        /// Stores `true` under this key first, and says `after the write`.
        #[serde(default)]
        put: Option<String>,
    },
    /// Lets everybody else run several times, then answers.
    Slow {
        /// How many times.
        yields: u32,
    },
    /// Starts a task, which lets others run a few times. What it returns comes to everybody as
    /// `{"event": "task", "value": ..}`.
    Spawn {
        /// What the task returns.
        value: String,
    },
    /// Asks another room, and answers with its `answer`, or with the `error`: `cycle`,
    /// `uncommitted-writes`, `unknown-party`, `invalid-room`, `refused`, or `other`.
    Call {
        /// The other room's party.
        party: String,
        /// Its id.
        room: String,
        /// What it is asked.
        command: Box<Command>,
        /// Stores `true` under this key first.
        #[serde(default)]
        put: Option<String>,
    },
    /// Tells another room, which answers nobody.
    Tell {
        /// The other room's party.
        party: String,
        /// Its id.
        room: String,
        /// What it is told.
        command: Box<Command>,
    },
}
