//! Who is here.
//!
//! What a user shows stands in a slot of its connection, which lives as long as the socket and through any
//! sleep of the room. So the list is made of the connections that there are, and no one stays in it who has
//! left.
//!
//! Changes are noted in the slots too. All changes within [50 ms](Presence::every) are sent to all clients in
//! one frame.

mod error;
mod frame;
mod slot;

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use partykit_core::{Connection, JsonError, Message, Room, StateError, TaskResult};
use serde::{Serialize, de::DeserializeOwned};

pub use self::error::PresenceError;
use self::{
    frame::Metas,
    slot::{Gone, Here, Slot},
};

/// The name of the task that waits until changes are told.
const TASK: &str = "presence";
/// How often changes are told at most, unless the server says otherwise.
const INTERVAL: Duration = Duration::from_millis(50);
/// How many more changes than connections are noted one by one.
const SPARE: usize = 64;
/// How many bytes about those who have left may wait in one slot.
const GONE: usize = 4 << 10;

/// Who is in a room, and what each of them shows: a name, a cursor, *is typing*.
///
/// A field of the server. Its handlers pass on what happens:
///
/// ```
/// use partykit_core::{Close, Connection, Message, Options, Request, Result, Room, Server, TaskResult};
/// use partykit_extras::presence::Presence;
/// use serde::{Deserialize, Serialize};
///
/// /// What a connection shows. A type of your own bounds what a client can put there.
/// #[derive(Default, Serialize, Deserialize)]
/// struct Shows {
///     is_typing: bool,
/// }
///
/// #[derive(Default)]
/// struct Lounge {
///     presence: Presence,
/// }
///
/// impl Server for Lounge {
///     fn options() -> Options {
///         Options::new().hibernate(true)
///     }
///
///     async fn on_start(&mut self, room: &Room) -> Result {
///         Ok(self.presence.start(room)?)
///     }
///
///     async fn on_connect(&mut self, room: &Room, connection: &Connection, _: &Request) -> Result {
///         let user = connection.query("user").unwrap_or_default();
///         Ok(self.presence.join(room, connection, &user, &Shows::default())?)
///     }
///
///     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
///         Ok(self.presence.update(room, sender, &message.json::<Shows>()?)?)
///     }
///
///     async fn on_close(&mut self, room: &Room, connection: &Connection, _: Close) -> Result {
///         Ok(self.presence.leave(room, connection)?)
///     }
///
///     async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
///         Ok(self.presence.tick(room, &result)?)
///     }
/// }
/// ```
///
/// A *user* is a text of the application's: several connections of one user are one entry of the list, with
/// a *meta* for each connection. A meta is a JSON object.
///
/// A client first hears `{"presence_state": ..}`, the whole list, then `{"presence_diff": {"joins": ..,
/// "leaves": ..}}`: what Phoenix says, so npm `phoenix`'s `Presence` keeps the list for a page.
#[derive(Debug)]
pub struct Presence {
    interval: Duration,
    /// The connections whose slots have something to tell; some may have nothing, or stand here twice.
    /// `None`: any may have something.
    changed: Option<Vec<Connection>>,
    /// Those of the last frame. If its handler was rolled back, they still have something to tell.
    told: Vec<Connection>,
    /// Whether a task waits: it holds the other end. A rollback drops the task, and so this.
    waits: Weak<()>,
}

impl Presence {
    /// Tells changes at most every 50 ms.
    pub fn new() -> Self {
        Self::every(INTERVAL)
    }

    /// Tells changes at most once in this time. They wait that long, and the room stays awake meanwhile.
    /// Default: 50 ms.
    pub fn every(interval: Duration) -> Self {
        Self { interval, changed: None, told: Vec::new(), waits: Weak::new() }
    }

    /// For `on_start`: goes on with what was not told yet when the instance before this one ended.
    ///
    /// # Errors
    ///
    /// When a slot cannot be read.
    pub fn start(&mut self, room: &Room) -> Result<(), PresenceError> {
        let mut changed = Vec::new();
        for connection in room.connections() {
            if slot::has_news(&connection)? {
                changed.push(connection);
            }
        }
        let is_waiting = !changed.is_empty();
        self.changed = Some(changed);
        if is_waiting {
            self.wait(room);
        }
        Ok(())
    }

