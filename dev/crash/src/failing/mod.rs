//! Every operation on a file fails, one after another: what the store then says and has.
//!
//! A short life with many rotations, flushes and merges ([`short_life`]) runs once to count its operations,
//! by kind; then once more for each of them, which fails. It goes on, is killed after the first failure, or
//! loses power there. Afterwards nothing fails any more, and the store has to open with every commit that
//! was acknowledged, and no half of any other.

mod judge;
mod life;

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use partykit::BoxError;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    Loss,
    arguments::{Arguments, unknown},
    power::{Power, shim},
};

use judge::History;
pub use life::short_life;

/// How long a life may take until it counts as one that waits for ever: far longer than any does.
const PATIENCE: Duration = Duration::from_secs(120);

/// What fails, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure {
    error: &'static str,
    /// 0 is for ever.
    count: u64,
}

/// The ways in which an operation fails: not done, done nevertheless, for a while, for ever, or by half.
const FAILURES: [Failure; 8] = [
    Failure { error: "EIO", count: 1 },
    Failure { error: "EIO+", count: 1 },
    Failure { error: "ENOSPC", count: 3 },
    Failure { error: "EACCES", count: 0 },
    Failure { error: "EINTR", count: 1 },
    Failure { error: "EIO", count: 2 },
    Failure { error: "SHORT", count: 1 },
    Failure { error: "EMFILE", count: 1 },
];

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The life goes on to its end.
    GoesOn,
    /// The process is killed when a commit has failed, or at the end.
    IsKilled,
    /// The same, and what was not synced is lost.
    LosesPower,
}

const THEN: [Then; 3] = [Then::GoesOn, Then::IsKilled, Then::LosesPower];

/// What a run of lives is to do.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the command line makes it")]
pub struct Lives {
    /// How many of the cases are tried; `None`: all.
    pub sample: Option<usize>,
    /// The kind of operation that fails; `None`: each.
    pub kind: Option<String>,
    /// The store does not read back what a failed operation has left, as in former times: has to be found.
    pub forgets: bool,
    /// What decides about the sample.
    pub seed: u64,
}

/// A case: the `first` operation of a kind fails like this, and then that follows.
#[derive(Clone, Debug)]
struct Case {
    kind: String,
    first: u64,
    failure: Failure,
    then: Then,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, first, failure, then } = self;
        write!(f, "{kind} {} {first} {}, {then:?}", failure.error, failure.count)
    }
}

impl Lives {
    /// Reads the arguments behind `faults`.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut lives =
            Self { sample: Some(120), kind: None, forgets: false, seed: fastrand::u64(..) };
        let mut rest = Arguments::new(arguments);
        while let Some(name) = rest.name() {
            match name {
                "--all" => lives.sample = None,
                "--forgets" => lives.forgets = true,
                "--sample" => lives.sample = Some(rest.value(name)?),
                "--kind" => lives.kind = Some(rest.value(name)?),
                "--seed" => lives.seed = rest.value(name)?,
                _ => return Err(unknown(name)),
            }
        }
        Ok(lives)
    }
}

