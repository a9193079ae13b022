//! Messages with positions, so that a client that comes back gets what it has missed.
//!
//! Each message is stored before anyone hears of it, under a [`Position`] that it carries. A client says the
//! last one that it has when it connects again, and gets what came after it: in order, without a gap, and
//! nothing twice.
//!
//! That needs no care about races: handlers run one after another, and a connection is listed while its
//! `on_connect` runs. So every message is either stored before [`History::resume`], or sent to the
//! connection after it.

mod error;
mod position;
mod publish;
mod row;

use std::time::Duration;

use partykit_core::{Connection, List, Message, Request, RequestExt, Room, Timestamp};

use self::row::Row;
pub use self::{
    error::HistoryError,
    position::{InvalidPosition, Position},
    publish::Publish,
};

/// How much a client that comes back can get at most, in bytes of messages.
const RESUME: u64 = 16 << 20;
/// How many keys are deleted in one call.
const KEYS: usize = 128;

/// The messages that a room keeps: how many of them, and where. It holds nothing itself, so it can be a
/// constant.
///
/// ```
/// use partykit_core::{Connection, Message, Options, Request, Result, Room, Server};
/// use partykit_extras::history::{History, Position, Resumed};
/// use serde::Serialize;
///
/// const HISTORY: History = History::new().keep(200);
///
/// #[derive(Serialize)]
/// struct Said<'a> {
///     at: Position,
///     from: &'a str,
///     text: &'a str,
/// }
///
/// #[derive(Default)]
/// struct Chat;
///
/// impl Server for Chat {
///     fn options() -> Options {
///         Options::new().hibernate(true)
///     }
///
///     async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
///         match HISTORY.resume(room, new, request).await? {
///             Resumed::Caught(_) => {}
///             Resumed::Fresh | Resumed::Gap => {
///                 new.send("[]"); // the page forgets what it has shown
///                 HISTORY.replay(room, new, 50).await?;
///             }
///         }
///         Ok(())
///     }
///
///     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
///         let (from, text) = (sender.id(), message.text()?);
///         HISTORY.publish(room).send_json(|at| Said { at, from, text }).await?;
///         Ok(())
///     }
/// }
/// ```
///
/// On the page, PartySocket asks for its query before each connect:
///
/// ```js
/// let since;
/// const socket = new PartySocket({ host, room, query: () => ({ since }) });
/// socket.addEventListener("message", ({ data }) => {
///   const said = JSON.parse(data);
///   show(said);
///   since = said.at; // after it was shown
/// });
/// ```
///
/// Keep here what a client must not miss. Cursors and *is typing* do not belong here: each message is a
/// commit.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct History {
    prefix: &'static str,
    parameter: &'static str,
    messages: u64,
    bytes: u64,
    age: Option<Duration>,
}

/// What [`History::resume`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a client has a position that is good, or a bad one, or none"
)]
pub enum Resumed {
    /// The client has got all that it had missed: this many messages. Nothing else needs to be sent.
    Caught(usize),
    /// The client has said no position: it is new. It has got nothing yet.
    Fresh,
    /// What came after the client's position is not here any more, or was never. It has got nothing yet,
    /// and what it shows has to be replaced.
    Gap,
}

/// A message that is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// When it was published.
    pub at: Timestamp,
    /// What was said.
    pub message: Message,
    /// The tag, if it was for the connections with this tag only.
    pub tag: Option<String>,
    /// The id that it was not for.
    pub except: Option<String>,
}

impl History {
    /// Keeps the newest 1,000 messages, but not more than 1 MiB of them. Their age does not matter.
    pub const fn new() -> Self {
        let (prefix, parameter) = ("history:", "since");
        Self { prefix, parameter, messages: 1_000, bytes: 1 << 20, age: None }
    }

    /// Keeps this many messages. At least the newest one is kept. Default: 1,000.
    pub const fn keep(self, messages: u64) -> Self {
        Self { messages, ..self }
    }

    /// Keeps messages of this many bytes together. At least the newest one is kept. Default: 1 MiB.
    ///
    /// A client gets at most 16 MiB when it comes back. If it has missed more, that is a
    /// [gap](Resumed::Gap).
    pub const fn keep_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Messages that are older than this are not sent any more. They are deleted when the next one is
    /// published: a quiet room is not woken for it. Default: they never are too old.
    pub const fn keep_for(self, age: Duration) -> Self {
        Self { age: Some(age), ..self }
    }

