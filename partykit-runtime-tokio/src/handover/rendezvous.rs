use std::{
    io,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::net::UnixListener;
use tracing::{debug, warn};

use super::{
    error::HandOverError,
    giving::{hand_over_to, hello},
    successor::{Other, Successor},
    wire::Wire,
};
use crate::{
    host::TokioHost,
    shutdown::{Shutdown, Stage},
};

/// The name of the socket, in the directory of the store, where a new process may connect by itself.
const RENDEZVOUS: &str = "handover.sock";

/// How long a process that has connected may take to say hello, which is the first thing that it does.
const HELLO: Duration = Duration::from_secs(5);

/// The socket where a new process may connect by itself.
pub(crate) struct Rendezvous {
    path: PathBuf,
    /// Another one may have replaced the file by its own.
    file: File,
    shutdown: Arc<Shutdown>,
}

/// A process that has connected and said hello.
pub(super) struct Connected {
    pub(super) successor: Successor,
    pub(super) wire: Wire,
}

impl Rendezvous {
    /// Listens, if the runtime has a store: in its directory.
    ///
    /// # Errors
    ///
    /// When that is not possible. The runtime can do without.
    pub(crate) fn open(
        host: &Arc<TokioHost>,
        shutdown: &Arc<Shutdown>,
    ) -> io::Result<Option<Self>> {
        let Some(store) = host.store() else { return Ok(None) };
        let path = store.path().join(RENDEZVOUS);
        // The store is locked, so this is left from a process that is gone.
        if path.try_exists()? {
            std::fs::remove_file(&path)?;
        }
        let listener = bind_privately(&path)?;
        let file = File::of(&path)?;
        let rendezvous = Self { path, file, shutdown: shutdown.clone() };
        let (host, shutdown) = (Arc::downgrade(host), shutdown.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = shutdown.reached(Stage::Stopping) => return,
                };
                let Some(host) = host.upgrade() else { return };
                let connected = match accepted.and_then(|(stream, _)| admit(stream)) {
                    // Anything may connect, so it holds up no hand-over before it has said hello.
                    Ok((other, stream)) => hello(&shutdown, stream, HELLO)
                        .await
                        .map(|wire| Connected { successor: Successor::Other(other), wire }),
                    Err(error) => Err(HandOverError::Failed(error)),
                };
                match connected {
                    Ok(connected) => {
                        let given = hand_over_to(&host, &shutdown, Some(connected)).await;
                        if let Err(error) = given {
                            debug!("a process that connected did not take over: {error}");
                        }
                    }
                    Err(error) => warn!("refused a process that wanted to take over: {error}"),
                }
            }
        });
        Ok(Some(rendezvous))
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        // At this moment the next process makes its own.
        if self.shutdown.is_paused() {
            return;
        }
        if File::of(&self.path).is_ok_and(|found| found == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The directory of a store may be open to others, so the socket is not.
fn bind_privately(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Lets in only processes of the same user. Returns the process.
fn admit(stream: tokio::net::UnixStream) -> io::Result<(Other, UnixStream)> {
    let peer = stream.peer_cred()?;
    let id = check(peer.uid(), peer.pid(), rustix::process::geteuid().as_raw())?;
    Ok((Other::new(id)?, stream.into_std()?))
}

fn check(user: u32, process: Option<i32>, own: u32) -> io::Result<u32> {
    if user != own {
        return Err(io::Error::other(format!("it is of user {user}, not {own}")));
    }
    // 0 is a process of another namespace. This one could not end it.
    let id = process.and_then(|id| u32::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or_else(|| io::Error::other("its number is not known"))
}

/// Which file it is. Its number alone is not enough: a file that was removed leaves it to the next one.
#[derive(PartialEq, Eq)]
struct File {
    number: u64,
    changed: (i64, i64),
}

impl File {
    fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self { number: found.ino(), changed: (found.ctime(), found.ctime_nsec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_processes_of_the_same_user_are_let_in() {
        assert_eq!(check(1000, Some(7), 1000).unwrap(), 7);
        for own in [1000, 0] {
            let error = check(1001, Some(7), own).unwrap_err();
            assert_eq!(error.to_string(), format!("it is of user 1001, not {own}"));
        }
        assert!(check(0, Some(7), 1000).is_err(), "root can do it as the user");
        for unknown in [None, Some(0), Some(-1)] {
            assert!(check(1000, unknown, 1000).is_err());
        }
    }

    #[tokio::test]
    async fn the_socket_is_for_its_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(RENDEZVOUS);
        let listener = bind_privately(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&path).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(Successor::Other(admit(stream).unwrap().0).id(), std::process::id());
    }
}