/// Runs the lives, and says what was broken: the cases, each with what is wrong.
///
/// # Errors
///
/// When nothing can be said, because the life without failures fails.
pub async fn lives(plan: &Lives) -> Result<Vec<String>, BoxError> {
    let place = tempfile::tempdir()?;
    let counts = count(plan, place.path()).await?;
    println!("{counts:?}");
    let mut cases = Vec::new();
    for (kind, count) in &counts {
        if plan.kind.as_ref().is_some_and(|only| only != kind) {
            continue;
        }
        for first in 1..=*count {
            for (failure, then) in FAILURES.iter().flat_map(|one| THEN.map(|then| (*one, then))) {
                // What is forgotten shows when an error is followed by a restart.
                let shows = failure == FAILURES[0] && then == Then::IsKilled;
                if (failure.error != "SHORT" || kind == "write") && (shows || !plan.forgets) {
                    cases.push(Case { kind: kind.clone(), first, failure, then });
                }
            }
        }
    }
    let all = cases.len();
    let mut random = fastrand::Rng::with_seed(plan.seed);
    if let Some(sample) = plan.sample {
        // As many of each kind, however often it occurs.
        let mut by_kind: BTreeMap<String, Vec<Case>> = BTreeMap::new();
        random.shuffle(&mut cases);
        for case in cases {
            by_kind.entry(case.kind.clone()).or_default().push(case);
        }
        let each = sample.div_ceil(by_kind.len().max(1));
        cases = by_kind.into_values().flat_map(|of| of.into_iter().take(each)).collect();
    }
    println!("{} of {all} cases, seed {}", cases.len(), plan.seed);
    let (mut broken, mut refused) = (Vec::new(), 0);
    for (number, case) in cases.iter().enumerate() {
        let data = place.path().join(format!("case-{number}"));
        let judged = run(plan, case, &data, random.fork()).await;
        match judged {
            Ok(failed) => refused += usize::from(failed),
            Err(error) => {
                println!("BROKEN: {case}: {error}");
                broken.push(format!("{case}: {error}"));
                if plan.forgets {
                    return Ok(broken);
                }
            }
        }
        fs::remove_dir_all(&data)?;
    }
    println!(
        "{} lives, {refused} of them with refused commits, {} broken",
        cases.len(),
        broken.len()
    );
    if refused == 0 && cases.len() > 50 {
        return Err("no commit was ever refused: nothing has failed".into());
    }
    Ok(broken)
}

/// A life without failures: how many operations of each kind it has.
async fn count(plan: &Lives, place: &Path) -> Result<BTreeMap<String, u64>, BoxError> {
    let (disk, log) = (place.join("counted"), place.join("operations"));
    fs::create_dir(&disk)?;
    let mut child = command(plan, &disk, Then::GoesOn)?;
    child.env("PARTYKIT_FAULT_LOG", &log);
    let history = watch(child, &mut History::default()).await?;
    if history.refused() > 0 || !history.has_ended() {
        return Err("the life fails without a failure".into());
    }
    history.judge(&disk.join("data")).await?;
    let mut counts = BTreeMap::new();
    for kind in fs::read_to_string(&log)?.lines() {
        *counts.entry(kind.to_owned()).or_insert(0) += 1;
    }
    Ok(counts)
}

/// One case. Whether a commit was refused in it.
async fn run(
    plan: &Lives,
    case: &Case,
    data: &Path,
    random: fastrand::Rng,
) -> Result<bool, BoxError> {
    let (disk, log) = (data.join("disk"), data.join("power.log"));
    fs::create_dir_all(&disk)?;
    let mut child = command(plan, &disk, case.then)?;
    let power = match case.then {
        Then::LosesPower => Some(Power::on(&shim()?, &disk, &log)?),
        _ => None,
    };
    if let Some(power) = &power {
        child.envs(power.environment());
    }
    let Failure { error, count } = case.failure;
    child.env("PARTYKIT_FAULT", format!("{} {error} {} {count}", case.kind, case.first));
    let mut history = History::default();
    let history = watch(child, &mut history).await?;
    if let Some(power) = power {
        let mut random = random;
        power.off(if random.bool() { Loss::Everything } else { Loss::Something(random) })?;
    }
    history.judge(&disk.join("data")).await?;
    Ok(history.refused() > 0)
}

fn command(plan: &Lives, disk: &Path, then: Then) -> Result<Command, BoxError> {
    let program: PathBuf = env::current_exe()?;
    let mut command = Command::new(program);
    command.arg("short-life").arg(disk.join("data"));
    if then != Then::GoesOn {
        command.arg("--dies");
    }
    if plan.forgets {
        command.arg("--forgets");
    }
    command.env("LD_PRELOAD", shim()?).env("PARTYKIT_FAULT_DIR", disk);
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    Ok(command)
}

/// Reads what a life says until its end, which it may ask for.
async fn watch(mut command: Command, history: &mut History) -> Result<History, BoxError> {
    let mut child = command.spawn()?;
    let out = child.stdout.take().ok_or("it has no output")?;
    let mut lines = BufReader::new(out).lines();
    let read = async {
        while let Some(line) = lines.next_line().await? {
            if line == "kill" {
                child.kill().await?;
                break;
            }
            history.hear(&line)?;
        }
        child.wait().await?;
        Ok::<_, BoxError>(())
    };
    timeout(PATIENCE, read).await.map_err(|_| "it waits for ever")??;
    Ok(std::mem::take(history))
}
