//! What a process with jemalloc has on its heap, as jemalloc counts it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use partykit::Result;
use tikv_jemalloc_ctl::{epoch, stats};

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(5);

/// Bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heap {
    /// What the program has asked for and not given back.
    pub(crate) allocated: usize,
    /// The pages that hold any of it.
    pub(crate) active: usize,
    /// All pages that the process has, those included that are free and kept for later.
    pub(crate) resident: usize,
}

impl Heap {
    /// Reads what the server has answered.
    pub(crate) fn parse(answer: &str) -> Result<Self> {
        let numbers: Result<Vec<usize>, _> = answer.split(' ').map(str::parse).collect();
        match numbers?[..] {
            [allocated, active, resident] => Ok(Self { allocated, active, resident }),
            _ => Err(format!("no heap: {answer}").into()),
        }
    }

    fn now() -> Result<Self, tikv_jemalloc_ctl::Error> {
        epoch::advance()?;
        let (allocated, active) = (stats::allocated::read()?, stats::active::read()?);
        Ok(Self { allocated, active, resident: stats::resident::read()? })
    }
}

/// The highest values that were seen. Its thread ends with the process.
#[derive(Debug, Default)]
pub(crate) struct Peak {
    allocated: AtomicUsize,
    active: AtomicUsize,
    resident: AtomicUsize,
}

impl Peak {
    /// Looks from now on.
    pub(crate) fn watch() -> Arc<Self> {
        let peak = Arc::new(Self::default());
        let seen = peak.clone();
        thread::spawn(move || {
            while let Ok(heap) = Heap::now() {
                seen.allocated.fetch_max(heap.allocated, Ordering::Relaxed);
                seen.active.fetch_max(heap.active, Ordering::Relaxed);
                seen.resident.fetch_max(heap.resident, Ordering::Relaxed);
                thread::sleep(EVERY);
            }
        });
        peak
    }

    /// What is highest since this was asked before, for [`Heap::parse`].
    pub(crate) fn take(&self) -> String {
        // Somebody may ask before the first look.
        let now = Heap::now().unwrap_or_default();
        let take = |peak: &AtomicUsize, now: usize| peak.swap(0, Ordering::Relaxed).max(now);
        let allocated = take(&self.allocated, now.allocated);
        let active = take(&self.active, now.active);
        format!("{allocated} {active} {}", take(&self.resident, now.resident))
    }
}
