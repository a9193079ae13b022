//! A party that tells who is here, served on loopback.

pub(crate) mod log;

use partykit::{Runtime, server::Builder, stats::RoomPhase};
pub(crate) use partykit_conformance::suite::checklist::who;
use partykit_conformance::{
    SWITCHBOARD, Switchboard, serve,
    suite::{Client, Target},
};
use tokio::net::TcpListener;

/// A server with a [`Switchboard`], and the one room that is used of it.
pub(crate) struct House {
    pub(crate) server: partykit_conformance::Server,
    pub(crate) target: Target,
}

impl House {
    pub(crate) const PARTY: &str = SWITCHBOARD;
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
