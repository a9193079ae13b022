use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::{
    BackendError, InvalidCron, JsonError, Room, Schedule, StorageError, Timestamp, When,
    storage::{Bell, Lookup, Plan, order, row::shown, schedules},
    value::limits,
};

/// Bytes of a schedule's name.
const NAME: usize = 256;
/// Bytes of the JSON that a schedule carries.
const PAYLOAD: usize = 64 << 10;
/// Schedules of a room.
const SCHEDULES: usize = 1000;
/// The shortest distance of a schedule that repeats: each run costs two commits.
const EVERY: Duration = Duration::from_secs(1);

/// A room's schedules: what is to happen later, by name. Each runs
/// [`on_schedule`](crate::Server::on_schedule), also if the room sleeps or the server was down meanwhile.
///
/// Schedules are stored beside the room's rows: they are written with the handler's transaction, and deleted by
/// [`delete_all`](crate::Storage::delete_all). They have nothing to do with the room's one
/// [alarm](crate::Storage::set_alarm). A room has at most 1,000; a name has 1 to 256 bytes.
///
/// **Setting a schedule again changes nothing** if it is the same: the same [`When`] and the same payload. It
/// keeps the time at which it runs next. So `on_start` may set what repeats, no matter how often the room wakes. A
/// different one replaces it, and its time counts from then. To move the end of a pause with each event, set the
/// moment: `When::At(room.now() + pause)`.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::{Connection, Message, Result, Room, Run, Server, When};
///
/// #[derive(Default)]
/// struct Auction;
///
/// impl Server for Auction {
///     async fn on_start(&mut self, room: &Room) -> Result {
///         room.schedules().set("report", When::Every(Duration::from_secs(3600))).await?;
///         Ok(())
///     }
///
///     async fn on_message(&mut self, room: &Room, _: &Connection, bid: Message) -> Result {
///         room.storage().put("bid", bid.text()?)?;
///         // Each bid gives the others 30 s more.
///         let end = room.now() + Duration::from_secs(30);
///         room.schedules().set("end", When::At(end)).await?;
///         Ok(())
///     }
///
///     async fn on_schedule(&mut self, room: &Room, run: Run) -> Result {
///         let bid: Option<String> = room.storage().get("bid").await?;
///         room.broadcast(format!("{}: {bid:?}", run.name)).send();
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Schedules<'a> {
    room: &'a Room,
}

