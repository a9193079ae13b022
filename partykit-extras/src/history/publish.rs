use partykit_core::{Broadcast, Connection, List, Message, Room, Storage};
use serde::Serialize;

use super::{History, HistoryError, KEYS, Position, row::Row};

/// How many rows are looked at, and deleted, when a message is published: one more than come, so that a
/// history that is to keep less than before shrinks little by little.
const TRIM: usize = KEYS;

/// A message to a room that is kept, made with [`History::publish`].
///
/// It is stored with what the handler writes, in the same commit, and no one hears of it before. Clients
/// get the position that is given to the message, so it has to be in it.
///
/// ```
/// use partykit_core::{Connection, Message, Result, Room};
/// use partykit_extras::history::History;
/// use serde_json::json;
///
/// async fn say(room: &Room, sender: &Connection, text: &str) -> Result {
///     let history = History::new();
///     let to_all = history.publish(room);
///     let at = to_all.send_json(|at| json!({ "at": at, "text": text })).await?;
///     sender.send(format!("it stands at {at}"));
///     let to_admins = history.publish(room).tag("admin");
///     to_admins.send(|at| Message::from(format!("{at} {} said something", sender.id()))).await?;
///     Ok(())
/// }
/// # let _ = say;
/// ```
#[derive(Debug)]
#[must_use = "nothing is published until it is sent"]
pub struct Publish<'a> {
    history: History,
    room: &'a Room,
    except: Option<String>,
    tag: Option<String>,
}

impl<'a> Publish<'a> {
    pub(super) const fn new(history: History, room: &'a Room) -> Self {
        Self { history, room, except: None, tag: None }
    }

    /// Not to connections with this one's id: neither now, nor when they come back.
    ///
    /// It goes by the id, as a client that comes back has a new socket. So use it only where a client cannot
    /// lose what it has said itself. A chat sends what was said to its author too: that tells them that it
    /// is stored.
    pub fn except(self, connection: &Connection) -> Self {
        Self { except: Some(connection.id().to_owned()), ..self }
    }

    /// Only to connections with this tag. One that comes back gets it if it has the tag then. A tag has 1 to
    /// 256 bytes.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), ..self }
    }

    /// Stores the value as JSON in a text message, and sends it to all connections that are listed now.
    /// Returns where it stands.
    ///
    /// # Errors
    ///
    /// When the value has no JSON form, and as [`send`](Publish::send).
    pub async fn send_json<T: Serialize>(
        self,
        value: impl FnOnce(Position) -> T,
    ) -> Result<Position, HistoryError> {
        self.publish(|position| Ok(Message::from_json(&value(position))?)).await
    }

    /// The same for any message.
    ///
    /// # Errors
    ///
    /// When the message has more than about 1.9 MB, the handler has written too much, the store fails, or a
    /// row with the history's prefix is not one of the history. Nothing is published then.
    pub async fn send(
        self,
        message: impl FnOnce(Position) -> Message,
    ) -> Result<Position, HistoryError> {
        self.publish(|position| Ok(message(position))).await
    }

    async fn publish(
        self,
        message: impl FnOnce(Position) -> Result<Message, HistoryError>,
    ) -> Result<Position, HistoryError> {
        let room = self.room;
        // Transactions of a handler run one after another, even beside each other: no position comes twice.
        let published = room.storage().transaction(async |storage| {
            let last = self.history.last(room).await?;
            let position = last
                .as_ref()
                .map_or_else(|| Position::first(room.random()), |last| last.position.next());
            let message = message(position)?;
            let total = last.map_or(0, |last| last.total) + message.len() as u64;
            let (except, tag) = (self.except.clone(), self.tag.clone());
            let row = Row { position, at: room.now(), total, except, tag, message };
            storage.put_bytes(&self.history.key(position.offset), row.encode())?;
            self.trim(storage, &row).await?;
            Ok::<_, HistoryError>(row)
        });
        let row = published.await?;
        self.broadcast(&row).send();
        Ok(row.position)
    }

    fn broadcast(&self, row: &Row) -> Broadcast<'a> {
        let mut broadcast = self.room.broadcast(row.message.clone());
        if let Some(id) = &self.except {
            let own: Vec<Connection> = self.room.tagged(id).filter(|it| it.id() == id).collect();
            broadcast = broadcast.except_all(&own);
        }
        match &self.tag {
            Some(tag) => broadcast.tag(tag),
            None => broadcast,
        }
    }

    /// Deletes what is not to be kept. `newest` stays in any case: it says where the next one stands.
    async fn trim(&self, storage: Storage<'_>, newest: &Row) -> Result<(), HistoryError> {
        let history = &self.history;
        let mut surplus = Vec::new();
        let mut list = List::new().limit(2);
        loop {
            let list_here = list.prefix(history.rows()).end(history.key(newest.position.offset));
            let rows = storage.list_bytes(list_here).await?;
            let Some((last, _)) = rows.last().cloned() else { break };
            let found = rows.len();
            let before = surplus.len();
            for (key, value) in rows {
                let row = Row::read(&key, &value, history.prefix)?;
                let messages = newest.position.offset - row.position.offset + 1;
                let bytes = newest.total - row.total + row.message.len() as u64;
                if messages > history.messages
                    || bytes > history.bytes
                    || history.is_old(self.room, &row)
                {
                    surplus.push(key);
                }
            }
            if surplus.len() - before < found || surplus.len() >= TRIM {
                break;
            }
            list = List::new().limit(16).start_after(last);
        }
        surplus.truncate(TRIM);
        Ok(storage.delete_many(surplus)?)
    }
}
