use std::{
    collections::{BTreeMap, VecDeque},
    future,
    sync::Arc,
    time::Duration,
};

use arbitrary::Arbitrary;
use futures_executor::block_on;
use partykit_core::{
    Alarm, Body, Connection, List, MemoryBackend, Message, Options, Request, Response, Result,
    Room, Server,
    testing::{FaultyBackend, TestConnection, TestRoom},
};

/// Something that happens to a room.
#[derive(Arbitrary, Clone, Debug)]
enum RoomStep {
    /// Time passes: a second, or as much as handlers that hang may take.
    Advance(bool),
    /// One of the clients closes its connection.
    Close(u8),
    /// A client connects.
    Connect,
    /// The server's process ends, and another begins.
    Crash,
    /// The next commit fails.
    FailCommit,
    /// The room sleeps.
    Hibernate,
    /// A request asks what is stored.
    Request,
    /// One of the clients has the room do something.
    Say(u8, Deed, u8),
    /// One of the clients is gone without a Close.
    Vanish(u8),
}

/// What a handler does for a client.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Sets the alarm and puts the row that says so.
    Alarm,
    /// The same, and fails.
    AlarmThenFail,
    /// Closes the client's connection.
    Close,
    /// Deletes a row and says so.
    Delete,
    /// Fails before it has written.
    Fail,
    /// Writes, and never ends.
    Hang,
    /// Puts a row and says so.
    Put,
    /// Puts a row, says so, and fails.
    PutThenFail,
    /// Puts a row, waits until it is durable, says so, and fails.
    SyncThenFail,
    /// Puts a row in a transaction that fails, and says so.
    Undo,
}

const DEEDS: [Deed; 10] = [
    Deed::Alarm,
    Deed::AlarmThenFail,
    Deed::Close,
    Deed::Delete,
    Deed::Fail,
    Deed::Hang,
    Deed::Put,
    Deed::PutThenFail,
    Deed::SyncThenFail,
    Deed::Undo,
];

/// A handler may take 30 s.
const HANG: Duration = Duration::from_secs(31);

/// The row that is there as long as the alarm is.
const ALARM: &str = "alarm";

/// An alarm's handler fails twice at most, and it rings again after 2 and 4 seconds.
const RUNG_OUT: Duration = Duration::from_secs(60);

/// No room has space for more events than this and one for every client.
const MAX_STEPS: usize = 500;

type Rows = BTreeMap<String, Vec<u8>>;

/// Does the steps to a room and compares it with a model after each.
///
/// # Panics
///
/// When the room stores something else than what its successful handlers wrote, when a client was told
/// something else than what is durable, was told nothing, or is still connecting at the end, when an
/// instance is not what storage makes of it, or when there is an alarm without its row or a row without its
/// alarm, or one that never rings.
pub fn machine(bytes: &[u8]) {
    let steps = crate::values::<RoomStep>(bytes);
    block_on(async {
        let mut world = World::new();
        for step in steps.iter().take(MAX_STEPS) {
            world.take(step).await;
            world.check(step).await;
        }
        world.unhang().await;
        for client in &world.clients {
            assert!(client.end.is_answered(), "{} waits for ever", client.end.id());
        }
        world.room.advance(RUNG_OUT).await;
        assert_eq!(world.room.alarm().await, None, "an alarm does not ring");
        assert!(!world.has_alarm_row().await, "an alarm is gone, and its handler has not run");
    });
}

/// A room and what should be of it.
struct World {
    room: TestRoom<Ledger>,
    backend: FaultyBackend<MemoryBackend>,
    commit_fails: bool,
    rows: Rows,
    /// Of this life of the server.
    clients: Vec<Client>,
    /// The deed that hangs, and what waits for it.
    waiting: VecDeque<Order>,
    numbers: u32,
}

struct Client {
    end: TestConnection,
    /// What it should have been told and did not ask for yet.
    expected: Vec<Message>,
}

/// A deed as it is ordered and, if it succeeds, confirmed: the number makes it unlike all others.
#[derive(Clone, Copy)]
struct Order {
    client: usize,
    deed: Deed,
    key: u8,
    number: u32,
}

