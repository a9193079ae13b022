//! Listeners whose connections are cut all the time hear every message of a publisher, once and in order: through a
//! proxy that cuts each after a while, while the room is put to sleep and the server is killed. socket.io's recovery
//! can be run beside.

mod client;
mod proxy;
mod server;
mod socket_io;

use std::{
    env, fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use partykit::BoxError;
use tokio::{task::JoinSet, time::sleep};

pub use server::logs;

use client::{Desk, Heard, Listener, Publisher};
use proxy::Proxy;

use crate::{
    arguments::{Arguments, unknown},
    desk::told,
    process::Process,
};

/// The party, and its room.
const PARTY: &str = "log";
const ROOM: &str = "room";

/// How long a connection lives, in milliseconds.
const LIFE: std::ops::Range<u64> = 2_000..5_000;

/// How long it may take at the end until everybody has everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the command line makes it")]
pub struct Recovery {
    /// How many listeners there are. Default: 50.
    pub listeners: usize,
    /// How many messages a second are published. Default: 200.
    pub rate: u64,
    /// For how long. Default: 60 s.
    pub seconds: u64,
    /// How often the room is put to sleep. Default: 10.
    pub sleeps: u32,
    /// How often the server is killed. Default: 2.
    pub kills: u32,
    /// The server keeps its messages in memory, which has to be found.
    pub forgets: bool,
    /// socket.io is run beside.
    pub beside: bool,
    /// What decides about the moments.
    pub seed: u64,
}

/// Whose server and clients run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "main runs them all")]
pub enum Whose {
    /// A room with a history.
    Ours,
    /// socket.io 4.8 with connection state recovery. It has no sleep.
    SocketIo,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// How many messages were published, and how often one was heard by a listener.
    pub published: u64,
    /// See `published`.
    pub heard: u64,
    /// How many connections the proxy has cut.
    pub cuts: u64,
    /// How often the room was put to sleep.
    pub sleeps: u32,
    /// How often the server was killed.
    pub kills: u32,
    /// How often a listener did not hear a message before it heard a later one, or at all.
    pub lost: u64,
    /// How often a listener heard a message that it had heard.
    pub doubled: u64,
    /// How often a listener heard a message behind a later one, for the first time.
    pub disordered: u64,
    /// How often a listener was told that it has missed something.
    pub gaps: u64,
}

impl Recovery {
    /// Reads the arguments behind `history`.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut plan = Self {
            listeners: 50,
            rate: 200,
            seconds: 60,
            sleeps: 10,
            kills: 2,
            forgets: false,
            beside: false,
            seed: fastrand::u64(..),
        };
        let mut rest = Arguments::new(arguments);
        while let Some(name) = rest.name() {
            match name {
                "--listeners" => plan.listeners = rest.value(name)?,
                "--rate" => plan.rate = rest.value::<u64>(name)?.max(1),
                "--seconds" => plan.seconds = rest.value(name)?,
                "--sleeps" => plan.sleeps = rest.value(name)?,
                "--kills" => plan.kills = rest.value(name)?,
                "--seed" => plan.seed = rest.value(name)?,
                "--forgets" => plan.forgets = true,
                "--beside" => plan.beside = true,
                _ => return Err(unknown(name)),
            }
        }
        Ok(plan)
    }
}

impl Recovered {
    /// Whether each listener heard everything, once and in order.
    pub fn is_whole(&self) -> bool {
        self.lost + self.doubled + self.disordered + self.gaps == 0
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, heard, cuts, sleeps, kills, lost, doubled, disordered, gaps } = self;
        writeln!(
            f,
            "{published} messages, heard {heard} times; {cuts} cuts, {sleeps} sleeps, {kills} kills"
        )?;
        write!(f, "{lost} lost, {doubled} doubled, {disordered} out of order, {gaps} gaps told")
    }
}

/// Where the server listens now.
type Place = Arc<Mutex<SocketAddr>>;

