use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{
    error::Fault,
    home::{LOCK, sync_dir},
};

/// How often opening is tried again when the directory is replaced meanwhile.
const TRIES: usize = 8;

/// The directory of a store, open and locked. It notices when its path names another directory.
///
/// On Unix the directory itself is locked, because a lock on a file ends when the file is deleted. Where a
/// directory cannot be locked (Windows, some network file systems), the file `lock` in it is.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    identity: Identity,
    _lock: File,
}

/// Identifies a file or directory, and tells whether a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    node: (u64, u64),
    changed: (i64, i64, u64),
}

impl Place {
    /// Makes the directory and those above it that are missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        create_all(path).map_err(Fault::io("created"))?;
        for _ in 0..TRIES {
            let lock = lock(path)?;
            let place = Self { path: path.to_owned(), identity: Identity::of(path)?, _lock: lock };
            // The locked directory is the one that the path names now.
            if place.is_locked()? {
                return Ok(place);
            }
        }
        Err(Fault::moved("the directory is replaced again and again"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still names this directory.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let found = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Fault::moved("the directory is gone"));
            }
            found => Identity::from(&found.map_err(Fault::io("checked"))?),
        };
        if found.is_same_file(self.identity) {
            Ok(())
        } else {
            Err(Fault::moved("another directory is in its place"))
        }
    }

    #[cfg(unix)]
    fn is_locked(&self) -> Result<bool, Fault> {
        let locked = self._lock.metadata().map_err(Fault::io("locked"))?;
        let locked = match locked.is_dir() {
            true => Identity::from(&locked).is_same_file(self.identity),
            false => Identity::of(&self.path.join(LOCK))?.is_same_file(Identity::from(&locked)),
        };
        Ok(locked)
    }

    #[cfg(not(unix))]
    #[allow(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
    fn is_locked(&self) -> Result<bool, Fault> {
        Ok(true)
    }
}

impl Identity {
    pub(super) fn of(path: &Path) -> Result<Self, Fault> {
        Ok(Self::from(&fs::metadata(path).map_err(Fault::io("read"))?))
    }

    #[cfg(unix)]
    pub(super) fn from(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let changed = (found.ctime(), found.ctime_nsec(), found.size());
        Self { node: (found.dev(), found.ino()), changed }
    }

    /// Other systems have no file numbers here, so the time of the last change is used.
    #[cfg(not(unix))]
    pub(super) fn from(found: &Metadata) -> Self {
        let at = found.modified().ok();
        let at =
            at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        Self { node: (0, 0), changed: (at.as_secs() as i64, at.subsec_nanos().into(), found.len()) }
    }

    pub(super) fn is_same_file(self, other: Self) -> bool {
        self.node == other.node
    }
}

fn create_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        create_all(above)?;
    }
    create_dir(path)
}

/// Makes a directory, durably; the one above it has to be there.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) if !path.is_dir() => {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "a file is in the way"));
        }
        _ => {}
    }
    path.parent().map_or(Ok(()), sync_dir)?;
    sync_dir(path)
}

fn lock(path: &Path) -> Result<File, Fault> {
    if cfg!(unix) {
        let directory = File::open(path).map_err(Fault::io("opened"))?;
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::WouldBlock) => return Err(Fault::InUse),
            // A file system that locks files only.
            Err(TryLockError::Error(error)) => tracing::debug!(
                "the directory {} cannot be locked ({error}); locking the file `{LOCK}` in it instead",
                path.display()
            ),
        }
    }
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path.join(LOCK)).map_err(Fault::io("locked"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::InUse),
        Err(TryLockError::Error(error)) => Err(Fault::Io("locked", error)),
    }
}