impl World {
    fn new() -> Self {
        let backend = FaultyBackend::new(MemoryBackend::default(), 0);
        Self {
            room: TestRoom::builder().backend(Arc::new(backend.clone())).build(),
            backend,
            commit_fails: false,
            rows: Rows::new(),
            clients: Vec::new(),
            waiting: VecDeque::new(),
            numbers: 0,
        }
    }

    async fn take(&mut self, step: &RoomStep) {
        match *step {
            RoomStep::Advance(false) if self.waiting.is_empty() => {
                self.room.advance(Duration::from_secs(1)).await;
            }
            RoomStep::Advance(_) => self.unhang().await,
            RoomStep::Close(client) => {
                if let Some(client) = self.open(client) {
                    self.clients[client].end.close(1000, "").await.expect("a valid Close");
                }
            }
            RoomStep::Connect => {
                self.numbers += 1;
                let end = self.room.connect(&format!("client {}", self.numbers)).await;
                self.clients.push(Client { end, expected: Vec::new() });
            }
            RoomStep::Crash => {
                self.room.crash().await;
                self.clients.clear();
                self.waiting.clear();
            }
            // A failed commit takes with it what handlers did that ran before it was known. Who that is
            // depends on when a queue is worked off: the model has no queue while a failure is planned.
            // Nor an alarm, which would take the failure to itself.
            RoomStep::FailCommit
                if self.waiting.is_empty() && self.room.alarm().await.is_none() =>
            {
                self.backend.fail_next_commit();
                self.commit_fails = true;
            }
            RoomStep::FailCommit => {}
            RoomStep::Say(..) if self.commit_fails && !self.waiting.is_empty() => {}
            RoomStep::Say(_, Deed::Alarm, _) if self.commit_fails => {}
            RoomStep::Hibernate => {
                let slept = self.room.hibernate().await;
                assert_eq!(slept.is_ok(), self.waiting.is_empty(), "{slept:?}");
            }
            RoomStep::Request => {
                if self.waiting.is_empty() {
                    let stored = self.room.get("").await.expect("an answer");
                    assert_eq!(stored, format!("{:?}", self.rows));
                }
            }
            RoomStep::Say(client, deed, key) => {
                if let Some(client) = self.open(client) {
                    self.numbers += 1;
                    let order = Order { client, deed, key: key % 4, number: self.numbers };
                    self.waiting.push_back(order);
                    self.clients[client].end.send(order.message()).await;
                    self.expect();
                }
            }
            RoomStep::Vanish(client) => {
                if let Some(client) = self.open(client) {
                    self.clients[client].end.vanish().await;
                }
            }
        }
    }

    /// One of the clients that can say something.
    fn open(&self, choice: u8) -> Option<usize> {
        let open = || (0..self.clients.len()).filter(|index| self.clients[*index].end.is_open());
        open().nth(usize::from(choice) % open().count().max(1))
    }

    /// Lets as much time pass as all handlers take that hang.
    async fn unhang(&mut self) {
        self.room.advance(HANG).await;
        while self.waiting.pop_front().is_some() {
            self.expect();
            self.room.advance(HANG).await;
        }
    }

    /// Does in the model what does not wait for a handler that hangs.
    fn expect(&mut self) {
        while let Some(order) = self.waiting.pop_front() {
            match order.deed {
                Deed::Hang => return self.waiting.push_front(order),
                Deed::Close | Deed::Fail => {}
                Deed::AlarmThenFail | Deed::PutThenFail => {}
                Deed::Alarm | Deed::Undo => self.confirm(order),
                Deed::Delete | Deed::Put | Deed::SyncThenFail => {
                    if std::mem::take(&mut self.commit_fails) {
                        continue;
                    }
                    match order.deed {
                        Deed::Delete => drop(self.rows.remove(&order.row())),
                        _ => drop(self.rows.insert(order.row(), order.value())),
                    }
                    self.confirm(order);
                }
            }
        }
    }

