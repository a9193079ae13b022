//! What a process with jemalloc has on its heap, as jemalloc counts it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use partykit::Result;
use serde_json::Value;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(5);

/// How this process asks jemalloc: the binary that has it knows.
#[derive(Clone, Copy, Debug)]
pub struct Jemalloc {
    /// Bytes that are allocated, active and resident.
    pub heap: fn() -> Result<[usize; 3]>,
    /// All that it counts, as JSON, without its parts that are of one arena or of locks.
    pub counts: fn() -> Result<Vec<u8>>,
}

static JEMALLOC: OnceLock<Jemalloc> = OnceLock::new();

impl Jemalloc {
    /// Says that this process has it.
    pub(crate) fn set(self) {
        JEMALLOC.get_or_init(|| self);
    }

    fn get() -> Result<&'static Self> {
        JEMALLOC.get().ok_or_else(|| "this process has another allocator than jemalloc".into())
    }
}

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

    /// That of this process.
    ///
    /// # Errors
    ///
    /// When it has another allocator.
    pub(crate) fn now() -> Result<Self> {
        let [allocated, active, resident] = (Jemalloc::get()?.heap)()?;
        Ok(Self { allocated, active, resident })
    }
}

impl fmt::Display for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.allocated, self.active, self.resident)
    }
}

/// The smallest size that jemalloc does not take from a bin.
const LEAST_LARGE: u64 = 16 * 1024;

/// Everything that a process has ever asked for. Exact when nothing is kept for threads: see
/// [`Server::start_counting`](crate::child::Server::start_counting).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocations {
    /// How often.
    pub(crate) count: u64,
    /// In the sizes that jemalloc gives. One that is larger than [`LEAST_LARGE`] counts as that.
    pub(crate) bytes: u64,
}

impl Allocations {
    /// Reads what the server has answered.
    pub(crate) fn parse(answer: &str) -> Result<Self> {
        match answer.split_once(' ') {
            Some((count, bytes)) => Ok(Self { count: count.parse()?, bytes: bytes.parse()? }),
            None => Err(format!("no allocations: {answer}").into()),
        }
    }

    /// Those of this process.
    ///
    /// # Errors
    ///
    /// When it has another allocator.
    pub(crate) fn so_far() -> Result<Self> {
        let all: Value = serde_json::from_slice(&(Jemalloc::get()?.counts)()?)?;
        let all = &all["jemalloc"];
        let (classes, arenas) = (&all["arenas"]["bin"], &all["stats.arenas"]["merged"]);
        let number = |value: &Value| value.as_u64().ok_or("jemalloc counts something else");
        // It does not say of what sizes the large ones were.
        let large = number(&arenas["large"]["nmalloc"])?;
        let mut sum = Self { count: large, bytes: large * LEAST_LARGE };
        let (Some(classes), Some(bins)) = (classes.as_array(), arenas["bins"].as_array()) else {
            return Err("jemalloc counts nothing".into());
        };
        for (class, bin) in classes.iter().zip(bins) {
            let count = number(&bin["nmalloc"])?;
            sum.count += count;
            sum.bytes += count * number(&class["size"])?;
        }
        Ok(sum)
    }
}

impl fmt::Display for Allocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.bytes)
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
