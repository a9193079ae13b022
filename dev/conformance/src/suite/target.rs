use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use partykit::http::{Method, Request};
use serde::{Deserialize, Serialize};

use super::{Answer, Mode, Room, http};

/// A runtime under test: where it listens, and how its rooms are put to sleep.
#[derive(Clone)]
pub struct Target {
    base: String,
    control: Arc<dyn Control>,
    deadline: Duration,
    /// Tells this run's rooms from those of the next.
    nonce: u64,
}

/// What is outside of the protocol.
#[async_trait]
pub trait Control: Send + Sync {
    /// Puts a room to sleep; its connections stay. Returns when it sleeps. A runtime that cannot be told
    /// to may wait until its rooms sleep by themselves.
    ///
    /// # Panics
    ///
    /// When the room does not sleep.
    async fn put_to_sleep(&self, party: &str, room: &str);

    /// How a room is, without waking it. `None` when the runtime cannot say.
    async fn stats(&self, party: &str, room: &str) -> Option<RoomView> {
        let _ = (party, room);
        None
    }

    /// Sends a text to all connections of a room from outside, without waking it. `false` when the
    /// runtime cannot.
    async fn broadcast(&self, party: &str, room: &str, text: &str) -> bool {
        let _ = (party, room, text);
        false
    }
}

/// A room's stats, as far as the suite asks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RoomView {
    /// Whether no instance is in memory.
    pub asleep: bool,
    /// Listed connections.
    pub connections: usize,
    /// How often an event has made an instance necessary.
    pub wakes: u64,
    /// What the last wake was for: `connect`, `disconnect`, `message`, `request`, ..
    pub last_wake: Option<String>,
}

impl RoomView {
    /// The view of a runtime's own stats.
    pub fn of(stats: &partykit::stats::RoomStats) -> Self {
        Self {
            asleep: stats.phase == partykit::stats::RoomPhase::Asleep,
            connections: stats.connections,
            wakes: stats.account.wakes(),
            last_wake: stats.account.last_wake.map(|(cause, _)| cause.to_string()),
        }
    }
}

impl Target {
    /// A server at `base`, `http://127.0.0.1:1999`, that is controlled as the binary `probe` is.
    pub fn new(base: &str) -> Self {
        Self::with_control(base, Arc::new(HttpControl::new(base)))
    }

    /// A server that is controlled otherwise.
    pub fn with_control(base: &str, control: Arc<dyn Control>) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        let deadline = Duration::from_secs(20);
        Self { base, control, deadline, nonce: RandomState::new().hash_one("a run") }
    }

    /// How long a case waits for any one thing before it fails: Default: 20 s, far longer than
    /// anything takes.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Waits for something until the deadline.
    ///
    /// # Panics
    ///
    /// When it is over; the message says `what` there is not.
    pub(super) async fn expect<T>(&self, what: &str, it: impl Future<Output = T>) -> T {
        within(self.deadline, what, it).await
    }

    /// How long a case waits for any one thing.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// `http://` and where the server listens.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Host and port.
    ///
    /// # Panics
    ///
    /// When the base is no `http://` address.
    pub fn authority(&self) -> &str {
        self.base.strip_prefix("http://").expect("the base begins with http://")
    }

    /// How it is controlled.
    pub fn control(&self) -> &dyn Control {
        &*self.control
    }

    /// A room of the probe party that nobody has used, for the case of this name.
    pub fn room(&self, mode: Mode, case: &str) -> Room<'_> {
        self.room_of(mode.party(), case)
    }

    /// The same of any party.
    pub fn room_of(&self, party: &'static str, case: &str) -> Room<'_> {
        Room::new(self, party, format!("{case}-{:016x}", self.nonce))
    }

    /// Sends a request with this path, and a query maybe.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn send(&self, method: Method, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).body(body.to_owned().into());
        self.send_request(request.expect("a request")).await
    }

    /// Sends a request; its address is a path, its `Host` this server.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn send_request(&self, request: Request<hyper::body::Bytes>) -> Answer {
        self.expect("answer", http::send(self.authority(), request)).await
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.base)
    }
}

/// Controls the binary `probe`, see [`Server`](crate::Server).
#[derive(Clone, Debug)]
pub struct HttpControl {
    authority: String,
}

impl HttpControl {
    /// Of the server at `base`.
    pub fn new(base: &str) -> Self {
        let authority = base.trim_start_matches("http://").trim_end_matches('/');
        Self { authority: authority.to_owned() }
    }

    async fn send(
        &self,
        method: Method,
        what: &str,
        party: &str,
        room: &str,
        body: &str,
    ) -> Answer {
        let path = format!("/control/{what}?party={party}&room={room}");
        let request = Request::builder().method(method).uri(path).body(body.to_owned().into());
        let sent = http::send(&self.authority, request.expect("a request"));
        within(Duration::from_secs(20), "answer of the control", sent).await
    }
}

#[async_trait]
impl Control for HttpControl {
    async fn put_to_sleep(&self, party: &str, room: &str) {
        let answer = self.send(Method::POST, "evict", party, room, "").await;
        assert_eq!(answer.status(), 200, "{party}/{room} does not sleep: {}", answer.text());
    }

    async fn stats(&self, party: &str, room: &str) -> Option<RoomView> {
        let answer = self.send(Method::GET, "stats", party, room, "").await;
        assert_eq!(answer.status(), 200, "no stats of {party}/{room}: {}", answer.text());
        serde_json::from_value(answer.json()).expect("stats")
    }

    async fn broadcast(&self, party: &str, room: &str, text: &str) -> bool {
        let answer = self.send(Method::POST, "broadcast", party, room, text).await;
        assert_eq!(answer.status(), 200, "no broadcast to {party}/{room}: {}", answer.text());
        true
    }
}

pub(super) async fn within<T>(time: Duration, what: &str, it: impl Future<Output = T>) -> T {
    let within = tokio::time::timeout(time, it).await;
    within.unwrap_or_else(|_| panic!("no {what} within {time:?}"))
}
