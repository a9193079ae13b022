use std::{io, path::PathBuf};

use partykit_core::RoomAddress;

use super::super::error::{Fault, StoreError};

/// Why a store could not be copied, checked, dumped, loaded or salvaged.
///
/// ```
/// use partykit_runtime_tokio::store::{self, CopyError};
///
/// let error = store::verify("/no/such/place", |_| ()).unwrap_err();
/// assert!(matches!(error, CopyError::Missing { .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The store itself is in use, damaged, has a later format, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no store in this directory.
    #[error("there is no store in {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The runtime does not use a [`DiskBackend`](crate::store::DiskBackend).
    #[error(
        "this runtime has no store on disk: it was built with `in_memory()` or with a backend of \
         its own"
    )]
    NoStore,
    /// The path of the copy exists already. Nothing was changed.
    #[error("{} exists already; name a path that does not exist", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The path of the copy is inside the store.
    #[error("{} lies inside the store in {}", path.display(), store.display())]
    Inside {
        /// The path.
        path: PathBuf,
        /// The directory of the store.
        store: PathBuf,
    },
    /// The operating system refused to read or write the copy.
    #[error("{} cannot be {doing}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What could not be done, such as "written" or "read".
        doing: &'static str,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The check has found damage in the finished copy. The copy was removed.
    #[error("the copy is damaged: {what}")]
    Wrong {
        /// What is wrong.
        what: String,
    },
    /// The input is no dump, or has a line that cannot be read. Rooms before that line may be loaded already:
    /// see [`load_into`](super::load_into).
    #[error("line {line} of the dump: {what}")]
    Dump {
        /// The number of the line, from 1 on.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// The room has rows already, and [`LoadOptions::replace`](super::LoadOptions::replace) is off.
    #[error("{room} has rows already; set LoadOptions::replace to replace them")]
    RoomExists {
        /// The room.
        room: RoomAddress,
    },
    /// The part of the store that tells which rows are the newest is lost, for example the list of the tree's
    /// files.
    #[error(
        "it is not known which rows of the store in {} are the newest: {what}; set \
         SalvageOptions::doubtful to save doubtful rows too",
        path.display()
    )]
    Doubtful {
        /// The directory of the store.
        path: PathBuf,
        /// What is lost.
        what: String,
    },
}

impl CopyError {
    /// For `map_err`: names the path and what could not be done.
    pub(super) fn io(
        path: impl Into<PathBuf>,
        doing: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, doing, source }
    }
}

/// For `map_err`: adds the path of the store.
pub(super) fn of_store(path: &std::path::Path) -> impl FnOnce(Fault) -> CopyError {
    let path = path.to_owned();
    move |fault| CopyError::Store(fault.at(path))
}
