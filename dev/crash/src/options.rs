//! The command line.

use std::path::PathBuf;

use partykit::storage::rig::Planted;

use crate::{Fault, Life, ModelPlan, Plan, Storing, Violation};

/// How many operations the model does if it is not told.
const OPERATIONS: u64 = 30_000;

/// How many operations a control of the model has to be found within.
const LONG: u64 = 300_000;

/// How many kills a control has to be found within.
const PATIENCE: u32 = 40;

/// The faults inside of the store that kills show.
const PLANTED: [Planted; 8] = [
    Planted::NoDeletes,
    Planted::EarlyRemove,
    Planted::NoSync,
    Planted::AckSync,
    Planted::DropLast,
    Planted::NoDirSync,
    Planted::NoClear,
    Planted::ClearTwice,
];

/// What it takes.
pub const HELP: &str = "\
partykit-crash [--kills N] [--hand-overs] [--power-loss] [--relaxed] [--fault FAULT] [--seed N]
partykit-crash controls [--seed N]
partykit-crash model [--operations N] [--fault FAULT] [--seed N]
partykit-crash serve DIRECTORY [--relaxed] [--fault FAULT] [--port PORT]
partykit-crash life DIRECTORY --operations N --seed N [--fault FAULT]
partykit-crash scribe SCRIPT
partykit-crash alarms [--alarms N] [--seconds N] [--fault early-removal] [--seed N]
partykit-crash schedules [--rooms N] [--seconds N] [--fault early-removal] [--seed N]
partykit-crash history [--listeners N] [--rate N] [--seconds N] [--sleeps N] [--kills N] [--beside] [--forgets]
               [--seed N]
partykit-crash faults [--all | --sample N] [--kind KIND] [--forgets] [--seed N]

  --kills N       how often the server is killed; default: 15
  --hand-overs    the server hands over to the next process while clients work, and one of the two is killed
                  at any moment; --fault droplast, which only the next process has, has to be found
  --power-loss    what was not synced is lost, too; the shim tests itself first
  --relaxed       the server does not sync; together with --power-loss it has to fail
  --fault FAULT   the server's store gets something wrong: early-frames, split-batch, early-removal,
                  stale-copy, nodeletes, earlyremove, nosync, acksync, droplast, nodirsync, noclear or
                  cleartwice;
                  has to fail, the three about syncs under a power loss
  --seed N        decides about the moments; default: another one each time
  --operations N  how many operations the model does; default: 30,000
  controls        what has to fail, and fails if it does not
  model           compares the store with a model, all the time; besides those inside of the store it
                  finds the faults hiddenwake and forgottenpast
  alarms          the alarms of 10,000 rooms ring (--alarms) while the server is killed every 50 to
                  1,000 ms for 180 s (--seconds); --fault early-removal has to be found
  schedules       1,000 rooms (--rooms) run ten schedules each while the server is killed every 100 to
                  1,500 ms for 60 s (--seconds); --fault early-removal has to be found
  history         50 listeners (--listeners) behind a proxy that cuts each every 2 to 5 s hear 200 messages a
                  second (--rate) for 60 s (--seconds), while the room is put to sleep 10 times (--sleeps) and
                  the server is killed twice (--kills); --beside: the same with socket.io 4.8's connection state
                  recovery, without kills and with them; --forgets: our server keeps its messages in memory, which
                  has to be found
  faults          each operation on a file fails in turn, --all of them or a sample (default: 120);
                  --forgets: the store does not read back what a failed one has left, which has to be found";

/// What a process is to do.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "main does them all")]
pub enum Command {
    /// Kills and checks.
    Run(Plan),
    /// Runs everything that has to fail.
    Controls {
        /// What decides about the moments.
        seed: u64,
    },
    /// Compares the store with a model.
    Model(ModelPlan),
    /// Is a process of that.
    Life(Life),
    /// Is the server.
    Serve(Storing),
    /// Is the process of the shim's tests.
    Scribe(String),
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// What is wrong with them, in words.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter().peekable();
    let command = arguments.next_if(|first| !first.starts_with('-'));
    let mut value = |what: &str| arguments.next().ok_or_else(|| format!("{what} is missing"));
    let (mut data, mut plan) = (None, Plan::new(fastrand::u64(..)));
    let (mut operations, mut port) = (OPERATIONS, None);
    match command.as_deref() {
        None | Some("controls" | "model") => {}
        Some("serve" | "life") => data = Some(PathBuf::from(value("DIRECTORY")?)),
        Some("scribe") => return Ok(Command::Scribe(value("SCRIPT")?)),
        Some(other) => return Err(format!("there is no command {other}")),
    }
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match (argument.as_str(), command.as_deref()) {
            ("--relaxed", None | Some("serve")) => plan.relaxed = true,
            ("--fault", None | Some("serve" | "model" | "life")) => {
                plan.fault = Some(value()?.parse()?);
            }
            ("--operations", Some("model" | "life")) => operations = number(&value()?)?,
            ("--seed", None | Some("controls" | "model" | "life")) => {
                plan.seed = number(&value()?)?;
            }
            ("--kills", None) => plan.kills = number(&value()?)?,
            ("--power-loss", None) => plan.power_loss = true,
            ("--hand-overs", None) => plan.hand_overs = true,
            ("--port", Some("serve")) => port = Some(number(&value()?)?),
            _ => return Err(format!("{argument} is not understood here")),
        }
    }
    if plan.hand_overs && (plan.power_loss || plan.relaxed) {
        return Err("hand-overs are tried without power losses".into());
    }
    Ok(match (command.as_deref(), data) {
        (Some("controls"), _) => Command::Controls { seed: plan.seed },
        (Some("model"), _) => {
            Command::Model(ModelPlan { operations, fault: plan.planted()?, seed: plan.seed })
        }
        (Some("life"), Some(data)) => {
            Command::Life(Life { data, operations, fault: plan.planted()?, seed: plan.seed })
        }
        (_, Some(data)) => {
            Command::Serve(Storing { data, relaxed: plan.relaxed, fault: plan.fault, port })
        }
        _ => Command::Run(plan),
    })
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is not such a number"))
}

