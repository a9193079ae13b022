use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{
    super::{home::sync_dir, place::Identity},
    CopyError, Progress,
    error::of_store,
    verify,
    view::View,
};

/// A file that is locked while its directory is being made.
const UNFINISHED: &str = "unfinished";

/// A directory that is being made, under a name of its own. If it is dropped before it is complete, the
/// directory is removed.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    to: PathBuf,
    lock: File,
    is_finished: bool,
}

impl Partial {
    /// Begins to make `to`. Removes what a killed process has left of it.
    pub(super) fn make(to: &Path) -> Result<Self, CopyError> {
        let to = std::path::absolute(to).map_err(CopyError::io(to, "found"))?;
        if to.symlink_metadata().is_ok() {
            return Err(CopyError::Exists { path: to });
        }
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = to.with_file_name(name);
        if path.symlink_metadata().is_ok() {
            remove_left_over(&path)?;
        }
        // Two callers may make the same directory at the same time, in this process or in another one. The
        // directory belongs to the one that has locked the file that the path names now.
        let made = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound if is_there(path.parent()) => {
                CopyError::Exists { path: path.clone() }
            }
            _ => CopyError::io(&path, "made")(error),
        };
        fs::create_dir(&path).map_err(made)?;
        let lock = File::create_new(path.join(UNFINISHED)).map_err(made)?;
        if is_mine(&lock, &path)? {
            Ok(Self { path, to, lock, is_finished: false })
        } else {
            Err(CopyError::Exists { path })
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Verifies the store in this directory. Fails if something is wrong. A directory without a store is
    /// accepted: nothing was ever written to that store.
    pub(super) fn check(self, progress: &mut dyn FnMut(Progress)) -> Result<Self, CopyError> {
        let view = View::closed(&self.path).map_err(of_store(&self.path))?;
        let found = view.map(|view| verify::check(&view, progress)).transpose()?;
        match found.as_ref().and_then(|found| found.findings.first()) {
            Some(finding) => Err(CopyError::Wrong { what: finding.to_string() }),
            None => Ok(self),
        }
    }

    /// Renames the directory to its final name, durably. Everything in it is synced already.
    pub(super) fn finish(mut self) -> Result<PathBuf, CopyError> {
        if self.to.symlink_metadata().is_ok() {
            return Err(CopyError::Exists { path: self.to.clone() });
        }
        let failed = |doing| CopyError::io(&self.to, doing);
        fs::rename(&self.path, &self.to).map_err(failed("named"))?;
        self.is_finished = true;
        let above = self.to.parent().unwrap_or(&self.to);
        let remove = || {
            sync_dir(above)?;
            fs::remove_file(self.to.join(UNFINISHED))?;
            sync_dir(&self.to)
        };
        remove().map_err(failed("synced"))?;
        Ok(self.to.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_finished {
            // If it cannot be removed, its name shows what it is, and the next backup tries again.
            let _ = remove(&self.path);
        }
        let _ = self.lock.unlock();
    }
}

/// Fails if `to` is inside the store, or if its parent does not exist.
pub(super) fn check_place(store: &Path, to: &Path) -> Result<(), CopyError> {
    let to = std::path::absolute(to).map_err(CopyError::io(to, "found"))?;
    let Some(above) = to.parent().filter(|_| to.file_name().is_some()) else {
        return Err(CopyError::Exists { path: to });
    };
    let above = above.canonicalize().map_err(CopyError::io(above, "used"))?;
    // The store may have no directory yet, if nothing was ever written to it.
    let store = store.canonicalize().unwrap_or_else(|_| store.to_owned());
    if above.starts_with(&store) {
        return Err(CopyError::Inside { path: to, store });
    }
    Ok(())
}

/// Locks the file, without waiting. `false` if another process has locked it, or if it is no longer the file
/// in this directory. Then the directory belongs to the other process.
fn is_mine(file: &File, path: &Path) -> Result<bool, CopyError> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(CopyError::io(path, "locked")(error)),
    }
    let mine = Identity::from(&file.metadata().map_err(CopyError::io(path, "read"))?);
    let found = fs::metadata(path.join(UNFINISHED));
    Ok(found.is_ok_and(|found| Identity::from(&found).is_same_file(mine)))
}

fn is_there(path: Option<&Path>) -> bool {
    path.is_some_and(Path::is_dir)
}

fn remove_left_over(path: &Path) -> Result<(), CopyError> {
    let exists = || CopyError::Exists { path: path.to_owned() };
    let failed = CopyError::io(path, "removed");
    match File::open(path.join(UNFINISHED)) {
        Ok(lock) if is_mine(&lock, path)? => remove(path).map_err(failed),
        Ok(_) => Err(exists()),
        // The other process was killed before it made that file. Its directory is empty then.
        Err(_) => fs::remove_dir(path).map_err(|_| exists()),
    }
}

/// Removes the directory. The lock file goes last, because it tells who owns the directory.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != UNFINISHED {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(path.join(UNFINISHED))?;
    // The lock file is gone, so another process may remove this directory first and make its own.
    match fs::remove_dir(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Four begin at once, over what a killed process has left in every second round.
    #[test]
    fn one_of_many_makes_it_and_the_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..500 {
            let to = directory.path().join(round.to_string());
            if round % 2 == 1 {
                let left = Partial::make(&to).unwrap();
                fs::write(left.path().join("half"), "a copy").unwrap();
                // As if the process had died: the lock is given back, and the files stay.
                left.lock.unlock().unwrap();
                let _ = std::mem::ManuallyDrop::new(left);
            }
            let begin = Barrier::new(4);
            let make = || {
                begin.wait();
                Partial::make(&to)
            };
            let made = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(make));
                threads.map(|thread| thread.join().unwrap())
            });
            let (mine, refused) = made.into_iter().partition::<Vec<_>, _>(Result::is_ok);
            assert_eq!(mine.len(), 1, "round {round}: {refused:?}");
            for error in refused {
                assert!(matches!(error, Err(CopyError::Exists { .. })), "round {round}: {error:?}");
            }
            let mine = mine.into_iter().next().unwrap().unwrap();
            assert!(
                is_mine(&File::open(mine.path().join(UNFINISHED)).unwrap(), mine.path())
                    .is_ok_and(|it| !it)
            );
            assert!(!mine.path().join("half").exists());
        }
    }
}
