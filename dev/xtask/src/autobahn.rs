//! The WebSocket conformance suite, Autobahn|Testsuite, against the echo example.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{self, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    command::{Command, Failure},
    report::{Outcome, Verdict},
    tools,
};

/// The version that `autobahn.sh` installs: another one gets another directory.
const VERSION: &str = "25.10.1";

/// How many cases this version has. A run of fewer is a failure.
const CASES: usize = 517;

/// Ends a run that hangs; one takes about 20 s.
const LIMIT: Duration = Duration::from_secs(600);

/// Bad UTF-8 that comes in parts is found at the end of a frame, not at the first byte that is wrong.
const NON_STRICT: &[&str] = &["6.4.3", "6.4.4"];

/// Compression, which is not offered.
const UNIMPLEMENTED: &[&str] = &["12.", "13."];

/// Installs the suite where it is missing, for all clones of this repository.
pub(crate) fn install(root: &Path) -> Result<(), Failure> {
    Command::new(root, "bash dev/xtask/autobahn.sh").arg(&home()?.display().to_string()).run()
}

/// Runs every case against `server`, a program that prints the URL of its echo on its first line.
/// The suite has to be installed.
pub(crate) fn run(server: &Path) -> Outcome {
    let reports = server.with_file_name("autobahn-reports");
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", reports.display()));
    // An old report must not pass for a new one.
    if reports.exists() {
        fs::remove_dir_all(&reports).map_err(failed)?;
    }
    fs::create_dir_all(&reports).map_err(failed)?;

    let server = Server::start(server)?;
    let spec = json!({
        "outdir": reports,
        "servers": [{ "agent": "partykit", "url": server.url, "options": { "version": 18 } }],
        "cases": ["*"],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    fs::write(reports.join("spec.json"), spec.to_string()).map_err(failed)?;
    let log = fs::File::create(reports.join("wstest.log")).map_err(failed)?;
    println!("$ wstest -m fuzzingclient, against {}", server.url);
    let started = Instant::now();
    let mut suite = process::Command::new(home()?.join("wstest"))
        .args(["-m", "fuzzingclient", "-s", "spec.json"])
        .current_dir(&reports)
        .stdin(Stdio::null())
        .stderr(log.try_clone().map_err(failed)?)
        .stdout(log)
        .spawn()
        .map_err(failed)?;
    let ended = wait(&mut suite);
    println!("  ({:.1} s)", started.elapsed().as_secs_f64());
    if !ended {
        let message = format!("not over after {LIMIT:?}: see {}", reports.display());
        return Err(Failure::new(message));
    }

    // The suite succeeds whatever came of its cases: only the report tells.
    let index = fs::read_to_string(reports.join("index.json")).map_err(failed)?;
    let index: Value = serde_json::from_str(&index)
        .map_err(|error| Failure::new(format!("the suite's report: {error}")))?;
    let tally = judge(&index["partykit"]);
    println!("{}", tally.summary());
    tally.verdict()
}

/// Where the suite lives.
fn home() -> Result<PathBuf, Failure> {
    Ok(tools::cache()?.join(format!("autobahn-testsuite-{VERSION}")))
}

/// Whether it ended in time by itself.
fn wait(suite: &mut process::Child) -> bool {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if !matches!(suite.try_wait(), Ok(None)) {
            return true;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let _ = suite.kill();
    let _ = suite.wait();
    false
}

/// A server while it is needed.
struct Server {
    process: process::Child,
    url: String,
}

impl Server {
    fn start(program: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("{}: {error}", program.display()));
        let mut process = process::Command::new(program)
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        let url = line.split_whitespace().find(|word| word.starts_with("ws://"));
        let server = Self { process, url: url.unwrap_or_default().to_owned() };
        read.map_err(failed)?;
        match server.url.is_empty() {
            true => Err(Failure::new(format!("{} says {line:?}, no URL", program.display()))),
            false => Ok(server),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What came of the cases.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    /// Cases and what came of them.
    failed: Vec<String>,
    /// Cases by what the suite calls their end.
    ends: BTreeMap<String, usize>,
}

impl Tally {
    fn summary(&self) -> String {
        let ends: Vec<_> = self.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        let mut lines = vec![ends.join(", ")];
        lines.extend(self.failed.iter().map(|failed| format!("FAILED: {failed}")));
        lines.push(format!("{} passed, {} failed", self.passed, self.failed.len()));
        lines.join("\n")
    }

    fn verdict(&self) -> Outcome {
        match (self.passed + self.failed.len(), self.failed.len()) {
            (CASES, 0) => Ok(Verdict::Passed),
            (CASES, failed) => Err(Failure::new(format!("{failed} of {CASES} cases failed"))),
            (ran, _) => Err(Failure::new(format!("{ran} cases ran, not {CASES}"))),
        }
    }
}

/// `cases` is the report of one server: what it did in each case, and how the connection ended.
fn judge(cases: &Value) -> Tally {
    let mut tally = Tally::default();
    for (id, case) in cases.as_object().into_iter().flatten() {
        let end = |which: &str| case[which].as_str().unwrap_or("without an end").to_owned();
        let (behavior, close) = (end("behavior"), end("behaviorClose"));
        let passed = match behavior.as_str() {
            "OK" | "INFORMATIONAL" => true,
            "NON-STRICT" => NON_STRICT.contains(&id.as_str()),
            "UNIMPLEMENTED" => UNIMPLEMENTED.iter().any(|group| id.starts_with(group)),
            _ => false,
        };
        if passed && matches!(close.as_str(), "OK" | "INFORMATIONAL") {
            tally.passed += 1;
        } else {
            tally.failed.push(format!("{id} was {behavior}, its close {close}"));
        }
        *tally.ends.entry(behavior).or_default() += 1;
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many cases that are fine, and some others.
    fn report(fine: usize, others: &[(&str, &str, &str)]) -> Value {
        let fine = (0..fine).map(|n| (format!("1.{n}"), "OK", "INFORMATIONAL"));
        let others =
            others.iter().map(|(id, behavior, close)| ((*id).to_owned(), *behavior, *close));
        let case = |(id, behavior, close)| {
            (id, json!({ "behavior": behavior, "behaviorClose": close, "duration": 1 }))
        };
        Value::Object(fine.chain(others).map(case).collect())
    }

    #[test]
    fn what_is_known_and_harmless_passes() {
        let known = [
            ("6.4.3", "NON-STRICT", "OK"),
            ("12.1.1", "UNIMPLEMENTED", "OK"),
            ("13.7.18", "UNIMPLEMENTED", "OK"),
        ];
        let tally = judge(&report(CASES - 3, &known));
        assert!(matches!(tally.verdict(), Ok(Verdict::Passed)));
        assert!(tally.summary().ends_with("\n517 passed, 0 failed"), "{}", tally.summary());
    }

    #[test]
    fn everything_else_fails_and_is_named() {
        for other in [
            ("6.4.2", "NON-STRICT", "OK"),
            ("9.1.1", "UNIMPLEMENTED", "OK"),
            ("1.12.1", "UNIMPLEMENTED", "OK"),
            ("7.1.1", "FAILED", "OK"),
            ("7.1.1", "OK", "FAILED"),
            ("7.1.1", "OK", "UNCLEAN"),
            ("6.4.3", "NON-STRICT", "WRONG CODE"),
        ] {
            let tally = judge(&report(CASES - 1, &[other]));
            assert_eq!(tally.verdict().unwrap_err().to_string(), "1 of 517 cases failed");
            assert!(tally.summary().contains(&format!("FAILED: {} was", other.0)), "{other:?}");
        }
    }

    #[test]
    fn a_run_of_fewer_cases_fails() {
        for (report, ran) in [(report(CASES - 1, &[]), 516), (report(0, &[]), 0), (Value::Null, 0)]
        {
            let failure = judge(&report).verdict().unwrap_err().to_string();
            assert_eq!(failure, format!("{ran} cases ran, not 517"));
        }
    }

    #[test]
    fn a_server_that_says_no_url_is_refused() {
        let failure = Server::start(Path::new("echo")).err().unwrap().to_string();
        assert_eq!(failure, "echo says \"127.0.0.1:0\\n\", no URL");
    }
}
