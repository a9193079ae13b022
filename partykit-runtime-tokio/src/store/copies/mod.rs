//! Copies of a store, and tools that read its files directly: [backup](DiskBackend::backup), [`verify`],
//! [`dump`], [`load`] and [`salvage`].

mod archive;
mod backup;
mod dump;
mod error;
mod layout;
mod line;
pub(super) mod list;
mod load;
mod merge;
mod partial;
mod rooms;
mod salvage;
mod table;
mod verify;
mod view;

use std::{fmt, path::PathBuf};

use partykit_core::{RoomAddress, RoomId};

pub use self::{
    backup::{Backup, BackupOptions},
    dump::{Dump, dump},
    error::CopyError,
    load::{Load, LoadOptions, load, load_into},
    salvage::{Salvage, SalvageOptions, salvage},
    verify::{Verification, verify},
};

/// The progress of a copy or a check. Callbacks get it at most some times a second.
///
/// ```no_run
/// use partykit_runtime_tokio::store;
///
/// let report = store::verify("/var/lib/board", |progress| eprintln!("{progress}"))?;
/// # Ok::<(), store::CopyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How many bytes of this stage are done.
    pub done: u64,
    /// How many bytes this stage has. `None` if that is not known.
    pub total: Option<u64>,
}

/// What is being done.
///
/// ```
/// use partykit_runtime_tokio::store::Stage;
///
/// assert_ne!(Stage::Reading, Stage::Writing);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Files are linked or copied.
    Copying,
    /// Files are compared with their checksums.
    Checking,
    /// Rows are read.
    Reading,
    /// Rows are written.
    Writing,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Copying => "copying",
            Stage::Checking => "checking",
            Stage::Reading => "reading",
            Stage::Writing => "writing",
        };
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        match self.total {
            Some(total) => {
                write!(f, "{stage}: {:.1} of {:.1} MiB", mebibytes(self.done), mebibytes(total))
            }
            None => write!(f, "{stage}: {:.1} MiB", mebibytes(self.done)),
        }
    }
}

/// A damage in a store.
///
/// Prints as one line: the file, the position, and what is wrong.
///
/// ```
/// use partykit_runtime_tokio::store::{self, Finding};
///
/// fn print(findings: &[Finding]) {
///     findings.iter().for_each(|finding| println!("{finding}"));
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file, as a path inside the store's directory.
    pub file: PathBuf,
    /// The position in the file in bytes. `None` if the whole file is meant.
    pub at: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    fn new(file: impl Into<PathBuf>, at: Option<u64>, what: impl Into<String>) -> Self {
        Self { file: file.into(), at, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(at) = self.at {
            write!(f, ", byte {at}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Which rooms are meant.
///
/// ```
/// use partykit_runtime_tokio::store::Selection;
///
/// let lobby = Selection::room("chat", "lobby")?;
/// assert_ne!(lobby, Selection::party("chat"));
/// # Ok::<(), partykit_core::InvalidRoomId>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// All rooms of all parties.
    #[default]
    All,
    /// All rooms of a party.
    Party(String),
    /// One room.
    Room(RoomAddress),
}

impl Selection {
    /// All rooms of a party.
    pub fn party(party: impl Into<String>) -> Self {
        Self::Party(party.into())
    }

    /// One room.
    ///
    /// # Errors
    ///
    /// When there can be no such room: see [`RoomId`].
    pub fn room(party: &str, room: &str) -> Result<Self, partykit_core::InvalidRoomId> {
        Ok(Self::Room(RoomAddress::new(party, RoomId::new(room)?)))
    }

    fn has(&self, room: &RoomAddress) -> bool {
        match self {
            Self::All => true,
            Self::Party(party) => party == room.party(),
            Self::Room(one) => one == room,
        }
    }
}

/// Reports progress from time to time.
struct Teller<'a> {
    tell: &'a mut dyn FnMut(Progress),
    progress: Progress,
    told: u64,
}

/// Progress is reported after this many bytes.
const OFTEN: u64 = 4 << 20;

impl<'a> Teller<'a> {
    fn new(stage: Stage, total: Option<u64>, tell: &'a mut dyn FnMut(Progress)) -> Self {
        let progress = Progress { stage, done: 0, total };
        tell(progress);
        Self { tell, progress, told: 0 }
    }

    fn add(&mut self, bytes: u64) {
        self.progress.done += bytes;
        if self.progress.done >= self.told + OFTEN {
            self.told = self.progress.done;
            (self.tell)(self.progress);
        }
    }
}

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        (self.tell)(self.progress);
    }
}
