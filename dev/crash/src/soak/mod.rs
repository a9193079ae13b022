//! Thousands of alarms ring while the server is killed all the time, by SIGKILL and by handlers that end the
//! process. Afterwards it is left alone, and every alarm whose handler succeeds in the end must have rung:
//! never early, none lost, its effect stored once.

mod bell;
mod scenes;
mod server;
mod verdict;
mod witness;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use partykit::BoxError;
use tokio::time::{sleep, timeout};

pub use server::bells;

use bell::{Nature, Stored};
use server::Stage;
use verdict::Verdict;

use crate::{
    arguments::{Arguments, unknown},
    crowd::now,
    desk::{told, told_of_each},
    process::{Process, last_words},
    server::Fault,
};

/// The party.
const BELL: &str = "bell";

/// How long a server lives, in milliseconds.
const LIFE: std::ops::Range<u64> = 50..1_000;

/// One life in this many is longer: alarms that have died are left alone for 2 s and more, and are to ring, and
/// to be killed, again.
const LONG: u8 = 12;
const LONG_LIFE: std::ops::Range<u64> = 2_500..5_000;

/// How long no alarm may come to its end when the server is left alone: the longest pause, and half of it.
const PATIENCE: Duration = Duration::from_secs(460);

/// One alarm in this many ends the process.
const POISONOUS: usize = 1_000;

/// What is done.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the command line makes it")]
pub struct Soak {
    /// How many rooms have an alarm. Default: 10,000.
    pub alarms: usize,
    /// For how long the server is killed. Default: 180 s.
    pub seconds: u64,
    /// What the store gets wrong, which has to be found.
    pub fault: Option<Fault>,
    /// What decides about the moments.
    pub seed: u64,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// The room of the alarm.
    pub room: String,
    /// What happened.
    pub how: String,
}

impl Soak {
    /// Reads the arguments behind `alarms`.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut soak = Self { alarms: 10_000, seconds: 180, fault: None, seed: fastrand::u64(..) };
        let mut rest = Arguments::new(arguments);
        while let Some(name) = rest.name() {
            match name {
                "--alarms" => soak.alarms = rest.value(name)?,
                "--seconds" => soak.seconds = rest.value(name)?,
                "--seed" => soak.seed = rest.value(name)?,
                "--fault" => match rest.value(name)? {
                    fault @ Fault::EarlyRemoval => soak.fault = Some(fault),
                    other => return Err(format!("{other} is not about alarms")),
                },
                _ => return Err(unknown(name)),
            }
        }
        Ok(soak)
    }

    /// The rooms, of which many are sound and quick.
    fn rooms(&self, random: &mut fastrand::Rng) -> (Vec<String>, Vec<String>) {
        let mut sound = Vec::new();
        for number in 0..self.alarms {
            let takes = if random.u8(..3) == 0 { random.u64(..=400) } else { 0 };
            let fails = if random.u8(..8) == 0 { random.u32(1..=2) } else { 0 };
            let laps = if random.u8(..4) == 0 { random.u32(2..=3) } else { 1 };
            let syncs = random.u8(..10) == 0;
            sound.push(Nature::Sound { number, takes, fails, laps, syncs }.to_string());
        }
        let some = self.alarms.div_ceil(POISONOUS);
        let poisonous = (0..some).map(|number| Nature::Poisonous { number }.to_string());
        (sound, poisonous.collect())
    }
}

/// Does it, prints what came of it, and says which promises were broken.
///
/// # Errors
///
/// When nothing can be said: a server does not start, or nothing has rung.
pub async fn soak(plan: &Soak) -> Result<Vec<Broken>, BoxError> {
    let mut found = Vec::new();
    if plan.fault.is_none() {
        found.extend(scenes::killed_in_the_handler().await?);
        found.extend(scenes::poison().await?);
    }
    let mut run = Run::new(plan)?;
    run.set_all().await?;
    run.kill_all_the_time().await?;
    let verdict = run.leave_alone().await?;
    println!("{verdict}");
    if !verdict.broken.is_empty() && plan.fault.is_none() {
        eprintln!("{}", last_words(&run.stage.log()));
    }
    if plan.fault.is_none() && (verdict.rings == 0 || run.kills == 0) {
        return Err("nothing was killed, or no alarm rang: this says nothing".into());
    }
    found.extend(verdict.broken);
    Ok(found)
}