/// Does it.
///
/// # Errors
///
/// When nothing can be said: a server does not start, or nothing was cut.
pub async fn recover(plan: &Recovery, whose: Whose) -> Result<Recovered, BoxError> {
    let stage = Stage { place: tempfile::tempdir()?, whose, forgets: plan.forgets };
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let (mut server, address) = stage.start().await?;
    let place: Place = Arc::new(Mutex::new(address));
    let proxy = Proxy::start(place.clone(), random.fork()).await?;
    let total = plan.rate * plan.seconds;
    let mut listeners = JoinSet::new();
    let heard: Vec<Heard> = (0..plan.listeners).map(|_| Heard::default()).collect();
    let _clients = match whose {
        Whose::SocketIo => Some(socket_io::listen(&proxy.place(), heard.clone())?),
        Whose::Ours => {
            for (number, heard) in heard.iter().enumerate() {
                listeners.spawn(Listener::new(number, proxy.place(), heard.clone()).run());
            }
            None
        }
    };
    let begun = Instant::now();
    while heard.iter().any(|heard| !heard.has_begun()) && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20)).await;
    }
    let desk = Desk::default();
    let mut publishing = match whose {
        Whose::SocketIo => {
            tokio::spawn(socket_io::publish(place.clone(), plan.rate, total, desk.clone()))
        }
        Whose::Ours => {
            tokio::spawn(Publisher::new(place.clone(), plan.rate, total, desk.clone()).run())
        }
    };

    let mut found = Recovered { published: total, ..Recovered::default() };
    let sleeps = if whose == Whose::Ours { plan.sleeps } else { 0 };
    let steps = sleeps + plan.kills;
    let pause = Duration::from_secs(plan.seconds) / (steps + 1);
    for step in 1..=steps {
        sleep(pause).await;
        // Kills are spread among the sleeps.
        if step * plan.kills / steps > found.kills {
            server.kill().await?;
            found.kills += 1;
            let (next, address) = stage.start().await?;
            server = next;
            *lock(&place) = address;
        } else {
            desk.hold(true);
            let until = Instant::now() + PATIENCE;
            while !told::<bool>(address_of(&place), "/sleep", ROOM).await? {
                if Instant::now() > until {
                    return Err("the room does not sleep".into());
                }
            }
            desk.hold(false);
            found.sleeps += 1;
        }
    }
    tokio::time::timeout(PATIENCE + Duration::from_secs(plan.seconds), &mut publishing)
        .await
        .map_err(|_| format!("only {} messages were confirmed", desk.confirmed()))??;
    let begun = Instant::now();
    while heard.iter().any(|heard| heard.last() < total) && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20)).await;
    }
    listeners.abort_all();
    server.kill().await?;
    found.cuts = proxy.cuts();
    for heard in &heard {
        heard.add_to(&mut found, total);
    }
    if found.cuts < plan.listeners as u64 || found.heard == 0 {
        return Err(format!("too little was cut, or heard: this says nothing\n{found}").into());
    }
    Ok(found)
}

/// Where servers run, one after the other.
struct Stage {
    place: tempfile::TempDir,
    whose: Whose,
    forgets: bool,
}

impl Stage {
    async fn start(&self) -> Result<(Process, SocketAddr), BoxError> {
        let command = match self.whose {
            Whose::SocketIo => socket_io::server()?,
            Whose::Ours => {
                let mut command = tokio::process::Command::new(env::current_exe()?);
                command.arg("log").arg(self.place.path().join("data"));
                command.args(self.forgets.then_some("--forgets"));
                command
            }
        };
        let mut server = Process::spawn(command, &self.place.path().join("server.log"))?;
        let address = server.listens().await?;
        Ok((server, address))
    }
}

fn address_of(place: &Place) -> SocketAddr {
    *lock(place)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_understood() {
        let parsed = |line: &str| {
            Recovery::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let plan = parsed("--listeners 5 --seconds 7 --kills 1 --forgets --beside").unwrap();
        assert_eq!((plan.listeners, plan.rate, plan.seconds, plan.kills), (5, 200, 7, 1));
        assert!(plan.forgets && plan.beside);
        assert!(
            parsed("--rate").is_err() && parsed("--rate many").is_err() && parsed("x").is_err()
        );
    }
}
