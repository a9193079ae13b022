//! Faults that tests plant below the log.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

/// The faults of one store. Those of one directory are shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    syncs: AtomicU32,
    writes: AtomicU32,
    directory_sync: AtomicU32,
    panics: Mutex<Option<&'static str>>,
}

impl Faults {
    /// The faults of the store whose log is in this directory.
    pub(super) fn of(log: &Path) -> Self {
        static ALL: LazyLock<Mutex<HashMap<PathBuf, Faults>>> = LazyLock::new(Mutex::default);
        ALL.lock().unwrap().entry(log.to_owned()).or_default().clone()
    }

    /// This number of next syncs fails, after everything was written.
    pub(super) fn fail_syncs(&self, count: u32) {
        self.0.syncs.store(count, Ordering::SeqCst);
    }

    /// This number of next writes fails, after half of the bytes were written.
    pub(super) fn fail_writes(&self, count: u32) {
        self.0.writes.store(count, Ordering::SeqCst);
    }

    /// The next call of the engine at this place panics.
    pub(super) fn panic_at(&self, place: &'static str) {
        *self.0.panics.lock().unwrap() = Some(place);
    }

    /// Whether the panic is still to come.
    pub(super) fn is_to_panic(&self) -> bool {
        self.0.panics.lock().unwrap().is_some()
    }

    /// Panics here, if that is planned.
    pub(super) fn trip(&self, place: &'static str) {
        let taken = self.0.panics.lock().unwrap().take_if(|planned| *planned == place);
        assert!(taken.is_none(), "a planned panic in {place}");
    }

    /// The n-th sync of the store's directory from now on fails, after it was done.
    pub(super) fn fail_directory_sync(&self, n: u32) {
        self.0.directory_sync.store(n, Ordering::SeqCst);
    }

    pub(super) fn after_directory_sync(&self) -> io::Result<()> {
        let is_due = take(&self.0.directory_sync).is_some()
            && self.0.directory_sync.load(Ordering::SeqCst) == 0;
        if is_due { Err(io::Error::other("a planned failure to sync a directory")) } else { Ok(()) }
    }

    pub(super) fn before_sync(&self) -> io::Result<()> {
        take(&self.0.syncs).map_or(Ok(()), |()| Err(io::Error::other("a planned failure to sync")))
    }

    pub(super) fn before_write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let Some(()) = take(&self.0.writes) else { return Ok(()) };
        file.write_all(&bytes[..bytes.len() / 2])?;
        Err(io::Error::other("a planned failure to write"))
    }
}

fn take(count: &AtomicU32) -> Option<()> {
    let less = |count: u32| count.checked_sub(1);
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).ok().map(drop)
}