impl Plan {
    /// 15 kills, nothing wrong.
    pub fn new(seed: u64) -> Self {
        Self {
            kills: 15,
            hand_overs: false,
            power_loss: false,
            relaxed: false,
            fault: None,
            rooms: 16,
            streams: 24,
            seed,
        }
    }

    /// What has to fail: `Relaxed` under a power loss, and each fault.
    pub fn controls(seed: u64) -> Vec<Self> {
        let base = Self { kills: PATIENCE, ..Self::new(seed) };
        let fault = |fault: Fault| {
            let power_loss = matches!(
                fault,
                Fault::Planted(Planted::NoSync | Planted::AckSync | Planted::NoDirSync)
            );
            Self { fault: Some(fault), power_loss, ..base.clone() }
        };
        let planted = PLANTED.map(Fault::Planted);
        let faults = Fault::ALL.into_iter().chain(planted).map(fault);
        let relaxed = Self { relaxed: true, power_loss: true, ..base.clone() };
        let droplast = Some(Fault::Planted(Planted::DropLast));
        let hand_overs = Self { fault: droplast, hand_overs: true, ..base.clone() };
        [relaxed, hand_overs].into_iter().chain(faults).collect()
    }
}

impl ModelPlan {
    /// What has to be found.
    pub fn controls(seed: u64) -> Vec<Self> {
        let faults = [Planted::HiddenWake, Planted::ForgottenPast, Planted::NoClear];
        faults.map(|fault| Self { operations: LONG, fault: Some(fault), seed }).to_vec()
    }
}

impl Plan {
    /// A fault that the model is told: it has nothing but a store.
    fn planted(&self) -> Result<Option<Planted>, String> {
        match self.fault {
            None => Ok(None),
            Some(Fault::Planted(planted)) => Ok(Some(planted)),
            Some(other) => Err(format!("{other} is not inside of the store")),
        }
    }

    /// Whether this shows a control's fault. Without a fault no promise is broken, so each broken one shows it:
    /// which one is chance. A server that does not open its store shows only a fault that damages files.
    pub fn asks_for(&self, violation: &Violation) -> bool {
        match violation {
            Violation::Unserved(_) => matches!(
                self.fault,
                Some(Fault::Planted(planted)) if !matches!(planted, Planted::NoDeletes | Planted::NoClear)
            ),
            _ => true,
        }
    }
}

impl Storing {
    /// The arguments of `serve`.
    pub(crate) fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments = vec![self.data.clone().into()];
        if self.relaxed {
            arguments.push("--relaxed".into());
        }
        if let Some(fault) = self.fault {
            arguments.extend(["--fault".into(), fault.to_string().into()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["--port".into(), port.to_string().into()]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_understood() {
        let Ok(Command::Run(plan)) = parsed("--kills 200 --power-loss --seed 7") else {
            panic!("a plan");
        };
        assert!((plan.kills, plan.power_loss, plan.seed) == (200, true, 7) && !plan.relaxed);
        assert!(matches!(parsed("--hand-overs"), Ok(Command::Run(plan)) if plan.hand_overs));
        assert!(matches!(parsed("controls --seed 3"), Ok(Command::Controls { seed: 3 })));
        let Ok(Command::Model(plan)) = parsed("model --operations 9 --fault noclear") else {
            panic!("a plan");
        };
        assert!(plan.operations == 9 && plan.fault == Some(Planted::NoClear));
    }

    #[test]
    fn a_server_is_told_what_the_plan_says() {
        let storing = Storing {
            data: "some/where".into(),
            relaxed: true,
            fault: Some(Fault::SplitBatch),
            port: Some(1999),
        };
        let arguments = storing.arguments().into_iter().map(|it| it.into_string().unwrap());
        let Ok(Command::Serve(understood)) =
            parse(["serve".to_owned()].into_iter().chain(arguments))
        else {
            panic!("a server");
        };
        assert_eq!(understood.data, storing.data);
        assert!(understood.relaxed && understood.fault == storing.fault);
        assert_eq!(understood.port, storing.port);
    }

    #[test]
    fn nonsense_is_refused() {
        let nonsense = ["cake", "serve", "scribe", "--kills", "--kills many", "--fault cake"];
        for line in nonsense.into_iter().chain([
            "controls --kills 3",
            "serve here --seed 1",
            "serve here --port 70000",
            "--port 1999",
            "--hand-overs --power-loss",
            "model --kills 3",
            "model --fault split-batch",
        ]) {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
