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
    /// The store itself: it is in use, damaged, of a later format, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no store in this directory.
    #[error("there is no store in {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The runtime keeps its rooms elsewhere than in a directory of ours.
    #[error(
        "this runtime has no store on disk: it was built with `in_memory()` or with a backend of \
         its own"
    )]
    NoStore,
    /// What is to be made exists already. Nothing was changed.
    #[error("{} exists already; name a path that does not exist", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The copy would lie inside the store that it is a copy of.
    #[error("{} lies inside the store in {}", path.display(), store.display())]
    Inside {
        /// The path.
        path: PathBuf,
        /// The directory of the store.
        store: PathBuf,
    },
    /// The operating system refused, for the copy and not for the store.
    #[error("{} cannot be {doing}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was to be done with it: "written", "read" and so on.
        doing: &'static str,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The copy was made and is not right. It was removed.
    #[error("the copy is damaged: {what}")]
    Wrong {
        /// What is wrong.
        what: String,
    },
    /// What was to be loaded is no dump, or has a line that has no sense. Earlier rooms may be loaded:
    /// see [`load_into`](super::load_into).
    #[error("line {line} of the dump: {what}")]
    Dump {
        /// The number of the line, from 1 on.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// The room is there already, and it was not said that it may be replaced.
    #[error("{room} has rows already; set LoadOptions::replace to replace them")]
    RoomExists {
        /// The room.
        room: RoomAddress,
    },
    /// A part of the store is lost that says which rows are the newest, for example the list of the tree's
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
    /// For `map_err`: what was to be done with what when the operating system refused.
    pub(super) fn io(
        path: impl Into<PathBuf>,
        doing: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, doing, source }
    }
}

/// For `map_err`: which store it was.
pub(super) fn of_store(path: &std::path::Path) -> impl FnOnce(Fault) -> CopyError {
    let path = path.to_owned();
    move |fault| CopyError::Store(fault.at(path))
}
