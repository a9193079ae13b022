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
    Frames {
        /// How many.
        frames: u32,
        /// How many bytes each has at least: zeros stand before the number.
        #[serde(default)]
        bytes: usize,
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
    /// The `rows` of a range, as pairs of key and value.
    List(Range),
    /// How many bytes are stored under a key: `bytes`, or `null`.
    Size {
        /// The key.
        key: String,
    },
    /// Stores a JSON text of a certain size. An `error` says what is wrong.
    PutSized {
        /// What the key begins with; the rest is `k`s.
        key: String,
        /// The key's bytes.
        key_bytes: usize,
        /// The value's bytes, at least 2.
        bytes: usize,
    },
    /// Names many keys in one call: `0000`, `0001`, .. An `error` says what is wrong; `found` is how many
    /// of them had a value.
    Many {
        /// What is done with them.
        call: Call,
        /// How many.
        keys: usize,
    },
    /// Forgets all that is stored.
    DeleteAll,
    /// Commits what is written so far.
    Sync,
    /// Does several things in one handler, and `answers` with what each of them answers.
    All {
        /// What it does.
        commands: Vec<Command>,
        /// Returns an `Err` then.
        #[serde(default)]
        fail: bool,
    },
    /// Does several things in one transaction, and says whether it is `kept`.
    Transaction {
        /// What it does.
        commands: Vec<Command>,
        /// Undoes them then.
        #[serde(default)]
        fail: bool,
    },
    /// Sets the alarm, and answers when it rings: `at`, in milliseconds of the room's clock.
    SetAlarm {
        /// In this many milliseconds.
        within: i64,
    },
    /// Sets the alarm to a moment of the room's clock, in milliseconds. An `error` says what is wrong.
    SetAlarmAt {
        /// The moment.
        at: u64,
    },
    /// When the alarm rings next: `at`, in milliseconds of the room's clock, or `null`.
    Alarm,
    /// Deletes the alarm.
    DeleteAlarm,
    /// What is done when the alarm rings, from now on: see [`Probe`](crate::Probe).
    OnAlarm {
        /// What it does.
        #[serde(default)]
        commands: Vec<Command>,
        /// Fails then, so often.
        #[serde(default)]
        failures: u32,
    },
    /// Sets a schedule, and answers when it runs next: `at`, in milliseconds of the room's clock.
    Schedule {
        /// Its name.
        name: String,
        /// In this many milliseconds.
        within: u64,
        /// Again and again, and not once.
        #[serde(default)]
        repeats: bool,
        /// Its handler fails so often.
        #[serde(default)]
        failures: u32,
    },
    /// All schedules: pairs of a name and `at`, in milliseconds of the room's clock.
    Schedules,
    /// Deletes a schedule; `found` says whether there was one.
    Unschedule {
        /// Its name.
        name: String,
    },
    /// Returns an `Err`; there is no answer to a message.
    Fail {
        /// Stores `true` under this key first, and says `after the write`.
        #[serde(default)]
        put: Option<String>,
    },
    /// Rejects what the client sent, with 409 and `taken`; there is no answer to a message.
    Reject {
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
    /// What the application has given the room: `motto`.
    Motto,
    /// Waits in the handler, then answers with how long it was by the room's clock: `waited`, in milliseconds.
    Pause {
        /// How long, in milliseconds.
        millis: u64,
    },
    /// The same in a task, which the room does not wait for. It comes to everybody as
    /// `{"event": "task", "value": ..}`, the milliseconds as text.
    PauseBeside {
        /// How long, in milliseconds.
        millis: u64,
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
    /// Waits for [`Command::Signal`] of another room, in this process; then stores `true` under this name.
    Await {
        /// The name of the signal.
        signal: String,
    },
    /// Ends a [`Command::Await`]; `heard` says whether anybody waits.
    Signal {
        /// The name of the signal.
        signal: String,
    },
    /// Asks another room for a certain answer, and says what arrives: `status`, `headers` (pairs) and
    /// `body` (its bytes).
    Ask {
        /// The other room's party.
        party: String,
        /// Its id.
        room: String,
        /// The answer that it shall give.
        wanted: Wanted,
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

/// The answer that a room gives when it is asked by [`Command::Ask`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "cases and parties are of one crate")]
pub struct Wanted {
    /// Its status.
    pub status: u16,
    /// Its headers: names and values.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What [`Command::List`] gives, in key order unless it says otherwise.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "cases and parties are of one crate")]
pub struct Range {
    /// What the keys begin with.
    pub prefix: String,
    /// The first key.
    pub start: Option<String>,
    /// The key before the first one.
    pub start_after: Option<String>,
    /// The key behind the last one.
    pub end: Option<String>,
    /// The last key first.
    pub reverse: bool,
    /// At most this many rows.
    pub limit: Option<usize>,
    /// The rows are loaded one after another.
    pub stream: bool,
}

/// What is done with many keys.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "cases and parties are of one crate")]
pub enum Call {
    /// They are stored.
    Put,
    /// They are read.
    Get,
    /// They are forgotten.
    Delete,
}

impl Command {
    /// The text of one of [`Command::Frames`].
    pub fn frame(number: u32, bytes: usize) -> String {
        let number = number.to_string();
        "0".repeat(bytes.saturating_sub(number.len())) + &number
    }
}