impl Schedules<'_> {
    /// Sets a schedule without a payload. If the same one is set already, this changes nothing.
    ///
    /// # Errors
    ///
    /// As for [`set_with`](Schedules::set_with).
    pub async fn set(&self, name: &str, when: impl Into<When>) -> Result<(), ScheduleError> {
        self.write(name, when.into(), None).await
    }

    /// Sets a schedule with a payload, which [`Run::payload`](crate::Run::payload) returns. If the same one is
    /// set already, this changes nothing.
    ///
    /// ```
    /// use partykit_core::{Connection, Message, Result, Room, Run, Server, Timestamp, When};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Note {
    ///     text: String,
    /// }
    ///
    /// struct Notes;
    ///
    /// impl Server for Notes {
    ///     async fn on_message(&mut self, room: &Room, sender: &Connection, text: Message) -> Result {
    ///         let note = Note { text: text.text()?.to_owned() };
    ///         let tomorrow = room.now() + std::time::Duration::from_secs(86_400);
    ///         room.schedules().set_with(sender.id(), When::At(tomorrow), &note).await?;
    ///         Ok(())
    ///     }
    ///
    ///     async fn on_schedule(&mut self, room: &Room, run: Run) -> Result {
    ///         let note: Note = run.payload()?;
    ///         room.broadcast(note.text).send();
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When the name, the payload or the time is over a limit, the cron expression never comes true, the room
    /// has 1,000 others, or the store fails. Nothing is written then.
    pub async fn set_with<T: Serialize + ?Sized>(
        &self,
        name: &str,
        when: impl Into<When>,
        payload: &T,
    ) -> Result<(), ScheduleError> {
        let payload = serde_json::to_string(payload).map_err(JsonError::new)?;
        if payload.len() > PAYLOAD {
            return Err(ScheduleError::PayloadTooLarge(payload.len()));
        }
        self.write(name, when.into(), Some(payload)).await
    }

    /// A schedule. `None` if no schedule has this name. While its handler runs, this is what comes after this
    /// run: nothing, if it runs once.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn get(&self, name: &str) -> Result<Option<Schedule>, ScheduleError> {
        let (_, seen) = self.read(name).await?;
        Ok(seen.and_then(Bell::schedule))
    }

    /// All schedules, in the order of their names.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<Schedule>, ScheduleError> {
        let rows = self.scan(usize::MAX, &schedules()).await?;
        let mut found = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            let bell = Bell::decode(&key, &value)?;
            let seen = self.room.inside(|turn| turn.seen(bell));
            found.extend(seen.and_then(Bell::schedule));
        }
        Ok(found)
    }

    /// Deletes a schedule. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// When the store fails, or the handler has written too much.
    pub async fn delete(&self, name: &str) -> Result<bool, ScheduleError> {
        let (row, seen) = self.read(name).await?;
        if row.is_some() {
            self.room.inside(|turn| turn.write_schedule(row.as_ref(), None))?;
        }
        Ok(seen.is_some())
    }

    async fn write(
        &self,
        name: &str,
        when: When,
        payload: Option<String>,
    ) -> Result<(), ScheduleError> {
        if name.is_empty() || name.len() > NAME {
            return Err(ScheduleError::InvalidName(name.len()));
        }
        let plan = Box::new(Plan { name: name.to_owned(), when: when.whole(), payload });
        if let When::Every(period) = plan.when
            && period < EVERY
        {
            return Err(ScheduleError::TooOften);
        }
        let (row, seen) = self.read(name).await?;
        if seen.as_ref().and_then(Bell::plan) == Some(&plan) {
            // A program without the feature may have used up the wake-up: this makes it right.
            if let Some(row) = row.filter(|row| row.is_late(self.room.now())) {
                self.room.inside(|turn| turn.write_schedule(Some(&row), Some(&row)))?;
            }
            return Ok(());
        }
        if row.is_none() && self.scan(SCHEDULES, &order()).await?.len() >= SCHEDULES {
            return Err(ScheduleError::TooMany);
        }
        let first = plan.when.first(self.room.now())?;
        let first =
            first.ok_or_else(|| ScheduleError::Never(shown(&format!("{:?}", plan.when))))?;
        if first.as_millis() > limits::ALARM {
            return Err(ScheduleError::TooLate(first));
        }
        let bell = Bell::new(plan, first);
        // Between this and the row before, other code of the handler may have set the schedule as well.
        let (row, _) = self.read(name).await?;
        self.room.inside(|turn| turn.write_schedule(row.as_ref(), Some(&bell)))?;
        Ok(())
    }

    /// A schedule's row as it is, and as the handler sees it. No other code of the handler runs between this
    /// and what follows it without an `await`.
    async fn read(&self, name: &str) -> Result<(Option<Bell>, Option<Bell>), ScheduleError> {
        let cell = self.room.cell();
        let key = Bell::key_of(name);
        let row = loop {
            let syncs = self.syncs();
            let lookup = || self.room.inside(|turn| turn.lookup(&key));
            if let known @ (Lookup::Absent | Lookup::Value(_)) = lookup() {
                break known.value();
            }
            let keys = std::slice::from_ref(&key);
            let found = cell.host().backend().read(cell.address(), keys).await?;
            match lookup() {
                Lookup::Ask if self.syncs() == syncs => break found.into_iter().next().flatten(),
                Lookup::Ask => {}
                known => break known.value(),
            }
        };
        let row = row.map(|row| Bell::decode(&key, &row)).transpose()?;
        let seen = row.clone().and_then(|row| self.room.inside(|turn| turn.seen(row)));
        Ok((row, seen))
    }

    async fn scan(
        &self,
        limit: usize,
        range: &crate::KeyRange,
    ) -> Result<Vec<(Bytes, Bytes)>, ScheduleError> {
        let cell = self.room.cell();
        loop {
            let syncs = self.syncs();
            let diff = self.room.inside(|turn| turn.diff(range));
            let backend = &**cell.host().backend();
            let rows = diff.scan(backend, cell.address(), range, false, limit).await?;
            if self.syncs() == syncs {
                return Ok(rows);
            }
        }
    }

    fn syncs(&self) -> u64 {
        self.room.inside(|turn| turn.syncs())
    }
}

impl Room {
    /// The room's schedules: what is to happen later, by name.
    pub fn schedules(&self) -> Schedules<'_> {
        Schedules { room: self }
    }
}

/// Why a call to [`Schedules`] failed.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::{Room, ScheduleError, When};
///
/// async fn tick(room: &Room, every: Duration) -> Result<bool, ScheduleError> {
///     match room.schedules().set("tick", When::Every(every)).await {
///         Err(ScheduleError::TooOften) => Ok(false),
///         result => result.map(|()| true),
///     }
/// }
/// # let _ = tick;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A cron expression or its zone is not valid.
    #[error(transparent)]
    Cron(#[from] InvalidCron),
    /// A name has this many bytes.
    #[error("the name of a schedule has 1 to {max} bytes, this one has {0}", max = NAME)]
    InvalidName(usize),
    /// A payload has no JSON form.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The cron expression never comes true, such as the 30th of February.
    #[error("a schedule would never run: {0}")]
    Never(String),
    /// A payload has this many bytes of JSON.
    #[error("a schedule carries at most {max} bytes of JSON, not {0}", max = PAYLOAD)]
    PayloadTooLarge(usize),
    /// The store failed, or the handler has written too much.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A schedule cannot run this late.
    #[error("a schedule runs at most {max} ms after the Unix epoch, not at {0}", max = limits::ALARM)]
    TooLate(Timestamp),
    /// The room has as many schedules as it may have.
    #[error("a room has at most {max} schedules", max = SCHEDULES)]
    TooMany,
    /// A schedule may not run this often.
    #[error("a schedule repeats at most every {max:?}", max = EVERY)]
    TooOften,
}

impl From<BackendError> for ScheduleError {
    fn from(error: BackendError) -> Self {
        Self::Storage(error.into())
    }
}
