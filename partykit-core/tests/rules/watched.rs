//! What a room asks of its store.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use partykit_core::{
    Backend, BackendError, Batch, Epoch, KeyRange, MemoryBackend, RoomAddress,
    testing::WrappedBackend,
};

/// A store in memory that notes what it is asked.
#[derive(Clone, Default)]
pub(crate) struct Watched {
    inner: MemoryBackend,
    commits: Arc<AtomicUsize>,
    /// The limit of every scan.
    scans: Arc<Mutex<Vec<usize>>>,
}

impl Watched {
    /// How many commits there were.
    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::Relaxed)
    }

    /// How many rows were asked for, scan by scan, since somebody asked.
    pub(crate) fn take_scans(&self) -> Vec<usize> {
        std::mem::take(&mut self.scans.lock().unwrap())
    }
}

#[async_trait]
impl WrappedBackend for Watched {
    type Inner = MemoryBackend;

    fn inner(&self) -> &MemoryBackend {
        &self.inner
    }

    async fn scanning(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.scans.lock().unwrap().push(limit);
        self.inner.scan(room, range, reverse, limit).await
    }

    async fn committing(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(room, epoch, batch).await
    }
}