    fn confirm(&mut self, order: Order) {
        self.clients[order.client].expected.push(order.message());
    }

    async fn has_alarm_row(&self) -> bool {
        !self.room.rows(List::new().prefix(ALARM)).await.is_empty()
    }

    async fn check(&mut self, step: &RoomStep) {
        let rows = List::new().prefix("row ");
        let stored: Rows = self.room.rows(rows).await.into_iter().collect();
        assert_eq!(stored, self.rows, "after {step:?}");
        let alarm = self.room.alarm().await;
        assert_eq!(alarm.is_some(), self.has_alarm_row().await, "{alarm:?} after {step:?}");
        for client in &mut self.clients {
            let (told, expected) = (client.end.received(), std::mem::take(&mut client.expected));
            if client.end.is_open() {
                assert_eq!(told, expected, "{} after {step:?}", client.end.id());
            } else {
                assert!(expected.starts_with(&told), "{} after {step:?}", client.end.id());
            }
        }
    }
}

impl Order {
    fn row(&self) -> String {
        format!("row {}", self.key)
    }

    fn value(&self) -> Vec<u8> {
        self.number.to_be_bytes().to_vec()
    }

    fn message(&self) -> Message {
        let deed = DEEDS.iter().position(|deed| *deed == self.deed).expect("every deed is there");
        let deed = u8::try_from(deed).expect("there are few deeds");
        [&[deed, self.key][..], &self.number.to_be_bytes()].concat().into()
    }

    fn parse(message: &Message) -> Option<Self> {
        let (&[deed, key], number) = message.as_bytes().split_first_chunk()?;
        let number = u32::from_be_bytes(number.try_into().ok()?);
        Some(Self { client: 0, deed: *DEEDS.get(usize::from(deed))?, key, number })
    }
}

/// Keeps all that is stored in memory, too.
#[derive(Default)]
struct Ledger {
    rows: Rows,
}

impl Server for Ledger {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.rows = stored(room).await?;
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        if stored(room).await? != self.rows {
            sender.send("the instance is not what storage makes of it");
        }
        let order = Order::parse(&message).ok_or("no order")?;
        let storage = room.storage();
        match order.deed {
            Deed::Close => return Ok(sender.close(4000, "")?),
            Deed::Fail => return Err("asked to fail".into()),
            Deed::Undo => {
                let undone = storage.transaction(async |tx| {
                    tx.put_bytes(&order.row(), order.value())?;
                    Result::<()>::Err("asked to undo".into())
                });
                let _ = undone.await;
                sender.send(message);
                return Ok(());
            }
            Deed::Alarm | Deed::AlarmThenFail => {
                storage.put_bytes(ALARM, vec![order.key % 3])?;
                storage.set_alarm(room.now() + Duration::from_secs(1))?;
            }
            Deed::Delete => {
                self.rows.remove(&order.row());
                storage.delete(&order.row())?;
            }
            _ => {
                self.rows.insert(order.row(), order.value());
                storage.put_bytes(&order.row(), order.value())?;
            }
        }
        match order.deed {
            Deed::Hang => future::pending().await,
            Deed::SyncThenFail => storage.sync().await?,
            _ => {}
        }
        sender.send(message);
        match order.deed {
            Deed::AlarmThenFail | Deed::PutThenFail => Err("asked to fail".into()),
            // What stands in memory is durable, so the instance may stay or go.
            Deed::SyncThenFail => Err("asked to fail".into()),
            _ => Ok(()),
        }
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        let failures = room.storage().get_bytes(ALARM).await?.ok_or("an alarm without its row")?;
        room.storage().delete(ALARM)?;
        if alarm.retries < u32::from(failures[0]) { Err("asked to fail".into()) } else { Ok(()) }
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(Body::from(format!("{:?}", stored(room).await?))))
    }
}

async fn stored(room: &Room) -> Result<Rows> {
    let rows = room.storage().list_bytes(List::new().prefix("row ")).await?;
    Ok(rows.into_iter().map(|(key, value)| (key, value.to_vec())).collect())
}
