#[cfg(target_os = "linux")]
use std::time::Duration;
use std::{
    env,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::OnceLock,
};

#[cfg(target_os = "linux")]
use rustix::process::PidfdFlags;
use rustix::process::{Pid, Signal};
use tracing::debug;

/// How the next process knows that it is to take over. `stdin`: the socket is its standard input. Anything
/// else is the path of a socket.
pub(super) const VARIABLE: &str = "PARTYKIT_HANDOVER";
pub(super) const STDIN: &str = "stdin";

/// How long a process that was killed may take to end.
#[cfg(target_os = "linux")]
const END: Duration = Duration::from_secs(10);

/// Where the process was when it began, and what it is.
#[derive(Debug)]
struct Start {
    directory: Option<PathBuf>,
    program: Option<PathBuf>,
}

static START: OnceLock<Start> = OnceLock::new();

/// Notes how this process was started. Later its directory may be another one, and its file replaced.
pub(crate) fn remember_start() {
    START.get_or_init(|| Start {
        directory: env::current_dir().ok(),
        program: env::current_exe().ok(),
    });
}

/// The next process.
#[derive(Debug)]
pub(super) enum Successor {
    Child(Child),
    /// Another process has started it.
    Other(Other),
}

impl Successor {
    /// Starts the program that stands now where this one was started from, with the same arguments.
    pub(super) fn start() -> io::Result<(Self, UnixStream)> {
        remember_start();
        let (here, there) = UnixStream::pair()?;
        let mut command = Command::new(program());
        command.args(env::args_os().skip(1)).env(VARIABLE, STDIN).stdin(OwnedFd::from(there));
        if let Some(directory) = START.get().and_then(|start| start.directory.as_ref()) {
            command.current_dir(directory);
        }
        Ok((Self::Child(command.spawn()?), here))
    }

    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Other(other) => other.id,
        }
    }

    /// Ends it if this process has started it.
    pub(super) fn kill_child(&mut self) {
        if matches!(self, Self::Child(_)) {
            self.kill();
        }
    }

    /// Ends it. When this returns, it has no descriptor any more.
    pub(super) fn kill(&mut self) {
        let killed = match self {
            Self::Child(child) => child.kill().and_then(|()| child.wait().map(drop)),
            Self::Other(other) => other.kill(),
        };
        if let Err(error) = killed {
            debug!("the next process could not be killed: {error}");
        }
    }
}

/// A process that is no child of this one.
#[derive(Debug)]
pub(super) struct Other {
    id: u32,
    /// Another process may get its number when it has ended, but not this.
    #[cfg(target_os = "linux")]
    process: OwnedFd,
}

impl Other {
    /// # Errors
    ///
    /// When there is no such process.
    pub(super) fn new(id: u32) -> io::Result<Self> {
        Ok(Self {
            id,
            #[cfg(target_os = "linux")]
            process: rustix::process::pidfd_open(pid(id)?, PidfdFlags::empty())?,
        })
    }

    #[cfg(target_os = "linux")]
    fn kill(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        rustix::process::pidfd_send_signal(&self.process, Signal::KILL)?;
        let has_ended = &mut [PollFd::new(&self.process, PollFlags::IN)];
        // It has no descriptors any more when this says that it has ended.
        let within = rustix::event::Timespec { tv_sec: END.as_secs() as i64, tv_nsec: 0 };
        match poll(has_ended, Some(&within))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Its store may be locked for a moment longer.
    #[cfg(not(target_os = "linux"))]
    fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::kill_process(pid(self.id)?, Signal::KILL)?)
    }
}

fn pid(id: u32) -> io::Result<Pid> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("no process has this number"))
}

/// The program's path, as it was called: a symbolic link may lead to another file by now. A name without a
/// path is looked up again.
fn program() -> OsString {
    let called = env::args_os().next().unwrap_or_default();
    let start = START.get();
    let directory = start.and_then(|start| start.directory.as_deref());
    let is_name = Path::new(&called).components().count() == 1 && !called.is_empty();
    let path = directory.unwrap_or(Path::new("")).join(&called);
    let own = start.and_then(|start| start.program.clone());
    match own {
        _ if !is_name && path.is_file() => path.into(),
        Some(own) if own.is_file() => own.into(),
        _ => called,
    }
}

/// The socket that this process was given, if it is to take over. Standard input is empty then.
pub(super) fn given() -> io::Result<Option<UnixStream>> {
    let Some(how) = env::var_os(VARIABLE).filter(|how| !how.is_empty()) else { return Ok(None) };
    if how != STDIN {
        return UnixStream::connect(PathBuf::from(how)).map(Some);
    }
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    if rustix::net::sockopt::socket_type(&stdin).is_err() {
        // A child of the program that inherits the variable, and nothing to take.
        return Ok(None);
    }
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(Some(UnixStream::from(stdin)))
}
