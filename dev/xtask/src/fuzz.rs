//! Runs the fuzz targets for a while each.

use std::path::Path;

use crate::{
    command::{Command, Failure},
    report::{Outcome, Verdict},
};

/// Where the targets are, below the root.
const DIRECTORY: &str = "dev/fuzz/libfuzzer";

/// How long one target runs, in seconds, unless an argument says otherwise.
const SECONDS: u32 = 20;

/// Builds and runs every target. A crash is a failure, and the input that led to it is kept.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Outcome {
    let seconds = match arguments {
        [] => SECONDS,
        [seconds] => {
            seconds.parse().map_err(|_| Failure::new("usage: cargo xtask fuzz [SECONDS]"))?
        }
        _ => return Err(Failure::new("usage: cargo xtask fuzz [SECONDS]")),
    };
    let cargo = |command: &str| {
        let line = format!("cargo +nightly fuzz {command} --fuzz-dir {DIRECTORY}");
        Command::new(root, &line)
    };
    let targets = cargo("list").read()?;
    cargo("build").run()?;
    let mut ran = 0;
    for target in targets.lines() {
        let run = cargo("run").arg(target).arg("--");
        // Also ends an input that makes the target hang, or eat memory.
        let run = run.arg(&format!("-max_total_time={seconds}")).arg("-timeout=10");
        let log = run.arg("-rss_limit_mb=1024").arg("-print_final_stats=1").log()?;
        match executions(&log) {
            Some(0) | None => return Err(Failure::new(format!("{target} did nothing"))),
            Some(executions) => println!("  {target}: {executions} executions, no crash"),
        }
        ran += 1;
    }
    match ran {
        0 => Err(Failure::new(format!("{DIRECTORY} has no targets"))),
        _ => Ok(Verdict::Passed),
    }
}

/// How often libFuzzer says that it ran the target.
fn executions(log: &str) -> Option<u64> {
    let count =
        log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_executions_is_read() {
        let log = "Done 7 runs in 1 second(s)\nstat::number_of_executed_units: 4711\nstat::x: 1\n";
        assert_eq!(executions(log), Some(4711));
        assert_eq!(executions("Done 7 runs in 1 second(s)\n"), None);
    }
}
