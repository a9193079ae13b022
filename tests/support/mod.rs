//! A party that tells who is here, served on loopback.

pub(crate) mod log;

use partykit::{
    Close, Connection, Message, Options, Request, Response, Result, Room, RoomPhase, RoomStats,
    Runtime, Server, runtime::tokio::Builder,
};
use partykit_conformance::{
    serve,
    suite::{Client, Target},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Tells everybody how many are here, whenever that changes, and passes on what anybody says.
///
/// To `who` it answers with what it knows: `count`, `connections` (their ids) and `events`, how many
/// this instance has seen. To `heartbeat` the runtime answers.
#[derive(Debug, Default)]
pub(crate) struct Switchboard {
    events: u32,
}

impl Server for Switchboard {
    fn options() -> Options {
        Options::new().hibernate(true).auto_response("heartbeat", "alive")
    }

    async fn on_connect(&mut self, room: &Room, _: &Connection, _: &Request) -> Result {
        self.events += 1;
        announce(room)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        tracing::info!("a message is handled");
        self.events += 1;
        if message.as_text() == Some("who") {
            sender.send(Message::from_json(&self.who(room))?);
        } else {
            room.broadcast(message).send();
        }
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, _: &Connection, _: Close) -> Result {
        self.events += 1;
        announce(room)
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        self.events += 1;
        Ok(Response::new(self.who(room).to_string().into()))
    }
}

impl Switchboard {
    fn who(&self, room: &Room) -> Value {
        let ids: Vec<_> = room.connections().map(|it| it.id().to_owned()).collect();
        json!({ "count": room.count(), "connections": ids, "events": self.events })
    }
}

fn announce(room: &Room) -> Result {
    let count = room.count();
    let mode = if count > 1 { "multi" } else { "solo" };
    room.broadcast(Message::from_json(&json!({ "count": count, "mode": mode }))?).send();
    Ok(())
}

/// A server with a [`Switchboard`], and the one room that is used of it.
pub(crate) struct House {
    pub(crate) server: partykit_conformance::Server,
    target: Target,
}

impl House {
    pub(crate) const PARTY: &str = "switchboard";
    pub(crate) const ROOM: &str = "lobby";

    pub(crate) async fn open() -> Self {
        Self::open_with(|builder| builder).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(Builder) -> Builder) -> Self {
        log::install();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let builder = Runtime::builder().party::<Switchboard>(Self::PARTY).in_memory();
        let server = serve(change(builder), listener).expect("an address");
        let target = Target::new(&server.url());
        Self { server, target }
    }

    pub(crate) fn room(&self) -> partykit_conformance::suite::Room<'_> {
        partykit_conformance::suite::Room::new(&self.target, Self::PARTY, Self::ROOM.to_owned())
    }

    /// Connects, and hears the announcement of it.
    pub(crate) async fn connect(&self, id: &str) -> Client {
        let mut client = self.room().connect(id).await;
        client.next_json().await;
        client
    }

    /// What the runtime says of the room.
    pub(crate) fn stats(&self) -> RoomStats {
        let stats = self.server.handle().room_stats(Self::PARTY, Self::ROOM);
        stats.expect("the room is in memory")
    }

    /// How many connections the room has, as the runtime knows.
    pub(crate) fn listed(&self) -> usize {
        let stats = self.server.handle().room_stats(Self::PARTY, Self::ROOM);
        stats.map_or(0, |stats| stats.connections)
    }

    /// Makes the room sleep now, as ten seconds of silence would.
    pub(crate) async fn sleep(&self) {
        let evicted = self.server.handle().evict(Self::PARTY, Self::ROOM).await;
        evicted.expect("nothing keeps the room awake");
        let handle = self.server.handle();
        if let Some(stats) = handle.room_stats(Self::PARTY, Self::ROOM) {
            assert_eq!(stats.phase, RoomPhase::Asleep);
        }
    }
}

/// Asks a room who is there.
pub(crate) async fn who(client: &mut Client) -> Value {
    client.say("who").await;
    client.next_json().await
}
