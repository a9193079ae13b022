//! The WebSocket conformance suite, Autobahn|Testsuite, against the echo example, over each transport.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
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

/// What a socket can be run by. The server says where it serves each.
const TRANSPORTS: [&str; 3] = ["loop", "task", "tls"];

/// Bad UTF-8 that comes in parts is found at the end of a frame, not at the first byte that is wrong.
const NON_STRICT: &[&str] = &["6.4.3", "6.4.4"];

/// Compression, which is not offered.
const UNIMPLEMENTED: &[&str] = &["12.", "13."];

/// Installs the suite where it is missing, for all clones of this repository.
pub(crate) fn install(root: &Path) -> Result<(), Failure> {
    Command::new(root, "bash dev/xtask/autobahn.sh").arg(&home()?.display().to_string()).run()
}

/// Runs every case against `server`, a program whose first lines are the transports and their URLs.
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
    let started = Instant::now();
    // A run waits most of the time.
    let mut suites = Vec::new();
    for (name, url) in &server.urls {
        println!("$ wstest -m fuzzingclient, against {url} ({name})");
        suites.push(Suite::start(&reports, name, url)?);
    }
    let mut tallies = Vec::new();
    for suite in suites {
        tallies.push(suite.tally(started + LIMIT)?);
    }
    println!("  ({:.1} s)", started.elapsed().as_secs_f64());
    for (name, tally) in &tallies {
        println!("{name}: {}", tally.summary());
    }
    verdict(&tallies)
}

/// A run of the suite against one transport.
struct Suite {
    name: String,
    directory: PathBuf,
    process: process::Child,
}

impl Suite {
    fn start(reports: &Path, name: &str, url: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("{name}: {error}"));
        let directory = reports.join(name);
        fs::create_dir_all(&directory).map_err(failed)?;
        let spec = json!({
            "outdir": directory,
            "servers": [{ "agent": name, "url": url, "options": { "version": 18 } }],
            "cases": ["*"],
            "exclude-cases": [],
            "exclude-agent-cases": {},
        });
        fs::write(directory.join("spec.json"), spec.to_string()).map_err(failed)?;
        let log = fs::File::create(directory.join("wstest.log")).map_err(failed)?;
        let process = process::Command::new(home()?.join("wstest"))
            .args(["-m", "fuzzingclient", "-s", "spec.json"])
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stderr(log.try_clone().map_err(failed)?)
            .stdout(log)
            .spawn()
            .map_err(failed)?;
        Ok(Self { name: name.to_owned(), directory, process })
    }

    /// What came of the cases, once it has ended by itself.
    fn tally(mut self, deadline: Instant) -> Result<(String, Tally), Failure> {
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let (name, directory) = (&self.name, self.directory.display());
                let message = format!("{name}: not over after {LIMIT:?}: see {directory}");
                return Err(Failure::new(message));
            }
            thread::sleep(Duration::from_millis(100));
        }
        // The suite succeeds whatever came of its cases: only the report tells.
        let failed = |error| Failure::new(format!("{}: the suite's report: {error}", self.name));
        let index = self.directory.join("index.json");
        let index = fs::read_to_string(index).map_err(|error| failed(error.to_string()))?;
        let index: Value =
            serde_json::from_str(&index).map_err(|error| failed(error.to_string()))?;
        let tally = judge(&index[&self.name]);
        Ok((self.name.clone(), tally))
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the suite lives.
fn home() -> Result<PathBuf, Failure> {
    Ok(tools::cache()?.join(format!("autobahn-testsuite-{VERSION}")))
}

/// A server while it is needed.
struct Server {
    process: process::Child,
    /// By the names of [`TRANSPORTS`].
    urls: BTreeMap<String, String>,
}

impl Server {
    fn start(program: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("{}: {error}", program.display()));
        let mut process = process::Command::new(program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdout = process.stdout.take().expect("stdout is piped");
        let mut server = Self { process, urls: BTreeMap::new() };
        for line in BufReader::new(stdout).lines().take(TRANSPORTS.len()) {
            let line = line.map_err(failed)?;
            if let Some((name, url)) = line.split_once(' ') {
                server.urls.insert(name.to_owned(), url.to_owned());
            }
        }
        match server.urls.keys().eq(TRANSPORTS) {
            true => Ok(server),
            false => Err(Failure::new(format!(
                "{} has to serve {TRANSPORTS:?}, and says {:?}",
                program.display(),
                server.urls
            ))),
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

    /// What is wrong with it.
    fn complaint(&self) -> Option<String> {
        match (self.passed + self.failed.len(), self.failed.len()) {
            (CASES, 0) => None,
            (CASES, failed) => Some(format!("{failed} of {CASES} cases failed")),
            (ran, _) => Some(format!("{ran} cases ran, not {CASES}")),
        }
    }
}

/// Every case has to pass over each transport.
fn verdict(tallies: &[(String, Tally)]) -> Outcome {
    let complaint =
        |(name, tally): &(String, Tally)| Some(format!("{name}: {}", tally.complaint()?));
    let complaints: Vec<_> = tallies.iter().filter_map(complaint).collect();
    match complaints.is_empty() {
        true => Ok(Verdict::Passed),
        false => Err(Failure::new(complaints.join("; "))),
    }
}

/// `cases` is the report of one transport: what it did in each case, and how the connection ended.
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

    /// This many cases that are fine, and some others.
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
        assert_eq!(tally.complaint(), None);
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
            assert_eq!(tally.complaint().unwrap(), "1 of 517 cases failed");
            assert!(tally.summary().contains(&format!("FAILED: {} was", other.0)), "{other:?}");
        }
    }

    #[test]
    fn a_run_of_fewer_cases_fails() {
        for (report, ran) in [(report(CASES - 1, &[]), 516), (report(0, &[]), 0), (Value::Null, 0)]
        {
            let complaint = judge(&report).complaint().unwrap();
            assert_eq!(complaint, format!("{ran} cases ran, not 517"));
        }
    }

    #[test]
    fn each_transport_is_judged() {
        let ran = |name: &str, cases| (name.to_owned(), judge(&report(cases, &[])));
        let passed = verdict(&[ran("loop", CASES), ran("tls", CASES)]);
        assert!(matches!(passed, Ok(Verdict::Passed)));
        let failure = verdict(&[ran("loop", CASES), ran("task", 0), ran("tls", 0)]);
        let expected = "task: 0 cases ran, not 517; tls: 0 cases ran, not 517";
        assert_eq!(failure.unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_server_without_all_transports_is_refused() {
        let failure = Server::start(Path::new("echo")).err().unwrap().to_string();
        assert!(
            failure.starts_with("echo has to serve [\"loop\", \"task\", \"tls\"]"),
            "{failure}"
        );
    }
}
