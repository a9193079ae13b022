//! Listeners that this process was given when it was started: by the process before it, or by systemd.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use listenfd::ListenFd;
use rustix::net::{SocketAddrAny, SocketAddrUnix, getsockname};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use crate::handover;

/// The TCP listener at this address. Another one at the same port will do: who has opened it has decided where
/// clients may come from. Port 0 stands for any port.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<Option<TcpListener>> {
    let exactly = |at: &At| matches!(at, At::Tcp(own) if *own == address);
    let at_port = |at: &At| match at {
        At::Tcp(own) => address.port() == 0 || own.port() == address.port(),
        At::Path(_) => false,
    };
    let Some(listener) = take(exactly).or_else(|| take(at_port)) else { return Ok(None) };
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(Some)
}

/// The Unix socket with this path.
pub(crate) fn unix(path: &Path) -> io::Result<Option<UnixListener>> {
    let path = std::path::absolute(path)?;
    let is_it = |at: &At| match at {
        At::Path(own) => std::path::absolute(own).is_ok_and(|own| own == path),
        At::Tcp(_) => false,
    };
    let Some(listener) = take(is_it) else { return Ok(None) };
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener).map(Some)
}

/// Says which listeners of systemd do not fit, when this process is about to make one of its own.
pub(crate) fn warn_of_others(wanted: &dyn fmt::Display) {
    let others = activated().lock().unwrap_or_else(PoisonError::into_inner);
    for other in others.iter().filter_map(At::of) {
        warn!(
            "systemd gave a socket at {other}, and this process listens on {wanted}: name the same port or path in \
             `ListenStream` of the unit and in the program"
        );
    }
}

fn take(is_it: impl Fn(&At) -> bool) -> Option<OwnedFd> {
    let is_it = |listener: &OwnedFd| At::of(listener).is_some_and(|at| is_it(&at));
    handover::inherited(&is_it).or_else(|| {
        let mut all = activated().lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(is_it)?;
        Some(all.remove(at))
    })
}

/// The listeners of systemd that were not taken. Found when they are first asked for.
fn activated() -> &'static Mutex<Vec<OwnedFd>> {
    static FOUND: OnceLock<Mutex<Vec<OwnedFd>>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut given = ListenFd::from_env();
        let mut all = Vec::new();
        for at in 0..given.len() {
            // One that is neither is an error of both kinds, and stays where it is.
            if let Ok(Some(listener)) = given.take_tcp_listener(at) {
                all.push(listener.into());
            } else if let Ok(Some(listener)) = given.take_unix_listener(at) {
                all.push(listener.into());
            }
        }
        Mutex::new(all)
    })
}

/// Where a listener listens.
enum At {
    Tcp(SocketAddr),
    Path(PathBuf),
}

impl At {
    fn of(listener: &OwnedFd) -> Option<Self> {
        use std::os::unix::ffi::OsStrExt;
        let own: SocketAddrAny = getsockname(listener).ok()?;
        if let Ok(address) = SocketAddr::try_from(own.clone()) {
            return Some(Self::Tcp(address));
        }
        let own = SocketAddrUnix::try_from(own).ok()?;
        let path = own.path_bytes()?;
        Some(Self::Path(std::ffi::OsStr::from_bytes(path).into()))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}
