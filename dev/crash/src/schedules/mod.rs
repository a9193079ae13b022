//! Many rooms with ten schedules each run them while the server is killed all the time. Afterwards it is left
//! alone. Then each occurrence must have run, or be counted as missed by the run that came after it: none lost,
//! none early, none stored twice, and each room has the schedules that it set, and no more.

mod judge;
mod server;

use std::{
    env, io,
    time::{Duration, Instant},
};

use partykit::BoxError;
use tokio::time::{sleep, timeout};

pub use server::timetables;

use judge::Verdict;
use server::Stored;

use crate::{
    arguments::{Arguments, unknown},
    crowd::now,
    desk::{told, told_of_each},
    process::{Process, last_words},
    server::Fault,
};

/// How long a server lives, in milliseconds.
const LIFE: std::ops::Range<u64> = 100..1_500;

/// One life in this many is longer, so that runs that have died are tried again.
const LONG: u8 = 10;
const LONG_LIFE: std::ops::Range<u64> = 2_500..5_000;

/// For how long the server is left alone, at least: schedules that failed or died run again meanwhile.
const REST: Duration = Duration::from_secs(10);

/// How long what runs once may take until it has run.
const PATIENCE: Duration = Duration::from_secs(460);

/// What is done.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the command line makes it")]
pub struct Timetables {
    /// How many rooms have ten schedules each. Default: 1,000.
    pub rooms: usize,
    /// For how long the server is killed. Default: 60 s.
    pub seconds: u64,
    /// What the store gets wrong, which has to be found.
    pub fault: Option<Fault>,
    /// What decides about the moments.
    pub seed: u64,
}

impl Timetables {
    /// Reads the arguments behind `schedules`.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut plan = Self { rooms: 1_000, seconds: 60, fault: None, seed: fastrand::u64(..) };
        let mut rest = Arguments::new(arguments);
        while let Some(name) = rest.name() {
            match name {
                "--rooms" => plan.rooms = rest.value(name)?,
                "--seconds" => plan.seconds = rest.value(name)?,
                "--seed" => plan.seed = rest.value(name)?,
                "--fault" => match rest.value(name)? {
                    fault @ Fault::EarlyRemoval => plan.fault = Some(fault),
                    other => return Err(format!("{other} is not about schedules")),
                },
                _ => return Err(unknown(name)),
            }
        }
        Ok(plan)
    }
}

/// Does it, prints what came of it, and says which promises were broken.
///
/// # Errors
///
/// When nothing can be said: a server does not start, or nothing has run.
pub async fn run_timetables(plan: &Timetables) -> Result<Vec<String>, BoxError> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let place = tempfile::tempdir()?;
    let log = place.path().join("server.log");
    let start = || -> io::Result<Process> {
        let mut command = tokio::process::Command::new(env::current_exe()?);
        command.arg("timetables").arg(place.path().join("data"));
        command.args(plan.fault.map(|fault| fault.to_string()));
        Process::spawn(command, &log)
    };
    let rooms: Vec<String> = (0..plan.rooms).map(|number| format!("room-{number}")).collect();

    let mut server = start()?;
    let address = server.listens().await?;
    // What runs once does so in the first two thirds of the run, and not before all are set.
    let begin = now() + 2_000 + plan.rooms as u64 * 10;
    let span = 1 + plan.seconds * 1_000 * 2 / 3;
    let plans: Vec<_> =
        rooms.iter().map(|room| (room, begin + random.u64(..span), random.u64(..))).collect();
    told_of_each::<Stored>(address, "/set", &plans).await?;
    let (mut kills, end) = (0, Instant::now() + Duration::from_secs(plan.seconds));
    let mut running = Some(server);
    while Instant::now() < end {
        let server = match running.take() {
            Some(server) => server,
            None => start()?,
        };
        let life = if random.u8(..LONG) == 0 { LONG_LIFE } else { LIFE };
        sleep(Duration::from_millis(random.u64(life))).await;
        kills += u32::from(server.kill().await?);
    }

    let killed_until = now();
    let mut server = start()?;
    let address = server.listens().await?;
    let (alone, mut left) = (Instant::now(), usize::MAX);
    while alone.elapsed() < REST || left > 0 && alone.elapsed() < PATIENCE {
        if timeout(Duration::from_millis(500), server.ended()).await.is_ok() {
            return Err(format!("the server ended by itself: {}", last_words(&log)).into());
        }
        left = told(address, "/once", &rooms).await?;
    }
    let mut verdict = Verdict::new(plan.rooms, killed_until, kills);
    let stored: Vec<Stored> = told_of_each(address, "/stored", &rooms).await?;
    rooms.iter().zip(&stored).for_each(|(room, stored)| verdict.room(room, stored));
    server.kill().await?;
    println!("{verdict}");
    if plan.fault.is_none() && (verdict.runs < plan.rooms * 4 || kills == 0) {
        return Err("nothing was killed, or hardly a schedule ran: this says nothing".into());
    }
    Ok(verdict.broken)
}
