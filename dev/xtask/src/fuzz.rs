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

const USAGE: &str = "usage: cargo xtask fuzz [SECONDS | --runs N] [--target NAME]";

/// What is run.
#[derive(Debug, PartialEq, Eq)]
struct Plan<'a> {
    /// libFuzzer's argument that ends a target.
    end: String,
    /// `None`: every target.
    target: Option<&'a str>,
}

impl<'a> Plan<'a> {
    fn parse(arguments: &'a [String]) -> Option<Self> {
        let mut plan = Self { end: format!("-max_total_time={SECONDS}"), target: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--target" => plan.target = Some(rest.next()?),
                "--runs" => plan.end = format!("-runs={}", rest.next()?.parse::<u64>().ok()?),
                seconds => plan.end = format!("-max_total_time={}", seconds.parse::<u32>().ok()?),
            }
        }
        Some(plan)
    }
}

/// Builds and runs the targets. A crash is a failure, and the input that led to it is kept.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Outcome {
    let plan = Plan::parse(arguments).ok_or_else(|| Failure::new(USAGE))?;
    let cargo = |command: &str| {
        let line = format!("cargo +nightly fuzz {command} --fuzz-dir {DIRECTORY}");
        Command::new(root, &line)
    };
    let targets = cargo("list").read()?;
    cargo("build").run()?;
    let mut ran = 0;
    for target in targets.lines().filter(|name| plan.target.is_none_or(|only| only == *name)) {
        let run = cargo("run").arg(target).arg("--").arg(&plan.end);
        // Also ends an input that makes the target hang, or eat memory.
        let run = run.arg("-timeout=10").arg("-rss_limit_mb=1024").arg("-print_final_stats=1");
        // What libFuzzer does for these takes as long as the targets themselves.
        let log = run.arg("-entropic=0").arg("-reduce_inputs=0").log()?;
        match executions(&log) {
            Some(0) | None => return Err(Failure::new(format!("{target} did nothing"))),
            Some(executions) => println!("  {target}: {executions} executions, no crash"),
        }
        ran += 1;
    }
    match ran {
        0 => Err(Failure::new(format!("{DIRECTORY} has no such target"))),
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
    fn arguments_are_understood() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (line, end, target) in [
            ("", "-max_total_time=20", None),
            ("7", "-max_total_time=7", None),
            ("--target document --runs 1000000", "-runs=1000000", Some("document")),
        ] {
            let plan = Plan { end: end.to_owned(), target };
            assert_eq!(Plan::parse(&words(line)), Some(plan), "{line}");
        }
        for line in ["many", "--runs", "--runs many", "--target"] {
            assert_eq!(Plan::parse(&words(line)), None, "{line}");
        }
    }

    #[test]
    fn the_count_of_executions_is_read() {
        let log = "Done 7 runs in 1 second(s)\nstat::number_of_executed_units: 4711\nstat::x: 1\n";
        assert_eq!(executions(log), Some(4711));
        assert_eq!(executions("Done 7 runs in 1 second(s)\n"), None);
    }
}
