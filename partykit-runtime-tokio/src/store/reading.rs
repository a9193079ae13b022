use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, task::spawn_blocking};

use super::error::Fault;

/// How long a read may run on a thread of the async runtime. A longer read goes on in the blocking pool.
const AT_ONCE: Duration = Duration::from_micros(200);

/// A step that takes longer than this has waited for the disk.
const SLOW: Duration = Duration::from_millis(1);

/// For this long after such a step, all reads begin in the blocking pool.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// A read in small steps. A step looks at a limited number of keys, removed ones included. It takes some
/// microseconds, unless it waits for the disk.
pub(super) trait Read: Send + 'static {
    type Rows: Send;

    /// Takes a step. Returns the rows when all are found.
    fn step(&mut self) -> Result<Option<Self::Rows>, Fault>;
}

/// Decides where reads are done. A row in memory takes 2 µs, and the way to another thread and back takes 20
/// µs, so a read begins on the caller's thread. A read that takes long, or that follows one that waited for
/// the disk, runs on a thread of Tokio's blocking pool.
#[derive(Debug)]
pub(super) struct Readers {
    since: Instant,
    /// Until this moment, in microseconds, reads begin in the blocking pool.
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
