//! The power loss: a shim that writes down what the server does to its directory, and what of it a
//! power loss would have left.

mod content;
mod disk;
mod scribe;
mod self_test;

#[path = "../../shim/src/record.rs"]
#[allow(dead_code, reason = "one side writes what the other one reads")]
mod record;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

pub(crate) use disk::Disk;
pub use scribe::scribe;
pub use self_test::self_test;

/// What a power loss does to changes that were not synced.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "there is no more than all and some")]
pub enum Loss {
    /// None survives.
    Everything,
    /// Some do, as this generator throws: of each file any of its changes, and some of those torn; of
    /// all directories a first part of their changes.
    Something(fastrand::Rng),
}

/// A directory under the shim, and the log of what happens there.
#[derive(Debug)]
pub(crate) struct Power {
    shim: PathBuf,
    directory: PathBuf,
    log: PathBuf,
    /// The disk when the process was started.
    before: Disk,
}

impl Power {
    /// For processes started from now on. All that is in the directory counts as synced.
    pub(crate) fn on(shim: &Path, directory: &Path, log: &Path) -> io::Result<Self> {
        fs::write(log, [])?;
        Ok(Self {
            shim: shim.to_owned(),
            directory: directory.to_owned(),
            log: log.to_owned(),
            before: Disk::scan(directory)?,
        })
    }

    /// What the process has to find in its environment.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 3] {
        [("LD_PRELOAD", &self.shim), (record::DIRECTORY, &self.directory), (record::LOG, &self.log)]
    }

    /// Every path where the directory is not as the log says: where something got past the shim. While
    /// the process runs, and when it was killed, the last change may not be recorded yet.
    pub(crate) fn unseen(&self) -> io::Result<Vec<PathBuf>> {
        // The log first: what is recorded has been done.
        let mut disk = self.before.clone();
        disk.replay(&fs::read(&self.log)?)?;
        disk.differences(&self.directory)
    }

    /// Makes the directory, whose process is dead, what a power loss would have left.
    pub(crate) fn off(mut self, loss: Loss) -> io::Result<()> {
        self.before.replay(&fs::read(&self.log)?)?;
        self.before.lose(loss);
        fs::remove_dir_all(&self.directory)?;
        self.before.write_to(&self.directory)
    }
}

/// The library that cargo has built beside this program, or beside this test.
///
/// # Errors
///
/// When it is not there, or the program is not where cargo puts programs.
pub fn shim() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let name = format!("{}partykit_crash_shim{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let beside = program.ancestors().skip(1).take(2);
    let places =
        beside.flat_map(|directory| [directory.join(&name), directory.join("deps").join(&name)]);
    let found = places.into_iter().find(|path| path.is_file());
    found
        .ok_or_else(|| io::Error::other(format!("there is no {name} beside {}", program.display())))
}
