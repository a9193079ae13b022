use std::pin::Pin;

use partykit::{
    Alarm, BoxError, Connection, List, Message, Options, Request, Response, Result, Room, Server,
    Storage, Timestamp,
};

use crate::{
    protocol::{Ask, Failure, Position, Ring, Setting, Stored, Told},
    script::{self, Action, Value, When},
};

/// For how long a room is quiet before it sleeps: shorter than a client's pauses.
const QUIET: std::time::Duration = std::time::Duration::from_millis(20);

const POSITION: &str = "position";
const SET: &str = "alarm/set";
const RANG: &str = "alarm/rang";
const MIRROR: &str = "alarm/rang-mirror";

/// A row that no alarm handler stores that ends well.
const STRAY: &str = "junk/alarm";

/// A room that does one step after the other.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// How far it has come: what the storage says, or the rollback of a handler was none.
    position: Position,
}

impl Server for Stream {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(QUIET)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.position = room.storage().get(POSITION).await?.unwrap_or_default();
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let told = self.handle(room, message.json()?).await?;
        sender.send_json(&told)?;
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let ask = serde_json::from_slice(request.body().bytes().map_or(&[], |bytes| bytes))?;
        let told = self.handle(room, ask).await?;
        Ok(Response::new(serde_json::to_string(&told)?.into()))
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        let storage = room.storage();
        let Some(set) = storage.get::<Setting>(SET).await? else {
            // Nobody has set one. That it rings is found by this.
            return storage.put_bytes(STRAY, [0; 8].to_vec()).map_err(Into::into);
        };
        if set.flaky && alarm.retries == 0 {
            storage.put_bytes(STRAY, [0; 8].to_vec())?;
            return Err("the first time it fails".into());
        }
        let before: Option<Ring> = storage.get(RANG).await?;
        let again = before.filter(|ring| ring.number == set.number).map_or(0, |ring| ring.times);
        let (scheduled, now) = (alarm.scheduled.as_millis(), room.now().as_millis());
        let ring = Ring { number: set.number, scheduled, now, times: again + 1 };
        storage.put(RANG, &ring)?;
        storage.put(MIRROR, &ring.number)?;
        room.broadcast_json(&Told::Rang(ring))?.send();
        Ok(())
    }
}

impl Stream {
    async fn handle(&mut self, room: &Room, ask: Ask) -> Result<Told> {
        match ask {
            Ask::Step { number, now, fails } => self.step(room, number, now, fails).await,
            Ask::State => Ok(Told::Stored(stored(room).await?)),
            other => Ok(Told::Refused(format!("a stream cannot do {other:?}"))),
        }
    }

    async fn step(
        &mut self,
        room: &Room,
        number: u64,
        now: u64,
        fails: Option<Failure>,
    ) -> Result<Told> {
        let last = self.position;
        let is_whole =
            last.number == 0 || script::parts(room.id(), last.number).len() == last.parts;
        let done = match (is_whole, number) {
            (true, _) if number == last.number + 1 => 0,
            (false, _) if number == last.number => last.parts,
            _ => return Ok(Told::Refused(format!("{last:?} is done; {number} is not next"))),
        };
        if fails == Some(Failure::Before) {
            return Err("it was to fail at once".into());
        }
        let storage = room.storage();
        let parts = script::parts(room.id(), number);
        for (index, part) in parts.iter().enumerate().skip(done) {
            act(storage, part, now).await?;
            self.position = Position { number, parts: index + 1 };
            storage.put(POSITION, &self.position)?;
            if index + 1 < parts.len() {
                storage.sync().await?;
            }
        }
        if let Some(fails) = fails {
            act(storage, &script::junk(room.id(), number), now).await?;
            assert!(fails != Failure::Panic, "it was to panic");
            return Err("it was to fail".into());
        }
        Ok(Told::Did(number))
    }
}

const IN_VAIN: &str = "this transaction is to fail";

fn act<'a>(
    storage: Storage<'a>,
    actions: &'a [Action],
    now: u64,
) -> Pin<Box<dyn Future<Output = Result> + Send + 'a>> {
    Box::pin(async move {
        for action in actions {
            match action {
                Action::Put(key, value) => storage.put_bytes(key, value.bytes())?,
                Action::Delete(keys) => storage.delete_many(keys)?,
                Action::Clear => storage.delete_all(),
                Action::SetAlarm { number, when } => {
                    let (number, at) = (*number, when.from(now));
                    let flaky = matches!(when, When::Flaky(_));
                    storage.put(SET, &Setting { number, at, flaky })?;
                    storage.set_alarm(Timestamp::from_millis(at))?;
                }
                Action::DeleteAlarm => {
                    storage.delete_alarm();
                    storage.delete(SET)?;
                }
                Action::Together(actions) => {
                    storage.transaction(|storage| act(storage, actions, now)).await?;
                }
                Action::InVain(actions) => {
                    let failed = storage.transaction(async |storage| {
                        act(storage, actions, now).await?;
                        Err::<(), BoxError>(IN_VAIN.into())
                    });
                    failed.await.or_else(|error| {
                        if error.to_string() == IN_VAIN { Ok(()) } else { Err(error) }
                    })?;
                }
                Action::Sync => storage.sync().await?,
            }
        }
        Ok(())
    })
}

async fn stored(room: &Room) -> Result<Stored> {
    let storage = room.storage();
    let mut stored = Stored {
        position: storage.get(POSITION).await?.unwrap_or_default(),
        set: storage.get(SET).await?,
        rang: storage.get(RANG).await?,
        rang_mirror: storage.get(MIRROR).await?.unwrap_or(0),
        pending: storage.alarm().await?.map(Timestamp::as_millis),
        ..Stored::default()
    };
    for (key, bytes) in storage.list_bytes(List::new()).await? {
        if ![POSITION, SET, RANG, MIRROR].contains(&&key[..]) {
            stored.rows.insert(key, Value::read(&bytes));
        }
    }
    Ok(stored)
}
