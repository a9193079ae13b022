//! The command line.

use std::path::PathBuf;

use crate::{measure::Sizes, report::Part, server::Kind};

pub(crate) const HELP: &str = "\
partykit-bench [--quick] [--check] [--only MEASURE] [--write FILE]
partykit-bench serve partykit|raw|tungstenite
partykit-bench serve rooms DIRECTORY
partykit-bench serve hostile PLACES [PORT]

  --quick         small sizes, for a look whether all of it works: no goal is meant for them
  --check         fail when a goal is missed
  --only MEASURE  crowd, storm, wake, memory, commits, churn, clear, backups, alarms or rooms; or one that is
                  no part of a run of all: workers, hostile; and readers, deaf, herd, each in a network of its own (unshare)
  --write FILE    write the report there too, as Markdown: Workers have a part of the file of their own";

/// What a process is to do.
#[derive(Debug)]
pub(crate) enum Command {
    Measure(Box<Plan>),
    Serve(Kind),
    /// Rooms in a store in this directory.
    ServeRooms(PathBuf),
    /// What hostile clients attack, with so many places, at this port.
    ServeHostile(usize, u16),
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

/// What is no part of a run of all.
const APART: [&str; 5] = ["workers", "hostile", "readers", "deaf", "herd"];

impl Plan {
    pub(crate) fn takes(&self, measure: &str) -> bool {
        self.only.as_deref().map_or(!APART.contains(&measure), |only| only == measure)
    }

    /// Whether it needs a network of its own, where the kernel counts for nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        ["readers", "deaf", "herd"].iter().any(|measure| self.takes(measure))
    }

    /// What the report is of.
    pub(crate) fn part(&self) -> Part {
        if self.takes("workers") { Part::Workers } else { Part::Tokio }
    }
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// What is wrong with them, in words.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut quick, mut check, mut only, mut write) = (false, false, None, None);
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
                let known = Kind::SERVED.into_iter().find(|known| known.name() == kind);
                let known = known.ok_or_else(|| format!("there is no server {kind}"))?;
                return Ok(Command::Serve(known));
            }
            "--quick" => quick = true,
            "--check" => check = true,
            "--only" => only = Some(measure(value()?)?),
            "--write" => write = Some(PathBuf::from(value()?)),
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    if quick && (check || write.is_some()) {
        return Err("the figures of --quick are neither to be checked nor to be kept".into());
    }
    let sizes = if quick { Sizes::QUICK } else { Sizes::FULL };
    Ok(Command::Measure(Box::new(Plan { sizes, only, quick, check, write })))
}

fn measure(name: String) -> Result<String, String> {
    match name.as_str() {
        "crowd" | "storm" | "wake" | "memory" | "commits" | "churn" | "clear" | "backups"
        | "alarms" | "rooms" => Ok(name),
        apart if APART.contains(&apart) => Ok(name),
        _ => Err(format!("there is no measure {name}")),
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
        assert!(matches!(parsed("serve hostile 9"), Ok(Command::ServeHostile(9, 0))));
        assert!(matches!(parsed("serve hostile 9 80"), Ok(Command::ServeHostile(9, 80))));
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
            "--only cake",
            "--write",
            "cake",
            "--quick --check",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
