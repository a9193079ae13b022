use partykit::{
    Alarm, Connection, List, Message, Options, Request, Response, Result, Room, Server, Timestamp,
};

use crate::protocol::{Ask, ENTRIES, Entry, Ring, Setting, State, Told};

/// A room that writes several keys for whatever is asked, all of which must agree, and then tells
/// everybody.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// How many writes there were: what the storage says, or the rollback of a handler was none.
    count: u64,
}

impl Server for Ledger {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.count = room.storage().get("count").await?.unwrap_or(0);
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match self.handle(room, message.json()?).await? {
            // Everybody was told, the sender too.
            Told::Wrote(_) => {}
            told => sender.send_json(&told)?,
        }
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let ask = serde_json::from_slice(request.body().bytes().map_or(&[], |bytes| bytes))?;
        let told = self.handle(room, ask).await?;
        Ok(Response::new(serde_json::to_string(&told)?.into()))
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        let storage = room.storage();
        let set: Setting = storage.get("alarm/set").await?.ok_or("no alarm was set")?;
        let before: Option<Ring> = storage.get("alarm/rang").await?;
        let again = before.filter(|ring| ring.number == set.number).map_or(0, |ring| ring.times);
        let (scheduled, now) = (alarm.scheduled.as_millis(), room.now().as_millis());
        let ring = Ring { number: set.number, scheduled, now, times: again + 1 };
        storage.put("alarm/rang", &ring)?;
        storage.put("alarm/rang-mirror", &ring.number)?;
        room.broadcast_json(&Told::Rang(ring))?.send();
        Ok(())
    }
}

impl Ledger {
    async fn handle(&mut self, room: &Room, ask: Ask) -> Result<Told> {
        Ok(match ask {
            Ask::Write { writer, number } => self.write(room, writer, number).await?,
            Ask::Alarm { number, at } => {
                let storage = room.storage();
                storage.put("alarm/set", &Setting { number, at, flaky: false })?;
                storage.set_alarm(Timestamp::from_millis(at))?;
                storage.put("alarm/set-mirror", &number)?;
                Told::Set { number, at }
            }
            Ask::Step { number, .. } => Told::Refused(format!("a ledger does no step {number}")),
            Ask::State => Told::State(state(room).await?),
        })
    }

    async fn write(&mut self, room: &Room, writer: String, number: u64) -> Result<Told> {
        let storage = room.storage();
        let key = format!("writer/{writer}");
        let last: u64 = storage.get(&key).await?.unwrap_or(0);
        if number != last + 1 {
            return Ok(Told::Refused(format!("{writer} wrote {last}, not {number} next")));
        }
        self.count += 1;
        let entry = Entry { count: self.count, writer, number };
        storage.put("count", &self.count)?;
        storage.put(&key, &number)?;
        storage.put(&format!("entry/{:02}", self.count % ENTRIES), &entry)?;
        storage.put_bytes(&format!("ballast/{:02}", self.count % ENTRIES), ballast(self.count))?;
        storage.put("mirror", &self.count)?;
        let told = Told::Wrote(entry);
        room.broadcast_json(&told)?.send();
        Ok(told)
    }
}

/// What makes an entry heavy, so that the store has to move things while it is killed: up to 4 KiB, which
/// say over and over which entry they are of.
fn ballast(count: u64) -> Vec<u8> {
    let times = 1 + (count * 7_919 % 512) as usize;
    count.to_le_bytes().repeat(times)
}

/// Which entry it is the ballast of; 0 if it is not whole.
fn weighed(bytes: &[u8]) -> u64 {
    let count = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    if bytes == ballast(count) { count } else { 0 }
}

async fn state(room: &Room) -> Result<State> {
    let storage = room.storage();
    let writers = storage.list(List::new().prefix("writer/")).await?;
    let name = |key: String| key.trim_start_matches("writer/").to_owned();
    let entries = storage.list(List::new().prefix("entry/")).await?;
    let ballasts = storage.list_bytes(List::new().prefix("ballast/")).await?;
    Ok(State {
        count: storage.get("count").await?.unwrap_or(0),
        mirror: storage.get("mirror").await?.unwrap_or(0),
        writers: writers.into_iter().map(|(key, number)| (name(key), number)).collect(),
        entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        ballast: ballasts.into_iter().map(|(_, bytes)| weighed(&bytes)).collect(),
        set: storage.get("alarm/set").await?,
        set_mirror: storage.get("alarm/set-mirror").await?.unwrap_or(0),
        rang: storage.get("alarm/rang").await?,
        rang_mirror: storage.get("alarm/rang-mirror").await?.unwrap_or(0),
        pending: storage.alarm().await?.map(Timestamp::as_millis),
    })
}
