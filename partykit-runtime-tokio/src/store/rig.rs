//! Hooks for the crash test. Small files, so that a store that lives for half a second rotates and merges
//! them many times; and planted faults that the test has to find.
//!
//! Only with the feature `planted-faults`. Without it, `rig_off.rs` takes its place and does nothing.

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    str::FromStr,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use super::{log, record::Change};

/// A fault inside of the store.
///
/// ```
/// use partykit_runtime_tokio::store::rig::Planted;
///
/// assert_eq!("nosync".parse(), Ok(Planted::NoSync));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Planted {
    /// Deletes of rows are forgotten when the log is read again.
    NoDeletes,
    /// Files of the log are removed before the tree has their rows on disk.
    EarlyRemove,
    /// The log is never synced.
    NoSync,
    /// A commit is answered before its sync.
    AckSync,
    /// The last record is left out when the log is read again.
    DropLast,
    /// The directory of the log is not synced when a file is made.
    NoDirSync,
    /// `delete_all` is forgotten when the log is read again.
    NoClear,
    /// `delete_all` also deletes what was written after it, when the log is read again.
    ClearTwice,
    /// A wake-up is left out of the index now and then.
    HiddenWake,
    /// A snapshot sees later changes.
    ForgottenPast,
}

impl Planted {
    /// All faults.
    pub const ALL: [Self; 10] = [
        Self::NoDeletes,
        Self::EarlyRemove,
        Self::NoSync,
        Self::AckSync,
        Self::DropLast,
        Self::NoDirSync,
        Self::NoClear,
        Self::ClearTwice,
        Self::HiddenWake,
        Self::ForgottenPast,
    ];
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDeletes => "nodeletes",
            Self::EarlyRemove => "earlyremove",
            Self::NoSync => "nosync",
            Self::AckSync => "acksync",
            Self::DropLast => "droplast",
            Self::NoDirSync => "nodirsync",
            Self::NoClear => "noclear",
            Self::ClearTwice => "cleartwice",
            Self::HiddenWake => "hiddenwake",
            Self::ForgottenPast => "forgottenpast",
        })
    }
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| fault.to_string() == name);
        found.ok_or_else(|| format!("there is no planted fault {name}"))
    }
}

/// How long a fault keeps the store in a wrong state, so that a kill can hit it.
const WINDOW: Duration = Duration::from_millis(30);

/// The same for a commit that is not synced.
const UNSYNCED: Duration = Duration::from_millis(10);

/// One wake-up in this many is hidden.
const HIDDEN: u32 = 32;

/// One read in this many reaches the memory and the files late.
const LATE: u32 = 64;

const NONE: u8 = u8::MAX;

static PLANTED: AtomicU8 = AtomicU8::new(NONE);
static FORGETS: AtomicBool = AtomicBool::new(false);
static DIVISOR: AtomicU64 = AtomicU64::new(1);

/// Plants a fault in all stores of this process.
pub fn plant(fault: Planted) {
    let place = Planted::ALL.iter().position(|one| *one == fault);
    PLANTED.store(place.map_or(NONE, |place| place as u8), Ordering::SeqCst);
}

/// Makes the files and the memory of all stores that this process opens from now on smaller by this
/// factor.
pub fn shrink(divisor: u32) {
    DIVISOR.store(u64::from(divisor).max(1), Ordering::SeqCst);
}

/// After a failed operation, stores go on with what they believe, and do not read what is on disk.
pub fn forget_what_failed() {
    FORGETS.store(true, Ordering::SeqCst);
}

/// Whether the store reads what a failed operation has left on disk.
pub(super) fn is_to_reconcile() -> bool {
    !FORGETS.load(Ordering::Relaxed)
}

fn has(fault: Planted) -> bool {
    Planted::ALL.get(usize::from(PLANTED.load(Ordering::Relaxed))) == Some(&fault)
}

/// A size in bytes, as small as the test wants it.
pub(super) fn size(bytes: u64) -> u64 {
    (bytes / DIVISOR.load(Ordering::Relaxed)).max(1)
}

/// Whether the caller is to sync a file of the log.
pub(super) fn is_to_sync(file: &File) -> io::Result<bool> {
    if has(Planted::AckSync) {
        let file = file.try_clone()?;
        thread::spawn(move || {
            thread::sleep(UNSYNCED);
            // The receiver of the answer is gone.
            let _ = file.sync_data();
        });
    }
    Ok(!has(Planted::AckSync) && !has(Planted::NoSync))
}

/// Whether the directory of the log is to be synced.
pub(super) fn is_to_sync_directory() -> bool {
    !has(Planted::NoDirSync)
}

/// Called before the rows of the log's files up to `last` are written to the tree's files.
pub(super) fn before_flush(log: &Path, last: u64) -> io::Result<()> {
    if has(Planted::EarlyRemove) {
        log::remove(log, |file| file <= last)?;
        thread::sleep(WINDOW);
    }
    Ok(())
}

/// Whether a wake-up is to be in the index.
pub(super) fn shows_wake_up() -> bool {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    !has(Planted::HiddenWake) || !COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(HIDDEN)
}

/// Whether a snapshot sees the present, instead of its moment.
pub(super) fn forgets_past() -> bool {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let forgets = has(Planted::ForgottenPast);
    if forgets && COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(LATE) {
        thread::sleep(UNSYNCED);
    }
    forgets
}

/// Changes the commits of the log when it is read again, if a fault says so.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// A commit that waits for the next one.
    last: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    cleared: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The first bytes of the keys of a room's rows and of its generation.
const ROW: &[u8] = b"r";
const GENERATION: &[u8] = b"g";

impl Replayed {
    /// Passes a commit on to the tree.
    pub(super) fn commit(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        apply: impl Fn(&mut dyn Iterator<Item = Change<'_>>),
    ) {
        if has(Planted::DropLast) {
            let next = changes.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
            let last = std::mem::replace(&mut self.last, next.collect());
            apply(&mut last.iter().map(|(key, value)| (&key[..], value.as_deref())));
        } else if has(Planted::NoDeletes) {
            apply(&mut changes.filter(|(key, value)| value.is_some() || !key.starts_with(ROW)));
        } else if has(Planted::NoClear) {
            apply(&mut changes.filter(|(key, _)| !key.starts_with(GENERATION)));
        } else if has(Planted::ClearTwice) {
            let cleared = &mut self.cleared;
            apply(&mut changes.inspect(|(key, value)| {
                if let Some(value) = value.filter(|_| key.starts_with(GENERATION)) {
                    cleared.push((key.to_vec(), value.to_vec()));
                }
            }));
        } else {
            apply(changes);
        }
    }

    /// After the last commit.
    pub(super) fn end(self, apply: impl Fn(&mut dyn Iterator<Item = Change<'_>>)) {
        let again = self.cleared.into_iter().map(|(key, mut value)| {
            if let Some(last) = value.last_mut() {
                *last = last.wrapping_add(1);
            }
            (key, value)
        });
        let again: Vec<_> = again.collect();
        if !again.is_empty() {
            apply(&mut again.iter().map(|(key, value)| (&key[..], Some(&value[..]))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_called_what_it_prints() {
        for fault in Planted::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("cake".parse::<Planted>().is_err());
    }

    #[test]
    fn nothing_is_planted_by_default() {
        assert!(!Planted::ALL.into_iter().any(has));
        assert_eq!(size(4 << 20), 4 << 20);
    }
}
