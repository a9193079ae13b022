use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{
    log::{self, Blank},
    place::Place,
};

/// Makes the next file of the log on a thread of its own, while the one before is written. So commits wait
/// for three of the six syncs between two files.
///
/// Invariant: a file is made only while this process holds the directory's lock, and not while the store is
/// opened again. So dropping this waits for the thread.
#[derive(Debug, Default)]
pub(super) struct Ahead(Option<Next>);

#[derive(Debug)]
struct Next {
    place: Arc<Place>,
    dir: PathBuf,
    index: u64,
    maker: JoinHandle<Option<Blank>>,
}

impl Ahead {
    /// Begins to make a file. If that fails, [`Ahead::take`] returns `None`; the caller makes the
    /// file itself and gets the error.
    pub(super) fn make(&mut self, place: Arc<Place>, dir: PathBuf, index: u64, length: u64) {
        self.end();
        let (where_to, checked) = (dir.clone(), place.clone());
        let make = move || {
            checked.check().ok()?;
            Blank::create(&where_to, index, length).ok()
        };
        let maker = thread::Builder::new().name("partykit-log".into()).spawn(make).ok();
        self.0 = maker.map(|maker| Next { place, dir, index, maker });
    }

    /// Returns the file. `None` if it was not made, or if another one is wanted.
    pub(super) fn take(&mut self, index: u64, length: u64) -> Option<Blank> {
        let blank = self.0.take()?.maker.join().ok().flatten();
        blank.filter(|blank| blank.index == index && blank.length == length)
    }

    /// Removes a file that was made and not taken. If the process is killed before, the next process that
    /// opens the store removes the file.
    fn end(&mut self) {
        let Some(Next { place, dir, index, maker }) = self.0.take() else { return };
        let is_made = maker.join().is_ok_and(|blank| blank.is_some());
        // The file is removed by its path. So the path must still name this directory, not another one in its
        // place.
        if is_made && place.check().is_ok() {
            let _ = fs::remove_file(log::path(&dir, index));
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn ahead(home: &Path, index: u64) -> Ahead {
        let mut ahead = Ahead::default();
        let place = Arc::new(Place::open(home).unwrap());
        ahead.make(place, home.join("log"), index, 4_096);
        ahead
    }

    #[test]
    fn the_file_that_was_made_is_the_one_that_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let blank = ahead(home.path(), 7).take(7, 4_096).expect("it was made");
        assert_eq!((blank.index, blank.length), (7, 4_096));
        assert_eq!(log::files(&home.path().join("log")).unwrap(), [7]);
        assert_eq!(fs::read(log::path(&home.path().join("log"), 7)).unwrap(), [0; 4_096]);
    }

    #[test]
    fn another_one_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        assert!(ahead(home.path(), 7).take(8, 4_096).is_none());
        assert!(ahead(home.path(), 7).take(7, 8_192).is_none());
    }

    #[test]
    fn a_file_that_nobody_takes_goes() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("log");
        drop(ahead(home.path(), 7));
        assert_eq!(log::files(&dir).unwrap(), [0; 0]);
    }

    #[test]
    fn a_directory_that_took_the_place_of_ours_is_left_alone() {
        let above = tempfile::tempdir().unwrap();
        let (home, aside) = (above.path().join("home"), above.path().join("aside"));
        fs::create_dir(&home).unwrap();
        let mut unused = ahead(&home, 7);
        let is_made = || log::path(&home.join("log"), 7).exists();
        while !is_made() {
            std::thread::yield_now();
        }
        fs::rename(&home, &aside).unwrap();
        fs::create_dir_all(home.join("log")).unwrap();
        fs::write(log::path(&home.join("log"), 7), "theirs").unwrap();
        unused.end();
        assert_eq!(fs::read(log::path(&home.join("log"), 7)).unwrap(), b"theirs");
    }

    #[test]
    fn what_cannot_be_made_is_nothing() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("log"), "a file is in the way").unwrap();
        assert!(ahead(home.path(), 7).take(7, 4_096).is_none());
    }
}