struct Run<'a> {
    plan: &'a Soak,
    random: fastrand::Rng,
    stage: Stage,
    sound: Vec<String>,
    poisonous: Vec<String>,
    /// When each first alarm was set for.
    alarms: Vec<(String, u64)>,
    server: Option<Process>,
    kills: u32,
    aborts: u32,
    begun: u64,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Soak) -> Result<Self, BoxError> {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let (sound, poisonous) = plan.rooms(&mut random);
        Ok(Self {
            plan,
            random,
            stage: Stage::new(plan.fault)?,
            sound,
            poisonous,
            alarms: Vec::new(),
            server: None,
            kills: 0,
            aborts: 0,
            begun: 0,
        })
    }

    /// Sets all alarms, at moments in the first two thirds of the run.
    async fn set_all(&mut self) -> Result<(), BoxError> {
        let mut server = self.stage.start(&[])?;
        let address = server.listens().await?;
        // None of them rings before all are set: a poisonous one would end that.
        let begin = now() + 2_000 + self.plan.alarms as u64;
        let span = 1 + self.plan.seconds * 1_000 * 2 / 3;
        let rooms = self.sound.iter().chain(&self.poisonous);
        self.alarms = rooms.map(|room| (room.clone(), begin + self.random.u64(..span))).collect();
        told_of_each::<Stored>(address, "/set", &self.alarms).await?;
        let left = begin.saturating_sub(now());
        if left == 0 {
            return Err("this machine is too slow: alarms rang before all were set".into());
        }
        sleep(Duration::from_millis(left)).await;
        self.begun = begin;
        self.server = Some(server);
        Ok(())
    }

    async fn kill_all_the_time(&mut self) -> Result<(), BoxError> {
        let end = Instant::now() + Duration::from_secs(self.plan.seconds);
        while Instant::now() < end {
            let mut server = match self.server.take() {
                Some(server) => server,
                None => self.stage.start(&[])?,
            };
            let life = if self.random.u8(..LONG) == 0 { LONG_LIFE } else { LIFE };
            let life = Duration::from_millis(self.random.u64(life));
            match timeout(life, server.ended()).await {
                Ok(_) => self.aborts += 1,
                Err(_) => {
                    server.kill().await?;
                    self.kills += 1;
                }
            }
        }
        Ok(())
    }

    /// Parks the poisonous alarms as an operator does, and waits until all others have rung.
    async fn leave_alone(&mut self) -> Result<Verdict, BoxError> {
        let killed_until = now();
        let mut server = self.stage.start(&self.poisonous)?;
        let address = server.listens().await?;
        let (mut left, mut changed) = (usize::MAX, Instant::now());
        while left > 0 && changed.elapsed() < PATIENCE {
            if timeout(Duration::from_millis(100), server.ended()).await.is_ok() {
                return Err(format!("the server ended by itself: {left} alarms are left").into());
            }
            let pending = told::<usize>(address, "/pending", &()).await?;
            if pending != left {
                (left, changed) = (pending, Instant::now());
            }
        }
        let verdict = self.judge(address, killed_until).await?;
        server.kill().await?;
        Ok(verdict)
    }

    async fn judge(&self, address: SocketAddr, killed_until: u64) -> Result<Verdict, BoxError> {
        // Before any room is started by a question.
        let poisonous: Vec<Option<(bool, u32)>> =
            told_of_each(address, "/alarms", &self.poisonous).await?;
        let stored: Vec<Stored> = told_of_each(address, "/stored", &self.sound).await?;
        let lines = witness::read(&self.stage.witness())?;
        let mut verdict = Verdict::new(self.alarms.len(), self.begun, killed_until);
        (verdict.kills, verdict.aborts) = (self.kills, self.aborts);
        for (stored, (room, at)) in stored.iter().zip(&self.alarms) {
            verdict.sound(room, *at, stored);
        }
        for (alarm, room) in poisonous.iter().zip(&self.poisonous) {
            verdict.poisonous(room, *alarm, &lines);
        }
        verdict.broken.extend(witness::early(&lines));
        verdict.attempts = lines.len();
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Soak, String> {
        Soak::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_understood() {
        let soak = parsed("--alarms 300 --seconds 5 --seed 7 --fault early-removal").unwrap();
        assert_eq!((soak.alarms, soak.seconds, soak.seed), (300, 5, 7));
        assert_eq!(soak.fault, Some(Fault::EarlyRemoval));
        for line in ["--alarms", "--alarms many", "--fault early-frames", "cake"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_few_rooms_of_a_plan_are_poisonous() {
        let plan = parsed("--alarms 1500").unwrap();
        let (sound, poisonous) = plan.rooms(&mut fastrand::Rng::with_seed(1));
        assert_eq!((sound.len(), poisonous.len()), (1_500, 2));
        assert!(sound.iter().all(|room| room.parse::<Nature>().is_ok()));
    }
}
