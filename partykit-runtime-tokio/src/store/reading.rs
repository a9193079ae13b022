use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, task::spawn_blocking};

use super::error::Fault;

/// How long a read may keep a thread that others wait for. What takes longer goes on elsewhere.
const AT_ONCE: Duration = Duration::from_micros(200);

/// A step that takes longer has waited for the disk.
const SLOW: Duration = Duration::from_millis(1);

/// For how long all reads then begin elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// A read in steps of some microseconds, unless the disk is asked: each looks at a bounded number of keys,
/// removed ones included.
pub(super) trait Read: Send + 'static {
    type Rows: Send;

    /// Gives the rows when it has them all.
    fn step(&mut self) -> Result<Option<Self::Rows>, Fault>;
}

/// Where reads are done: at once, because a row in memory takes 2 µs and the way to another thread and
/// back 20 µs; but a read that takes long, or that follows one that waited for the disk, does so on a
/// thread of Tokio's pool for what blocks.
#[derive(Debug)]
pub(super) struct Readers {
    since: Instant,
    /// Until when reads begin elsewhere, in microseconds.
    elsewhere: AtomicU64,
}

impl Default for Readers {
    fn default() -> Self {
        Self { since: Instant::now(), elsewhere: AtomicU64::new(0) }
    }
}

impl Readers {
    pub(super) async fn read<R: Read>(&self, mut read: R) -> Result<R::Rows, Fault> {
        let has_others = Handle::try_current().is_ok();
        let begin = Instant::now();
        let mut before = begin;
        if !has_others || self.micros(begin) >= self.elsewhere.load(Ordering::Relaxed) {
            loop {
                if let Some(rows) = read.step()? {
                    return Ok(rows);
                }
                let now = Instant::now();
                if now - before > SLOW {
                    self.elsewhere.store(self.micros(now + ELSEWHERE), Ordering::Relaxed);
                }
                if has_others && now - begin > AT_ONCE {
                    break;
                }
                before = now;
            }
        }
        let rest = spawn_blocking(move || {
            loop {
                if let Some(rows) = read.step()? {
                    return Ok(rows);
                }
            }
        });
        rest.await.unwrap_or_else(|error| {
            Err(Fault::damage(format!("the task of a read ended: {error}")))
        })
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.since).as_micros() as u64
    }
}
