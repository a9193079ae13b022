//! A server in its own process: questions to it, and what the kernel knows of it.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use partykit::Result;

use crate::server::Kind;

/// The allocator of a server's process. What is not this program has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocator {
    Glibc,
    Jemalloc,
}

impl Allocator {
    /// How long after the last work memory falls no more: jemalloc keeps free pages for 10 s.
    pub(crate) fn rest(self) -> Duration {
        match self {
            Self::Glibc => Duration::from_millis(500),
            Self::Jemalloc => Duration::from_millis(10_500),
        }
    }

    /// The same when rooms fall asleep first, which they do 10 s after their last event.
    pub(crate) fn rest_of_rooms(self) -> Duration {
        Duration::from_millis(11_500) + self.rest()
    }
}

/// Where jemalloc of these binaries looks for options.
const JEMALLOC: &str = "_RJEM_MALLOC_CONF";

/// Says where the bench of another revision is, with jemalloc.
const FORMER: &str = "PARTYKIT_BENCH_FORMER";

/// Where the server on Bun stands, and Bun itself.
const BUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bun");

/// A server that runs. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not: the other binary has not been built, for example.
    pub(crate) fn start(kind: Kind, allocator: Allocator) -> Result<Self> {
        match kind {
            Kind::Bun => Self::run(Command::new(bun()?).arg("server.js").current_dir(BUN)),
            Kind::Former => {
                Self::run(Command::new(bench(kind)?).args(["serve", Kind::PartyKit.name()]))
            }
            _ => Self::start_with(&["serve", kind.name()], allocator),
        }
    }

    /// Starts one whose rooms store in this directory: ours, or that of the other revision.
    pub(crate) fn start_rooms(kind: Kind, directory: &Path) -> Result<Self> {
        Self::run(Command::new(bench(kind)?).args(["serve", "rooms"]).arg(directory))
    }

    /// The same of one whose memory is weighed. jemalloc keeps up to 4 MiB of free pages in each arena, for as
    /// long as the process lives: its thread wakes for no less. Here it keeps none, because what it keeps does
    /// not depend on how many connections there are.
    ///
    /// # Errors
    ///
    /// As above.
    pub(crate) fn start_to_weigh(kind: Kind, allocator: Allocator) -> Result<Self> {
        if kind == Kind::Bun || allocator == Allocator::Glibc {
            return Self::start(kind, allocator);
        }
        let mut command = Command::new(binary(allocator)?);
        Self::run(command.args(["serve", kind.name()]).env(JEMALLOC, "dirty_decay_ms:0"))
    }

    /// The same of whatever these arguments make serve.
    pub(crate) fn start_with(arguments: &[&str], allocator: Allocator) -> Result<Self> {
        Self::run(Command::new(binary(allocator)?).args(arguments))
    }

    /// Ours with jemalloc, which then counts each allocation when it happens and keeps nothing for threads.
    pub(crate) fn start_counting() -> Result<Self> {
        let mut command = Command::new(binary(Allocator::Jemalloc)?);
        Self::run(command.args(["serve", Kind::PartyKit.name()]).env(JEMALLOC, "tcache:false"))
    }

    fn run(command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let (Some(questions), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a server without pipes".into());
        };
        let mut answers = BufReader::new(answers);
        let address = read_line(&mut answers)?.parse()?;
        Ok(Self { process, questions, answers, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks the server something; see [`run`](crate::server::run).
    pub(crate) fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.questions, "{question}")?;
        read_line(&mut self.answers)
    }

    /// The same for an answer that has to be a number.
    pub(crate) fn count(&mut self, question: &str) -> Result<u64> {
        let answer = self.ask(question)?;
        answer.parse().map_err(|_| format!("{question}: {answer}").into())
    }

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process(self.process.id())
    }
}

/// What the kernel knows of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// Processor time of all its threads so far, of user and kernel together.
    pub(crate) fn processor_time(self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = stat.split_whitespace().next().ok_or("an empty schedstat")?;
            nanoseconds += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Memory of its own, in bytes: pages that are no file's. Its share of the program's pages, which PSS adds,
    /// changes with what other processes of the same program have read of it, as the clients' process does.
    pub(crate) fn memory(self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.0);
        let rollup = fs::read_to_string(path)?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kibibytes.ok_or("a kernel that does not tell anonymous memory")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The bench itself: this one, or that of the other revision.
pub(crate) fn bench(kind: Kind) -> Result<PathBuf> {
    match kind {
        Kind::Former => {
            let path = env::var_os(FORMER);
            Ok(path.ok_or("`cargo xtask bench --beside REVISION` does that")?.into())
        }
        _ => binary(Allocator::Jemalloc),
    }
}

pub(crate) fn binary(allocator: Allocator) -> Result<PathBuf> {
    let name = match allocator {
        Allocator::Glibc => "partykit-bench",
        Allocator::Jemalloc => "partykit-bench-jemalloc",
    };
    Ok(env::current_exe()?.with_file_name(name))
}

/// The program that npm has installed for this machine: the one package of Bun's that it took.
fn bun() -> Result<PathBuf> {
    let packages = fs::read_dir(Path::new(BUN).join("node_modules/@oven"))
        .map_err(|error| format!("Bun is not there, `cargo xtask bench` installs it: {error}"))?;
    let programs = packages.map(|package| Ok(package?.path().join("bin/bun")));
    let programs: Result<Vec<PathBuf>> = programs.collect();
    programs?.into_iter().find(|program| program.is_file()).ok_or_else(|| "no Bun for it".into())
}

fn read_line(answers: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    match answers.read_line(&mut line)? {
        0 => Err("the server has ended".into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
