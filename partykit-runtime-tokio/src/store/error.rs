use std::{any::Any, fmt, io, path::PathBuf};

/// Why a [`DiskBackend`](crate::store::DiskBackend) could not be opened.
///
/// ```
/// use partykit_runtime_tokio::store::{DiskBackend, Durability, StoreError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file = tempfile::NamedTempFile::new()?;
/// let error = DiskBackend::open(file.path().join("data"), Durability::Durable).unwrap_err();
/// assert!(matches!(error, StoreError::Io { .. }));
/// assert!(error.to_string().contains("data"), "it says where");
/// # Ok(())
/// # }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open, or another backend of this process.
    #[error(
        "the store in {} is in use by another process, or by another runtime in this one: stop that, or name \
         another directory with `.data(..)`",
        path.display()
    )]
    InUse {
        /// The directory of the store.
        path: PathBuf,
    },
    /// A later release has written the store.
    #[error(
        "the store in {} has format {found}, and this release reads formats up to {known}: use the release that wrote it",
        path.display()
    )]
    NewerFormat {
        /// The directory of the store.
        path: PathBuf,
        /// The format of the store.
        found: u32,
        /// The newest format that this release reads.
        known: u32,
    },
    /// An earlier release has written the store, in a format that this one does not read. Nothing was
    /// changed. The earlier release still reads it.
    #[error(
        "the store in {} has format {found}, and this release reads format {known} only: open it with \
         the release that wrote it, or start with an empty directory",
        path.display()
    )]
    OlderFormat {
        /// The directory of the store.
        path: PathBuf,
        /// The format of the store.
        found: u32,
        /// The format that this release reads.
        known: u32,
    },
    /// The files are not as they were written, so stored rows are lost or wrong. Opening has changed nothing.
    /// Restore a backup, or save what can be read with [`salvage`](super::salvage).
    #[error("the store in {} is damaged: {what}", path.display())]
    Damaged {
        /// The directory of the store.
        path: PathBuf,
        /// Which file, where in it, and what is wrong.
        what: String,
    },
    /// The directory was removed, moved or replaced while this process had it open, or other files were
    /// copied over its own. Until the directory is back or the server is started again, nothing is written to
    /// it, and no commit is confirmed.
    #[error(
        "the store in {} was moved, removed or replaced: {what}; nothing is stored until it is back: \
         stop the server, put the directory in order, and start it again",
        path.display()
    )]
    Moved {
        /// The directory of the store.
        path: PathBuf,
        /// What was found instead.
        what: String,
    },
    /// The engine that keeps the rows has panicked. The store is opened again, with what is on disk.
    #[error("the engine of the store in {} panicked: {what}", path.display())]
    Panicked {
        /// The directory of the store.
        path: PathBuf,
        /// What the panic said.
        what: String,
    },
    /// The operating system refused: no permission, no space, no directory.
    #[error(
        "the store in {} cannot be {doing}: {source}{}", path.display(),
        if matches!(*doing, "created" | "locked") {
            "; name another directory with `.data(..)`, or use `.in_memory()` to keep nothing"
        } else {
            ""
        }
    )]
    Io {
        /// The directory of the store.
        path: PathBuf,
        /// What could not be done, such as "read", "written" or "locked".
        doing: &'static str,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

/// Prints the error's text, as `Display` does: a `main` that returns an error prints this.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What went wrong. [`StoreError`] adds the directory.
#[derive(Debug)]
pub(super) enum Fault {
    Damage(String),
    Moved(String),
    Panic(String),
    InUse,
    Io(&'static str, io::Error),
    /// Files could not be merged; nothing has changed.
    NoSpace(io::Error),
    NewerFormat(u32),
    OlderFormat(u32),
}

impl Fault {
    pub(super) fn damage(what: impl Into<String>) -> Self {
        Self::Damage(what.into())
    }

    pub(super) fn moved(what: impl Into<String>) -> Self {
        Self::Moved(what.into())
    }

    /// Makes a fault of a panic that [`std::panic::catch_unwind`] has caught.
    pub(super) fn panic(payload: &(dyn Any + Send)) -> Self {
        let what = payload.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| payload.downcast_ref::<&str>().copied());
        Self::Panic(what.unwrap_or("it did not say why").to_owned())
    }

    /// For `map_err`: names what could not be done.
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io(doing, error)
    }

    pub(super) fn at(self, path: impl Into<PathBuf>) -> StoreError {
        let path = path.into();
        match self {
            Self::Damage(what) => StoreError::Damaged { path, what },
            Self::Moved(what) => StoreError::Moved { path, what },
            Self::Panic(what) => StoreError::Panicked { path, what },
            Self::InUse => StoreError::InUse { path },
            Self::Io(doing, source) => StoreError::Io { path, doing, source },
            Self::NoSpace(source) => StoreError::Io { path, doing: "merged", source },
            Self::NewerFormat(found) => {
                StoreError::NewerFormat { path, found, known: super::FORMAT }
            }
            Self::OlderFormat(found) => {
                StoreError::OlderFormat { path, found, known: super::FORMAT }
            }
        }
    }
}

impl From<lsm_tree::Error> for Fault {
    fn from(error: lsm_tree::Error) -> Self {
        match error {
            lsm_tree::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damage(format!("a file of the tree is too short: {error}"))
            }
            lsm_tree::Error::Io(error) => Self::Io("used", error),
            error => Self::Damage(format!("a file of the tree: {error:?}")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(what) => write!(f, "damaged: {what}"),
            Self::Moved(what) => write!(f, "moved, removed or replaced: {what}"),
            Self::Panic(what) => write!(f, "its engine panicked: {what}"),
            Self::InUse => f.write_str("in use by another process"),
            Self::Io(doing, error) => write!(f, "it cannot be {doing}: {error}"),
            Self::NoSpace(error) => write!(f, "its files cannot be merged: {error}"),
            Self::NewerFormat(found) => write!(f, "written by a later release, in format {found}"),
            Self::OlderFormat(found) => {
                write!(f, "written by an earlier release, in format {found}")
            }
        }
    }
}