    /// This connection is of that user and shows that: for `on_connect`, or when a client has said who it
    /// is. `meta` is what serializes as a JSON object. The client gets the list, with itself in it, when
    /// the others hear that it has come.
    ///
    /// Who joins again becomes another user.
    ///
    /// # Errors
    ///
    /// When `meta` is no object, or does not fit into the connection's
    /// [16,320 bytes](Connection::set_state).
    pub fn join<M: Serialize + ?Sized>(
        &mut self,
        room: &Room,
        connection: &Connection,
        user: &str,
        meta: &M,
    ) -> Result<(), PresenceError> {
        let meta = object(meta)?;
        let mut slot = Slot::of(connection)?;
        slot.gone.extend(slot.here.take().and_then(Here::go));
        slot.here = Some(Here::new(user, meta, room.random()));
        slot.is_new = true;
        slot.save(connection)?;
        self.change(room, connection);
        Ok(())
    }

    /// This connection gets the list and its changes, and is not in the list itself.
    ///
    /// # Errors
    ///
    /// When its slot cannot be read, or is full.
    pub fn watch(&mut self, room: &Room, connection: &Connection) -> Result<(), PresenceError> {
        let slot = Slot { is_new: true, ..Slot::of(connection)? };
        slot.save(connection)?;
        self.change(room, connection);
        Ok(())
    }

    /// This connection shows something else from now on. If it is what it shows already, nothing happens.
    ///
    /// # Errors
    ///
    /// When the connection has not joined, when `meta` is no object, or does not fit into the connection's
    /// 16,320 bytes.
    pub fn update<M: Serialize + ?Sized>(
        &mut self,
        room: &Room,
        connection: &Connection,
        meta: &M,
    ) -> Result<(), PresenceError> {
        let meta = object(meta)?;
        let mut slot = Slot::of(connection)?;
        let here = slot.here.as_mut().ok_or(PresenceError::NotHere)?;
        if here.meta != meta {
            here.show(meta);
            slot.save(connection)?;
            self.change(room, connection);
        }
        Ok(())
    }

    /// For `on_close`, or when a user logs out: this connection is not in the list any more. If it stays
    /// open, it [watches](Presence::watch) from now on.
    ///
    /// # Errors
    ///
    /// When a slot cannot be read, or those of all connections together are full.
    pub fn leave(&mut self, room: &Room, connection: &Connection) -> Result<(), PresenceError> {
        let mut slot = Slot::of(connection)?;
        let mut gone = mem::take(&mut slot.gone);
        gone.extend(slot.here.take().and_then(Here::go));
        let is_open = connection.is_open();
        slot.is_watching = is_open;
        slot.save(connection)?;
        // Its slot goes with a connection that has ended. Another one keeps what is to be told.
        let heir = if is_open { Some(connection.clone()) } else { room.connections().next() };
        let Some(heir) = heir.filter(|_| !gone.is_empty()) else { return Ok(()) };
        let mut slot = Slot::of(&heir)?;
        slot.gone.append(&mut gone);
        let is_long = slot.gone.iter().map(Gone::len).sum::<usize>() > GONE;
        match slot.save(&heir) {
            Err(StateError::TooLarge(_)) => self.tell(room, &slot.gone),
            saved => {
                saved?;
                self.change(room, &heir);
                if is_long { self.tell(room, &[]) } else { Ok(()) }
            }
        }
    }

    /// For `on_task`: tells what has changed, when it is time. Other tasks are none of its business.
    ///
    /// # Errors
    ///
    /// When a slot cannot be read or written.
    pub fn tick(&mut self, room: &Room, task: &TaskResult) -> Result<(), PresenceError> {
        if task.name() != TASK {
            return Ok(());
        }
        // The task's end is still with `task`, as long as the handler runs.
        self.waits = Weak::new();
        self.tell(room, &[])
    }

    /// For `on_error`: sends the whole list to all clients again. If `on_close` has failed, they were not
    /// told that a user has left.
    ///
    /// # Errors
    ///
    /// When a slot cannot be read, or is full.
    pub fn refresh(&mut self, room: &Room) -> Result<(), PresenceError> {
        for connection in room.connections() {
            let slot = Slot::of(&connection)?;
            if slot.here.is_some() || slot.is_watching {
                Slot { is_new: true, ..slot }.save(&connection)?;
                self.change(room, &connection);
            }
        }
        Ok(())
    }

