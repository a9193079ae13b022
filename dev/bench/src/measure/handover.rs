//! What clients notice when their server is replaced: nothing, where all of them notice a restart.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use partykit::Result;
use tempfile::TempDir;

use super::Sizes;
use crate::{
    callers::Callers,
    child::{Allocator, Process, binary},
    client::PATIENCE,
    report::{Goal, Report},
};

/// How long a client may wait for an answer over a hand-over, in milliseconds.
const GAP: f64 = 150.0;

/// How long clients talk before the first hand-over and after the last.
const AROUND: Duration = Duration::from_secs(2);

/// How long a process is left alone before it is weighed: the allocator gives back what it has not used for 10 s.
const SETTLES: Duration = Duration::from_secs(13);

/// How often a new process is looked for.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let directory = TempDir::new_in(std::env::current_exe()?.with_file_name(""))?;
    let mut site = Site::start(directory.path())?;
    let (count, talkers) = (sizes.callers, sizes.talkers);
    let mut callers = Callers::connect(site.address, count, talkers, sizes.talk_every)?;
    for_a_while(&mut callers, AROUND)?;
    let usual = in_milliseconds(callers.outcome().take_longest());
    let memory = weigh(&mut callers, site.process)?;

    let (mut gaps, mut took) = (Vec::new(), Vec::new());
    for _ in 0..sizes.hand_overs {
        let begun = Instant::now();
        took.push(in_milliseconds(site.hand_over(&mut callers)?));
        for_a_while(&mut callers, sizes.hand_over_every.saturating_sub(begun.elapsed()))?;
        gaps.push(in_milliseconds(callers.outcome().take_longest()));
    }
    for_a_while(&mut callers, AROUND)?;
    let grown = weigh(&mut callers, site.process)? as f64 / memory as f64;
    callers.ask_the_idle()?;
    let kept = callers.outcome().clone();

    for_a_while(&mut callers, AROUND)?;
    callers.outcome().take_longest();
    site.restart(&mut callers)?;
    for_a_while(&mut callers, AROUND)?;
    let restart = in_milliseconds(callers.outcome().take_longest());
    let after = callers.outcome().clone();
    let end = callers.end();

    let none = Goal::AtMost(0.0);
    let limit = "limit";
    let messages = "hand-over: messages that were said and heard";
    report.claim_each(messages, limit, vec![(kept.said + kept.heard) as f64], None);
    // What is not heard at the end, the restart may have lost too: it closes connections, and this does not.
    let lost = if after.closed == kept.closed { end.lost } else { kept.lost };
    for (measure, is) in [
        ("hand-over: messages lost", lost),
        ("hand-over: messages doubled", kept.doubled),
        ("hand-over: messages out of order", kept.reordered),
        ("hand-over: connections closed", kept.closed),
    ] {
        report.claim(measure, limit, is as f64, none);
    }
    let worst = gaps.iter().copied().fold(0.0, f64::max);
    report.claim("hand-over: the longest wait for an answer, ms", limit, worst, Goal::Below(GAP));
    report.claim("memory after all of them", "before", grown, Goal::AtMost(1.05));
    let mut note = |measure: &'static str, beside, values| {
        report.claim_each(measure, beside, values, None);
    };
    note("hand-over: the longest wait of each, ms", limit, gaps);
    note("the longest wait without one, ms", limit, vec![usual]);
    note("hand-over: from the signal to the next process's first answer, ms", limit, took);
    note("restart: connections closed", limit, vec![(after.closed - kept.closed) as f64]);
    note("restart: the longest wait for an answer, ms", limit, vec![restart]);
    note(
        "restart beside the worst hand-over: the longest wait",
        "hand-over",
        vec![restart / worst],
    );
    Ok(())
}

/// What a process takes while nobody says anything.
fn weigh(callers: &mut Callers, process: u32) -> Result<u64> {
    callers.fall_silent()?;
    thread::sleep(SETTLES);
    Process(process).memory()
}

fn for_a_while(callers: &mut Callers, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    callers.talk(|| Instant::now() >= end)
}

fn in_milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A server that is one process after the other. The last one ends when this is dropped.
struct Site<'a> {
    directory: &'a Path,
    address: SocketAddr,
    /// Those that this process has started.
    started: Vec<Child>,
    /// The process that serves now.
    process: u32,
}

impl<'a> Site<'a> {
    fn start(directory: &'a Path) -> Result<Self> {
        // The next process, and a restarted one, need the same port.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut site = Self { directory, address, started: Vec::new(), process: 0 };
        site.run()?;
        let process = site.process;
        wait(|| asked(address).filter(|answer| *answer == process))?;
        Ok(site)
    }

    fn run(&mut self) -> Result<()> {
        let mut command = Command::new(binary(Allocator::Jemalloc)?);
        command.args(["serve", "handover"]).arg(self.directory);
        let process = command.arg(self.address.port().to_string()).spawn()?;
        self.process = process.id();
        self.started.push(process);
        Ok(())
    }

    /// Has the next process take over. Returns how long it took until that one answers.
    fn hand_over(&mut self, callers: &mut Callers) -> Result<Duration> {
        let (address, before, begun) = (self.address, self.process, Instant::now());
        signal(before, "-USR2")?;
        let next = while_they_talk(callers, move || {
            wait(|| asked(address).filter(|process| *process != before))
        })?;
        self.process = next?;
        Ok(begun.elapsed())
    }

    /// Ends the server and starts it again.
    fn restart(&mut self, callers: &mut Callers) -> Result<()> {
        let before = self.process;
        signal(before, "-TERM")?;
        let ended = move || wait(|| (!is_there(before)).then_some(()));
        while_they_talk(callers, ended)??;
        self.run()?;
        callers.come_back()
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = signal(self.process, "-KILL");
        for process in &mut self.started {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Lets clients talk until another thread has done something.
fn while_they_talk<T: Send + 'static>(
    callers: &mut Callers,
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let acting = thread::spawn(act);
    callers.talk(|| acting.is_finished())?;
    acting.join().map_err(|_| "a thread that waits for the server panicked".into())
}

fn wait<T>(look: impl Fn() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match look() {
            Some(found) => return Ok(found),
            None if begun.elapsed() > PATIENCE => return Err("the server does nothing".into()),
            None => thread::sleep(LOOK),
        }
    }
}

/// Which process answers.
fn asked(address: SocketAddr) -> Option<u32> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.rsplit("\r\n\r\n").next()?.parse().ok()
}

fn signal(process: u32, signal: &str) -> Result<()> {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status()?;
    if sent.success() { Ok(()) } else { Err(format!("{signal} cannot be sent").into()) }
}

fn is_there(process: u32) -> bool {
    // One that has ended and was not waited for is a zombie.
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}
