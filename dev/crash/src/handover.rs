//! A server that is replaced while clients work, and whose processes are killed while it is.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use partykit::BoxError;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};

use crate::{Storing, crowd::ask, process::Process};

/// How long after the signal a process is killed, in milliseconds: a hand-over takes less than that.
const MOMENT: std::ops::Range<u64> = 0..150;

/// How long anything may take: far more than on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(5);

/// What a process logs when the next one has failed.
const GIVEN_UP: &str = "the hand-over was given up, and this process goes on";

/// Where a server of this kind says which process it is.
pub(crate) const PROCESS: &str = "/process";

/// A server that is one process after the other, or two.
pub(crate) struct Site {
    first: Process,
    data: PathBuf,
    /// What all processes log.
    log: PathBuf,
    pub(crate) address: SocketAddr,
    /// The process that serves.
    process: u32,
}

/// What is killed during a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Old,
    Next,
}

/// What came of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next process serves.
    Next,
    /// The same one does.
    Same,
    /// None does.
    Gone,
}

impl Site {
    /// Starts the first process, and waits until it serves.
    pub(crate) async fn start(
        program: &Path,
        storing: Storing,
        log: &Path,
    ) -> Result<Self, BoxError> {
        let data = storing.data.clone();
        // The next process needs the same port.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let storing = Storing { port: Some(address.port()), ..storing };
        let first = Process::start(program, &storing, None, log)?;
        let mut site = Self { first, data, log: log.to_owned(), address, process: 0 };
        let begun = Instant::now();
        while site.process == 0 {
            site.process = site.serving().await.unwrap_or(0);
            if begun.elapsed() > PATIENCE {
                return Err("the server that hands over does not serve".into());
            }
            sleep(LOOK).await;
        }
        Ok(site)
    }

    /// Has the next process take over. If there is a victim, one of the two is killed meanwhile.
    ///
    /// # Errors
    ///
    /// When that is not done in time.
    pub(crate) async fn hand_over(
        &mut self,
        victim: Option<Victim>,
        random: &mut fastrand::Rng,
    ) -> Result<After, BoxError> {
        let (before, logged) = (self.process, fs::metadata(&self.log)?.len());
        signal(before, Signal::USR2)?;
        if let Some(victim) = victim {
            sleep(Duration::from_millis(random.u64(MOMENT))).await;
            let all = self.processes();
            let is_it = |process: &&u32| (**process == before) == (victim == Victim::Old);
            if let Some(process) = all.iter().find(is_it) {
                // It may have ended by itself a moment before.
                let _ = signal(*process, Signal::KILL);
            }
        }
        let begun = Instant::now();
        loop {
            match self.serving().await {
                Some(process) if process != before => {
                    self.process = process;
                    return Ok(After::Next);
                }
                // If nothing was killed, all has to go well. A process refuses another hand-over until it says
                // that it has given this one up.
                Some(_) if victim.is_some() && self.said(logged).contains(GIVEN_UP) => {
                    return Ok(After::Same);
                }
                None if self.processes().is_empty() => return Ok(After::Gone),
                _ if begun.elapsed() > PATIENCE => {
                    let said = self.said(logged);
                    // "not handed over: .."
                    let why = said.lines().rfind(|line| line.contains("handed over"));
                    let why = why.unwrap_or("it does not say why");
                    return Err(format!("no hand-over within {PATIENCE:?}: {why}").into());
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Kills all processes.
    pub(crate) async fn kill(self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let all = self.processes();
            if all.is_empty() {
                break;
            }
            for process in all {
                let _ = signal(process, Signal::KILL);
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(LOOK).await;
        }
        self.first.kill().await.map(drop)
    }

    /// Which process answers, if one does.
    async fn serving(&self) -> Option<u32> {
        let asked = timeout(PATIENCE, ask(self.address, PROCESS, String::new())).await;
        std::str::from_utf8(&asked.ok()?.ok()?).ok()?.parse().ok()
    }

    /// What all processes have logged behind this place in the file.
    fn said(&self, behind: u64) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        let at = usize::try_from(behind).unwrap_or(usize::MAX).min(all.len());
        String::from_utf8_lossy(&all[at..]).into_owned()
    }

    /// The processes that have this store. One that has ended has no command line.
    fn processes(&self) -> Vec<u32> {
        use std::os::unix::ffi::OsStrExt;
        let data = self.data.as_os_str().as_bytes();
        let number = |entry: io::Result<fs::DirEntry>| {
            let process = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
            line.split(|byte| *byte == 0).any(|word| word == data).then_some(process)
        };
        fs::read_dir("/proc").into_iter().flatten().filter_map(number).collect()
    }
}

fn signal(process: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.ok_or(io::ErrorKind::NotFound)?, signal)?)
}