    /// Who is here: for each user the metas of their connections, in the order in which these came. It is
    /// made of the connections that are listed, and knows what was not told yet.
    ///
    /// # Errors
    ///
    /// When a meta is not of this shape.
    pub fn list<M: DeserializeOwned>(
        &self,
        room: &Room,
    ) -> Result<BTreeMap<String, Vec<M>>, PresenceError> {
        let mut list = BTreeMap::<String, Vec<M>>::new();
        for connection in room.connections() {
            if let Some(here) = Slot::of(&connection)?.here {
                let meta = Message::from(here.meta).json().map_err(|_| PresenceError::Shape)?;
                list.entry(here.user).or_default().push(meta);
            }
        }
        Ok(list)
    }

    /// What this connection shows, or `None` if it has not joined.
    ///
    /// # Errors
    ///
    /// When it is not of this shape.
    pub fn meta<M: DeserializeOwned>(
        &self,
        connection: &Connection,
    ) -> Result<Option<M>, PresenceError> {
        let Some(here) = Slot::of(connection)?.here else { return Ok(None) };
        Message::from(here.meta).json().map(Some).map_err(|_| PresenceError::Shape)
    }

    /// A slot has something to tell.
    fn change(&mut self, room: &Room, connection: &Connection) {
        match &mut self.changed {
            // Of a client whose every message is rejected, each comes here, and no tick follows.
            Some(changed) if changed.len() > 2 * room.count() + SPARE => self.changed = None,
            Some(changed) if changed.last() != Some(connection) => changed.push(connection.clone()),
            _ => {}
        }
        self.wait(room);
    }

    /// Sees to it that a task waits.
    fn wait(&mut self, room: &Room) {
        if self.waits.strong_count() > 0 {
            return;
        }
        let waits = Arc::new(());
        self.waits = Arc::downgrade(&waits);
        let timer = room.timer(self.interval);
        room.spawn(TASK, async move {
            timer.await;
            waits
        });
    }

    /// Tells all that the slots have to tell, and who else has gone.
    fn tell(&mut self, room: &Room, gone: &[Gone]) -> Result<(), PresenceError> {
        let again = mem::take(&mut self.told);
        self.told =
            self.changed.replace(Vec::new()).unwrap_or_else(|| room.connections().collect());
        let (mut joins, mut leaves) = (Metas::default(), Metas::default());
        let mut new = Vec::new();
        gone.iter().for_each(|gone| gone.leave(&mut leaves));
        for connection in self.told.iter().chain(&again).filter(|it| it.is_open()) {
            let mut slot = Slot::of(connection)?;
            let is_changed = slot.tell(&mut joins, &mut leaves);
            if mem::take(&mut slot.is_new) {
                slot.is_watching = slot.here.is_none();
                new.push(connection.clone());
            } else if !is_changed {
                continue;
            }
            slot.save(connection)?;
        }
        if !(joins.is_empty() && leaves.is_empty()) && new.len() < room.count() {
            room.broadcast(frame::diff(&joins, &leaves)).except_all(&new).send();
        }
        if !new.is_empty() {
            let state = self.state(room)?;
            new.iter().for_each(|connection| connection.send(state.clone()));
        }
        Ok(())
    }

    /// The whole list. All of it has been told.
    fn state(&self, room: &Room) -> Result<Message, PresenceError> {
        let mut metas = Metas::default();
        for connection in room.connections() {
            if let Some(here) = Slot::of(&connection)?.here {
                here.join(&mut metas);
            }
        }
        Ok(frame::state(&metas))
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}

/// `meta` as JSON, which has to be an object.
fn object<M: Serialize + ?Sized>(meta: &M) -> Result<String, PresenceError> {
    let json = Message::from_json(meta).map_err(|error: JsonError| StateError::Json(error))?;
    let json = json.as_text().filter(|json| json.starts_with('{'));
    json.map(ToOwned::to_owned).ok_or(PresenceError::NoObject)
}
