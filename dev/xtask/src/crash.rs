//! The step `crash`: servers and stores that are killed, and judges of what they kept.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{
    command::{Command, Failure},
    report::{Outcome, Verdict},
    steps::{build_programs, built, words},
    tools, yjs,
};

/// What the step runs, the longest first. What has to be found is tried too: a checker that finds nothing
/// shows nothing.
const LINES: [&str; 13] = [
    "faults --sample 60",
    "controls",
    "--hand-overs",
    "--power-loss",
    "",
    "faults --forgets --kind dirsync --sample 104",
    "model",
    "schedules --rooms 50 --seconds 10",
    "alarms --alarms 300 --seconds 5",
    "history --listeners 20 --seconds 8 --sleeps 3 --kills 1",
    "history --listeners 20 --seconds 8 --sleeps 40 --kills 0 --forgets",
    "schedules --rooms 50 --seconds 10 --fault early-removal",
    "alarms --alarms 300 --seconds 5 --fault early-removal",
];

/// This many lines run at once: most of them wait most of the time.
const LANES: usize = 2;

/// Runs all lines, and says of each that failed why.
pub(crate) fn step(root: &Path) -> Outcome {
    build_programs(root)?;
    let lines = Mutex::new(LINES.into_iter());
    let next = || lines.lock().unwrap_or_else(PoisonError::into_inner).next();
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(line) = next() {
                    if let Err(failure) =
                        told(root, line.split_whitespace()).and_then(Command::apart).map(drop)
                    {
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.push(failure.to_string());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failures.is_empty() {
        return Ok(Verdict::Passed);
    }
    Err(Failure::new(failures.join("\n")))
}

/// `cargo xtask crash` with arguments.
pub(crate) fn as_told(root: &Path, arguments: &[String]) -> Outcome {
    if let ["yjs", rest @ ..] = &*words(arguments) {
        return yjs::crash(root, rest);
    }
    if arguments.iter().any(|argument| argument == "--beside") {
        tools::install_socket_io(root)?;
    }
    build_programs(root)?;
    told(root, arguments.iter().map(String::as_str))?.run()?;
    Ok(Verdict::Passed)
}

fn told<'a>(root: &Path, arguments: impl Iterator<Item = &'a str>) -> Result<Command, Failure> {
    let program = built("partykit-crash", "partykit-crash")?;
    Ok(arguments.fold(Command::built(root, &program), Command::arg))
}
