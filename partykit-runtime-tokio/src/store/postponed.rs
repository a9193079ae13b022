use std::{
    io,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::warn;

use super::guard::lock;
use crate::metrics;

/// The first pause after a merge that found no space. It doubles each time.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The log says so at most once in this time.
const SAID: Duration = Duration::from_secs(60);

/// How a store on disk is right now.
///
/// ```
/// use partykit_runtime_tokio::store::{DiskBackend, Durability};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = tempfile::tempdir()?;
/// let store = DiskBackend::open(directory.path(), Durability::Durable)?;
/// assert_eq!(store.stats().merges_postponed, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct StoreStats {
    /// How often files could not be merged because the disk had no space for it, since the store was
    /// opened. Reads and commits go on, and reads become slower with the number of files.
    pub merges_postponed: u64,
    /// Whether merging waits for space now. It is tried again after 1 s at first and every 60 s at last.
    pub waits_for_space: bool,
}

/// Counts merges that found no space. It is kept when the store is opened again.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    count: AtomicU64,
    is_waiting: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rest: Option<Duration>,
    said: Option<Instant>,
}

impl Postponed {
    /// Notes that there was no space. Returns how long to pause.
    pub(super) fn again(&self, path: &Path, error: &io::Error) -> Duration {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.is_waiting.store(true, Ordering::Relaxed);
        metrics::merge_postponed();
        let mut state = lock(&self.state);
        let rest = state.rest.map_or(FIRST, |rest| (rest * 2).min(LONGEST));
        state.rest = Some(rest);
        let now = Instant::now();
        if state.said.is_none_or(|said| now >= said + SAID) {
            state.said = Some(now);
            warn!(
                "cannot merge the files in {}: {error}; rooms go on, but reads become slower: make space \
                 on that disk; trying again in {rest:?}",
                path.display()
            );
        }
        rest
    }

    /// Notes that a merge has succeeded.
    pub(super) fn end(&self) {
        self.is_waiting.store(false, Ordering::Relaxed);
        lock(&self.state).rest = None;
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> StoreStats {
        StoreStats {
            merges_postponed: self.count.load(Ordering::Relaxed),
            waits_for_space: self.is_waiting(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_a_minute_and_begin_again_when_it_was_done() {
        let postponed = Postponed::default();
        let no_space = io::Error::from(io::ErrorKind::StorageFull);
        let rests: Vec<_> =
            (0..8).map(|_| postponed.again(Path::new("data"), &no_space).as_secs()).collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
        let expected = StoreStats { merges_postponed: 8, waits_for_space: true };
        assert_eq!(postponed.stats(), expected);
        postponed.end();
        assert!(!postponed.stats().waits_for_space);
        assert_eq!(postponed.again(Path::new("data"), &no_space), FIRST);
    }
}
