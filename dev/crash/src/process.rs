use std::{
    fs::{self, OpenOptions},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{power::Power, server::Storing};

/// How long a server may take until it listens: far longer than any does.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server in a process of its own. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts one. `program` is this crate's; what it logs goes to the end of the file `log`.
    pub(crate) fn start(
        program: &Path,
        storing: &Storing,
        power: Option<&Power>,
        log: &Path,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg("serve").args(storing.arguments());
        if let Some(power) = power {
            command.envs(power.environment());
        }
        Self::spawn(command, log)
    }

    /// The same with a command of one's own.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> io::Result<Self> {
        let said = OpenOptions::new().create(true).append(true).open(log)?;
        // Some handlers are to panic.
        command.env("RUST_BACKTRACE", "0").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said);
        Ok(Self { child: command.spawn()?, log: log.to_owned() })
    }

    /// Waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not, with what it said.
    pub(crate) async fn listens(&mut self) -> io::Result<SocketAddr> {
        let out = self.child.stdout.take().ok_or_else(|| io::Error::other("asked before"))?;
        let mut line = String::new();
        let read = timeout(PATIENCE, BufReader::new(out).read_line(&mut line)).await;
        let address = read.ok().and_then(|_| line.trim().parse().ok());
        address.ok_or_else(|| {
            io::Error::other(format!("the server does not start: {}", last_words(&self.log)))
        })
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        self.child.wait().await.map(drop)
    }

    /// SIGKILL. Whether it was still running.
    pub(crate) async fn kill(mut self) -> io::Result<bool> {
        let ran = self.child.try_wait()?.is_none();
        self.child.kill().await?;
        Ok(ran)
    }
}

/// The end of what servers have logged.
pub(crate) fn last_words(log: &Path) -> String {
    let said = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&said[said.len().saturating_sub(2_000)..]).into_owned()
}
