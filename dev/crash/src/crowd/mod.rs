//! The clients: in each ledger two that write over sockets, one over HTTP, and one that sets alarms; for
//! each stream one.

mod http;
mod socket;
mod stream;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use partykit::BoxError;
use tokio::task::JoinSet;

pub(crate) use http::ask;

use crate::{
    history::{History, Track},
    protocol::{Ask, Told},
};

/// How many numbers a writer has under way at a time.
const UNDER_WAY: usize = 3;

/// How far ahead an alarm is set, in milliseconds, at most.
const AHEAD: u64 = 200;

/// How late an alarm may ring, and how long an answer may take: far more than on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A room, and what its clients were told.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) name: String,
    history: Mutex<History>,
}

impl Room {
    pub(crate) fn new(name: String) -> Self {
        Self { name, history: Mutex::default() }
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A room in which one client does one step after the other.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    track: Mutex<Track>,
}

impl Stream {
    pub(crate) fn new(name: String) -> Self {
        Self { track: Mutex::new(Track::new(&name)), name }
    }

    pub(crate) fn track(&self) -> MutexGuard<'_, Track> {
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a client was told.
    fn hear(&self, text: &[u8]) -> Result<Told, BoxError> {
        let told: Told = serde_json::from_slice(text)?;
        self.track().told(&told, now());
        match told {
            Told::Refused(why) => Err(why.into()),
            told => Ok(told),
        }
    }
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Crowd {
    clients: JoinSet<()>,
    killed: Arc<AtomicBool>,
}

impl Crowd {
    /// Sends clients into all rooms. They work until the server is gone.
    pub(crate) fn start(
        address: SocketAddr,
        rooms: &[Arc<Room>],
        streams: &[Arc<Stream>],
        random: &mut fastrand::Rng,
    ) -> Self {
        Self::begin(address, rooms, streams, random, false)
    }

    /// The same to a server that hands over. That ends connections of HTTP which wait for a request, so who
    /// writes over HTTP makes one for each, and steps are done over sockets.
    pub(crate) fn start_over(
        address: SocketAddr,
        rooms: &[Arc<Room>],
        streams: &[Arc<Stream>],
        random: &mut fastrand::Rng,
    ) -> Self {
        Self::begin(address, rooms, streams, random, true)
    }

    fn begin(
        address: SocketAddr,
        rooms: &[Arc<Room>],
        streams: &[Arc<Stream>],
        random: &mut fastrand::Rng,
        hands_over: bool,
    ) -> Self {
        let mut clients = JoinSet::new();
        let killed = Arc::new(AtomicBool::new(false));
        for room in rooms {
            for client in 0..4 {
                let (room, killed, random) = (room.clone(), killed.clone(), random.fork());
                clients.spawn(async move {
                    let worked = match client {
                        0 | 1 => socket::write(address, &room, &format!("socket-{client}")).await,
                        2 if hands_over => http::write_apart(address, &room, "http").await,
                        2 => http::write(address, &room, "http").await,
                        _ => socket::set_alarms(address, &room, random).await,
                    };
                    // Before the kill nothing may fail.
                    if let Err(error) = worked
                        && !killed.load(Ordering::SeqCst)
                    {
                        room.history().unserved(error.to_string());
                    }
                });
            }
        }
        for stream in streams {
            let (stream, killed, random) = (stream.clone(), killed.clone(), random.fork());
            clients.spawn(async move {
                let worked = stream::step(address, &stream, random, hands_over).await;
                if let Err(error) = worked
                    && !killed.load(Ordering::SeqCst)
                {
                    stream.track().unserved(error.to_string());
                }
            });
        }
        Self { clients, killed }
    }

    /// The server is about to be killed: from now on everything may fail.
    pub(crate) fn farewell(&self) {
        self.killed.store(true, Ordering::SeqCst);
    }

    /// Whether the server is about to be killed.
    pub(crate) fn killed(&self) -> Arc<AtomicBool> {
        self.killed.clone()
    }

    /// Waits until all have read what was sent to them before the end.
    pub(crate) async fn gone(mut self) {
        while self.clients.join_next().await.is_some() {}
    }
}

/// Puts what a client was told into the history.
fn hear(room: &Room, text: &[u8]) -> Result<Told, BoxError> {
    let told: Told = serde_json::from_slice(text)?;
    room.history().told(told.clone(), now());
    match told {
        Told::Refused(why) => Err(why.into()),
        told => Ok(told),
    }
}

fn text(ask: &Ask) -> String {
    serde_json::to_string(ask).expect("a question is JSON")
}

async fn within<T>(what: &str, it: impl Future<Output = T>) -> io::Result<T> {
    let timed = tokio::time::timeout(PATIENCE, it).await;
    timed.map_err(|_| io::Error::other(format!("no {what} within {PATIENCE:?}")))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