    /// Stores under keys that begin with this, so that a room can have several histories. Default:
    /// `history:`.
    pub const fn prefix(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// Reads the position of a client from this parameter of its query. Default: `since`.
    pub const fn parameter(self, name: &'static str) -> Self {
        Self { parameter: name, ..self }
    }

    /// Begins to publish a message, see [`Publish`].
    pub const fn publish<'a>(&self, room: &'a Room) -> Publish<'a> {
        Publish::new(*self, room)
    }

    /// Sends to a connection what it has missed since the position in its query. For `on_connect`, before
    /// anything else is published in that handler.
    ///
    /// It gets what it would have got had it been connected: messages with a [tag](Publish::tag) that it
    /// has, and none that were for all [except](Publish::except) its id.
    ///
    /// # Errors
    ///
    /// When the store fails, or a row with the history's prefix is not one of the history.
    pub async fn resume(
        &self,
        room: &Room,
        connection: &Connection,
        request: &Request,
    ) -> Result<Resumed, HistoryError> {
        let said = request.query(self.parameter);
        let Some(since) = said.and_then(|text| text.parse::<Position>().ok()) else {
            return Ok(Resumed::Fresh);
        };
        let Some(missed) = self.after(room, since).await? else { return Ok(Resumed::Gap) };
        let own = |row: &&Row| row.except.as_deref() != Some(connection.id());
        let mut sent = 0;
        for row in missed.iter().filter(own).filter(|row| row.is_for(connection)) {
            connection.send(row.message.clone());
            sent += 1;
        }
        Ok(Resumed::Caught(sent))
    }

    /// Sends to a connection the newest messages, at most this many, the oldest first: all that a client
    /// who is new may see. Returns how many they are.
    ///
    /// # Errors
    ///
    /// As for [`resume`](History::resume).
    pub async fn replay(
        &self,
        room: &Room,
        connection: &Connection,
        messages: usize,
    ) -> Result<usize, HistoryError> {
        let rows = self.newest(room, messages).await?;
        let mut sent = 0;
        for row in rows.iter().filter(|row| row.is_for(connection)) {
            connection.send(row.message.clone());
            sent += 1;
        }
        Ok(sent)
    }

    /// The newest messages, at most this many, the oldest first.
    ///
    /// # Errors
    ///
    /// As for [`resume`](History::resume).
    pub async fn recent(&self, room: &Room, messages: usize) -> Result<Vec<Entry>, HistoryError> {
        let rows = self.newest(room, messages).await?.into_iter();
        let entry = |row: Row| Entry {
            position: row.position,
            at: row.at,
            message: row.message,
            tag: row.tag,
            except: row.except,
        };
        Ok(rows.map(entry).collect())
    }

    /// Where the newest message stands, or `None` if there never was one: for a snapshot of something else,
    /// from which a client goes on.
    ///
    /// # Errors
    ///
    /// As for [`resume`](History::resume).
    pub async fn latest(&self, room: &Room) -> Result<Option<Position>, HistoryError> {
        Ok(self.last(room).await?.map(|row| row.position))
    }

    /// Deletes all messages. For clients that come back this is a [gap](Resumed::Gap).
    ///
    /// # Errors
    ///
    /// As for [`resume`](History::resume), and when the handler has written too much.
    pub async fn clear(&self, room: &Room) -> Result<(), HistoryError> {
        let mut rows = room.storage().stream_bytes(List::new().prefix(self.rows()));
        let mut keys = Vec::new();
        while let Some((key, _)) = rows.next().await? {
            keys.push(key);
        }
        for keys in keys.chunks(KEYS) {
            room.storage().delete_many(keys)?;
        }
        Ok(())
    }

    /// What came after a position; `None` if that is not known.
    async fn after(&self, room: &Room, since: Position) -> Result<Option<Vec<Row>>, HistoryError> {
        let Some(last) = self.last(room).await? else { return Ok(None) };
        let newest = last.position;
        if newest.epoch != since.epoch || newest.offset < since.offset {
            return Ok(None);
        }
        let mut next = since.offset;
        let mut missed = Vec::new();
        let list = List::new().prefix(self.rows()).start_after(self.key(since.offset));
        let mut rows = room.storage().stream_bytes(list);
        while next < newest.offset {
            let Some((key, value)) = rows.next().await? else { return Ok(None) };
            let row = Row::read(&key, &value, self.prefix)?;
            next += 1;
            let is_first = missed.is_empty();
            if row.position.offset != next
                || is_first && self.is_old(room, &row)
                || is_first && last.total - row.total + row.message.len() as u64 > RESUME
            {
                return Ok(None);
            }
            missed.push(row);
        }
        Ok(Some(missed))
    }

    /// The newest that are not too old, the oldest first.
    async fn newest(&self, room: &Room, messages: usize) -> Result<Vec<Row>, HistoryError> {
        let list = List::new().prefix(self.rows()).reverse().limit(messages);
        let mut rows = room.storage().stream_bytes(list);
        let mut newest = Vec::new();
        while let Some((key, value)) = rows.next().await? {
            let row = Row::read(&key, &value, self.prefix)?;
            if self.is_old(room, &row) {
                break;
            }
            newest.push(row);
        }
        newest.reverse();
        Ok(newest)
    }

    async fn last(&self, room: &Room) -> Result<Option<Row>, HistoryError> {
        let list = List::new().prefix(self.rows()).reverse().limit(1);
        let found = room.storage().list_bytes(list).await?.pop();
        found.map(|(key, value)| Row::read(&key, &value, self.prefix)).transpose()
    }

    fn is_old(&self, room: &Room, row: &Row) -> bool {
        self.age.is_some_and(|age| room.now().since(row.at) > age)
    }

    fn rows(&self) -> String {
        format!("{}m:", self.prefix)
    }

    fn key(&self, offset: u64) -> String {
        format!("{}m:{offset:016x}", self.prefix)
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}
