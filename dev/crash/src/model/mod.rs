//! A long random run of the store alone: rows, scans, claims and wake-ups of several rooms, compared with
//! a model at every step, while files are written and merged all the time, and while the process that has
//! the store is ended or killed, and started again.

mod life;
mod room;
mod versions;

use std::{
    env, fmt,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use partykit::{BoxError, storage::rig::Planted};

pub use life::live;

use self::room::ROOMS;

/// A run.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the command line makes it")]
pub struct ModelPlan {
    /// How many operations there are.
    pub operations: u64,
    /// What the store gets wrong.
    pub fault: Option<Planted>,
    /// What decides about the operations, though not about how those of different rooms meet.
    pub seed: u64,
}

/// One process of a run.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the command line makes it")]
pub struct Life {
    /// The directory of the store.
    pub data: PathBuf,
    /// How many operations it does before it ends.
    pub operations: u64,
    /// What the store gets wrong.
    pub fault: Option<Planted>,
    /// What decides about the operations.
    pub seed: u64,
}

/// What came of a run.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ModelReport {
    /// How many operations there were.
    pub operations: u64,
    /// How often the store was opened.
    pub lives: u64,
    /// How many of these ended by a kill.
    pub kills: u64,
    /// What the store got wrong.
    pub wrong: Option<String>,
}

/// How many operations a life has.
const LIFE: std::ops::Range<u64> = 200..20_000;

/// Does what the plan says, or stops at the first thing that is wrong.
///
/// # Errors
///
/// When nothing can be said: the processes cannot be started.
pub fn model(plan: &ModelPlan) -> Result<ModelReport, BoxError> {
    let place = tempfile::tempdir()?;
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut report = ModelReport::default();
    let mut rooms = vec![Known::default(); ROOMS];
    while report.operations < plan.operations && report.wrong.is_none() {
        let left = plan.operations - report.operations;
        let life = Life {
            data: place.path().join("data"),
            operations: random.u64(LIFE).min(left),
            fault: plan.fault,
            seed: random.u64(..),
        };
        // After how many commits it is killed: by turns one is killed and one ends, so that a short run has
        // both.
        let is_to_die = report.lives.is_multiple_of(2);
        let end = is_to_die.then(|| random.u64(..=life.operations / 40));
        report.lives += 1;
        watch(&life, end, &mut rooms, &mut report)?;
    }
    Ok(report)
}

/// What is known of a room: the states it may have, of which the first one is certain to be reached.
#[derive(Clone, Debug)]
struct Known(Vec<u64>);

impl Default for Known {
    fn default() -> Self {
        Self(vec![0])
    }
}

fn watch(
    life: &Life,
    end: Option<u64>,
    rooms: &mut [Known],
    report: &mut ModelReport,
) -> Result<(), BoxError> {
    let mut child = start(life)?;
    let out = child.stdout.take().ok_or("its output is piped")?;
    let (mut commits, mut is_killed, mut has_ended) = (0, false, false);
    for line in BufReader::new(out).lines() {
        let line = line?;
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match (word, number(), number()) {
            ("found", Some(room), Some(state)) => {
                let Known(states) = &mut rooms[room as usize];
                if !states.contains(&state) {
                    let how = format!("room {room} came back in a state that it cannot have");
                    report.wrong.get_or_insert(how);
                }
                *states = vec![state];
            }
            ("begins", Some(room), Some(state)) => rooms[room as usize].0.push(state),
            ("done", Some(room), Some(operations)) => {
                let Known(states) = &mut rooms[room as usize];
                states.drain(..states.len() - 1);
                report.operations += operations;
                commits += 1;
            }
            ("ends", Some(operations), _) => {
                report.operations += operations;
                has_ended = true;
            }
            _ => drop(report.wrong.get_or_insert_with(|| line.clone())),
        }
        if end == Some(commits) && !is_killed {
            child.kill()?;
            is_killed = true;
            report.kills += 1;
        }
        if report.wrong.is_some() {
            child.kill()?;
        }
    }
    let status = child.wait()?;
    let is_over = is_killed || (has_ended && status.success());
    if !is_over {
        report.wrong.get_or_insert_with(|| format!("the process ended by itself: {status}"));
    }
    Ok(())
}

fn start(life: &Life) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("life").arg(&life.data);
    command.args(["--operations", &life.operations.to_string()]);
    command.args(["--seed", &life.seed.to_string()]);
    if let Some(fault) = life.fault {
        command.args(["--fault", &fault.to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
}

impl fmt::Display for ModelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, lives, kills, wrong } = self;
        write!(f, "{operations} operations, {lives} lives, {kills} of them killed: ")?;
        f.write_str(wrong.as_deref().unwrap_or("nothing is wrong"))
    }
}
