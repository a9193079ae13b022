use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{sync::Notify, time::timeout};
use tracing::warn;

use super::{Link, queue::SMALL, sweeper::Second};

/// A room waits this long for memory, then goes on without it.
const ROOM_WAITS: Duration = Duration::from_secs(1);

/// A client that has taken nothing for this many seconds may be closed to free the memory that it holds.
const IDLE: Second = 2;

/// How much memory may be taken by what waits for clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboundLimits {
    /// For all clients together, in bytes.
    pub(crate) all: usize,
    /// For one client, in bytes.
    pub(crate) per_client: usize,
}

impl Default for OutboundLimits {
    /// 256 MiB for all, and 64 MiB for one client: one handler may send that much.
    fn default() -> Self {
        Self { all: 256 << 20, per_client: 64 << 20 }
    }
}

/// The memory of everything that waits for the clients of a runtime, and for which clients it waits.
///
/// A frame counts once, even if it waits for many clients, and as long as it is in memory. Its place in each
/// client's queue counts too. Above the limit, rooms wait a moment before they send more, and clients that
/// read nothing are closed, beginning with the one that has read nothing for the longest time. A client that
/// reads is closed only if this did not help: above five quarters of the limit, the client for which most
/// bytes wait is closed first.
pub(crate) struct Outbound {
    limits: OutboundLimits,
    held: AtomicUsize,
    /// Keyed by the memory address of the entry.
    behind: Mutex<HashMap<usize, Arc<Entry>>>,
    relieving: Mutex<()>,
    /// When a look at all clients last found no idle one.
    looked: AtomicU32,
    relieved: Notify,
}

/// A client for which frames wait.
struct Entry {
    link: Weak<Link>,
    moved: AtomicU32,
    cost: AtomicUsize,
}

impl Outbound {
    pub(crate) fn new(limits: OutboundLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            held: AtomicUsize::new(0),
            behind: Mutex::default(),
            relieving: Mutex::default(),
            looked: AtomicU32::new(0),
            relieved: Notify::new(),
        })
    }

    /// What a room has to wait for before it sends more. `None` if it need not wait.
    pub(crate) fn relief(self: &Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        if !self.is_over() {
            return None;
        }
        let outbound = self.clone();
        Some(Box::pin(async move {
            let relieved = async {
                loop {
                    let relieved = outbound.relieved.notified();
                    if !outbound.is_over() {
                        return;
                    }
                    relieved.await;
                }
            };
            let _ = timeout(ROOM_WAITS, relieved).await;
        }))
    }

    /// Closes clients while too much waits. No lock of a link may be held.
    pub(super) fn relieve(&self, now: Second) {
        let Ok(_only_one) = self.relieving.try_lock() else { return };
        let most = self.limits.all / 4 * 5;
        if self.held() <= most && self.looked.load(Ordering::Relaxed) == now {
            return;
        }
        let mut behind: Vec<Arc<Entry>> = self.entries().values().cloned().collect();
        let idle = |entry: &Entry| now.saturating_sub(entry.moved()) >= IDLE;
        behind.sort_unstable_by_key(|entry| match idle(entry) {
            true => (entry.moved(), Reverse(entry.cost())),
            false => (Second::MAX, Reverse(entry.cost())),
        });
        let mut closed = 0;
        for entry in &behind {
            let held = self.held();
            // One eighth more than needed is freed, so that not every frame comes here.
            let enough = if idle(entry) { self.limits.all / 8 * 7 } else { most };
            if held <= enough {
                break;
            }
            if let Some(link) = entry.link.upgrade() {
                link.give_up();
                closed += 1;
            }
        }
        if closed == 0 {
            self.looked.store(now, Ordering::Relaxed);
        } else {
            warn!(
                closed,
                limit = self.limits.all,
                "closed clients with 1013: what waits for all clients together has reached \
                 Builder::max_outbound"
            );
        }
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.held() > self.limits.all
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<usize, Arc<Entry>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn moved(&self) -> Second {
        self.moved.load(Ordering::Relaxed)
    }

    fn cost(&self) -> usize {
        self.cost.load(Ordering::Relaxed)
    }
}

/// A party's part of an [`Outbound`].
pub(crate) struct Ledger {
    outbound: Arc<Outbound>,
    held: AtomicUsize,
}

impl Ledger {
    /// What a frame takes in memory beside its bytes.
    const FRAME: usize = 96;

    pub(crate) fn new(outbound: Arc<Outbound>) -> Arc<Self> {
        Arc::new(Self { outbound, held: AtomicUsize::new(0) })
    }

    /// The bytes of memory that wait for the party's clients.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// An encoded message. It is counted unless it is small: small frames are copied into a queue's own
    /// piece.
    pub(super) fn frame(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        if bytes.len() > SMALL { self.count(bytes) } else { bytes }
    }

    /// The same bytes, counted until the last clone is dropped.
    pub(super) fn count(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.add(bytes.len() + Self::FRAME);
        Bytes::from_owner(Counted { bytes, ledger: self.clone() })
    }

    pub(super) fn per_client(&self) -> usize {
        self.outbound.limits.per_client
    }

    /// Closes clients if too much waits. No lock of a link may be held.
    pub(super) fn relieve(&self, now: Second) {
        if self.outbound.is_over() {
            self.outbound.relieve(now);
        }
    }

    fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.outbound.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        let before = self.outbound.held.fetch_sub(bytes, Ordering::Relaxed);
        let limit = self.outbound.limits.all;
        if before > limit && before - bytes <= limit {
            self.outbound.relieved.notify_waiters();
        }
    }
}

/// Bytes that a ledger counts.
struct Counted {
    bytes: Bytes,
    ledger: Arc<Ledger>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ledger.subtract(self.bytes.len() + Ledger::FRAME);
    }
}

/// A queue's entry in a ledger. It counts the queue's own memory, and the client may be closed for what
/// waits.
pub(super) struct Charge {
    ledger: Arc<Ledger>,
    entry: Arc<Entry>,
    own: usize,
}

impl Charge {
    pub(super) fn new(ledger: &Arc<Ledger>, link: &Weak<Link>) -> Self {
        let (moved, cost) = (AtomicU32::new(0), AtomicUsize::new(0));
        let entry = Arc::new(Entry { link: link.clone(), moved, cost });
        ledger.outbound.entries().insert(Arc::as_ptr(&entry).addr(), entry.clone());
        Self { ledger: ledger.clone(), entry, own: 0 }
    }

    /// `own` is the memory of this queue alone; `cost` includes its share of the frames.
    pub(super) fn update(&mut self, own: usize, cost: usize, moved: Second) {
        self.entry.moved.store(moved, Ordering::Relaxed);
        self.entry.cost.store(cost, Ordering::Relaxed);
        match own.checked_sub(self.own) {
            Some(0) => {}
            Some(more) => self.ledger.add(more),
            None => self.ledger.subtract(self.own - own),
        }
        self.own = own;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.subtract(self.own);
        self.ledger.outbound.entries().remove(&Arc::as_ptr(&self.entry).addr());
    }
}
