//! The command line.

use std::path::PathBuf;

use crate::{measure::Sizes, report::Part, server::Kind};

pub(crate) const HELP: &str = "\
partykit-bench [--quick] [--check] [--turns COUNT] [--only MEASURE] [--write FILE]
partykit-bench serve partykit|raw|tungstenite
partykit-bench serve rooms DIRECTORY
partykit-bench serve hostile PLACES [PORT]
partykit-bench serve handover DIRECTORY PORT

  --quick         small sizes, for a look whether all of it works: no goal is meant for them
  --check         fail when a goal is missed
  --turns COUNT   how often servers take turns, instead of 5, or 3 where only memory is read; five times as often for
                  the processor time of Workers
  --only MEASURE  sockets, or of these one: crowd, handshakes, allocations, storm, wake, memory, sleepers, tls;
                  storage, or of these one: commits, churn, clear, backups, alarms, rooms;
                  or one that is no part of a run of all: workers, hostile; beside (which
                  `cargo xtask bench --beside REVISION` prepares); handover; and readers, deaf, herd, each in a
                  network of its own (unshare)
  --write FILE    write the report there too, as Markdown: sockets, storage and Workers have each a part";

/// What a process is to do.
#[derive(Debug)]
pub(crate) enum Command {
    Measure(Box<Plan>),
    Serve(Kind),
    /// Rooms in a store in this directory.
    ServeRooms(PathBuf),
    /// What hostile clients attack, with this many places, at this port.
    ServeHostile(usize, u16),
    /// What is replaced while clients talk, with its data in this directory, at this port.
    ServeHandover(PathBuf, u16),
}

/// What is measured, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sizes: Sizes,
    /// The one measure to take; `None` is all that are not taken apart.
    pub(crate) only: Option<String>,
    /// The sizes are too small for the goals to mean anything.
    pub(crate) quick: bool,
    pub(crate) check: bool,
    pub(crate) write: Option<PathBuf>,
}

/// What is measured of sockets.
const SOCKETS: [&str; 8] =
    ["crowd", "handshakes", "allocations", "storm", "wake", "memory", "sleepers", "tls"];

/// What is measured of storage, and of rooms that have no connection.
const STORAGE: [&str; 6] = ["commits", "churn", "clear", "backups", "alarms", "rooms"];

/// What is no part of a run of all.
const APART: [&str; 7] = ["workers", "beside", "hostile", "handover", "readers", "deaf", "herd"];

impl Plan {
    pub(crate) fn takes(&self, measure: &str) -> bool {
        match self.only.as_deref() {
            None => !APART.contains(&measure),
            Some("sockets") => SOCKETS.contains(&measure),
            Some("storage") => STORAGE.contains(&measure),
            Some(only) => only == measure,
        }
    }

    /// Whether it needs a network of its own, where the kernel counts for nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        ["readers", "deaf", "herd"].iter().any(|measure| self.takes(measure))
    }

    /// What the reports are of.
    pub(crate) fn parts(&self) -> Vec<Part> {
        match self.only.as_deref() {
            None => vec![Part::Sockets, Part::Storage],
            Some("workers") => vec![Part::Workers],
            Some("beside") => vec![Part::Beside],
            Some(only) if only == "sockets" || SOCKETS.contains(&only) => vec![Part::Sockets],
            Some(_) => vec![Part::Storage],
        }
    }
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// What is wrong with them, in words.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut quick, mut check, mut turns, mut only, mut write) = (false, false, None, None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "serve" => {
                let kind = value()?;
                if kind == "rooms" {
                    return Ok(Command::ServeRooms(value()?.into()));
                }
                if kind == "hostile" {
                    let places = value()?.parse().map_err(|_| "no number of places")?;
                    let port = arguments.next().unwrap_or_else(|| "0".to_owned());
                    let port = port.parse().map_err(|_| "no port")?;
                    return Ok(Command::ServeHostile(places, port));
                }
                if kind == "handover" {
                    let directory = value()?.into();
                    let port = arguments.next().and_then(|port| port.parse().ok());
                    return Ok(Command::ServeHandover(directory, port.ok_or("no port")?));
                }
                let known = Kind::SERVED.into_iter().find(|known| known.name() == kind);
                let known = known.ok_or_else(|| format!("there is no server {kind}"))?;
                return Ok(Command::Serve(known));
            }
            "--quick" => quick = true,
            "--check" => check = true,
            "--turns" => turns = Some(count(&value()?)?),
            "--only" => only = Some(measure(value()?)?),
            "--write" => write = Some(PathBuf::from(value()?)),
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    if quick && (check || write.is_some()) {
        return Err("the figures of --quick are neither to be checked nor to be kept".into());
    }
    let mut sizes = if quick { Sizes::QUICK } else { Sizes::FULL };
    if let Some(turns) = turns {
        (sizes.turns, sizes.memory_turns, sizes.worker_memory_turns) = (turns, turns, turns);
        sizes.worker_cost_turns = 5 * turns;
    }
    Ok(Command::Measure(Box::new(Plan { sizes, only, quick, check, write })))
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("{text} is no number of turns")),
    }
}

fn measure(name: String) -> Result<String, String> {
    let is_known = ["sockets", "storage"].contains(&&*name)
        || [&SOCKETS[..], &STORAGE, &APART].iter().any(|group| group.contains(&&*name));
    if is_known { Ok(name) } else { Err(format!("there is no measure {name}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_understood() {
        assert!(matches!(parsed("serve raw"), Ok(Command::Serve(Kind::Raw))));
        let rooms = parsed("serve rooms here").unwrap();
        assert!(matches!(rooms, Command::ServeRooms(path) if *path == *"here"));
        let Ok(Command::Measure(plan)) = parsed("--check --only wake --write a.md") else {
            panic!("a plan");
        };
        assert!(plan.check && plan.takes("wake") && !plan.takes("storm"));
        assert_eq!(plan.write, Some(PathBuf::from("a.md")));
        let Ok(Command::Measure(all)) = parsed("") else { panic!("a plan") };
        assert!(all.takes("wake") && !all.takes("workers") && !all.takes("hostile"));
        assert_eq!(all.parts(), [Part::Sockets, Part::Storage]);
        let Ok(Command::Measure(sockets)) = parsed("--turns 2 --only sockets") else {
            panic!("a plan");
        };
        assert!(sockets.takes("tls") && !sockets.takes("commits"));
        assert_eq!((sockets.parts(), sockets.sizes.turns), (vec![Part::Sockets], 2));
        assert_eq!(sockets.sizes.worker_cost_turns, 10);
        assert!(matches!(parsed("serve hostile 9"), Ok(Command::ServeHostile(9, 0))));
        assert!(matches!(parsed("serve hostile 9 80"), Ok(Command::ServeHostile(9, 80))));
        let handover = parsed("serve handover here 80").unwrap();
        assert!(matches!(handover, Command::ServeHandover(path, 80) if *path == *"here"));
        let Ok(Command::Measure(herd)) = parsed("--only herd") else { panic!("a plan") };
        assert!(herd.is_alone() && !all.is_alone());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "serve",
            "serve cake",
            "serve rooms",
            "serve hostile cake",
            "serve hostile 9 cake",
            "serve handover",
            "serve handover here",
            "serve handover here cake",
            "--only cake",
            "--turns 0",
            "--turns cake",
            "--write",
            "cake",
            "--quick --check",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
