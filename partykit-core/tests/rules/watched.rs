//! What a room asks of its store.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use partykit_core::{
    Backend, BackendError, Batch, Claim, Epoch, KeyRange, MemoryBackend, RoomAddress, RoomId,
    Timestamp,
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
impl Backend for Watched {
    async fn claim(&self, room: &RoomAddress) -> Result<Claim, BackendError> {
        self.inner.claim(room).await
    }

    async fn read(
        &self,
        room: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError> {
        self.inner.read(room, keys).await
    }

    async fn scan(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.scans.lock().unwrap().push(limit);
        self.inner.scan(room, range, reverse, limit).await
    }

    async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(room, epoch, batch).await
    }

    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        self.inner.wake_ups(after, limit).await
    }

    async fn rooms(
        &self,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomId>, BackendError> {
        self.inner.rooms(party, after, limit).await
    }

    fn release(&self, room: &RoomAddress, epoch: Epoch) {
        self.inner.release(room, epoch);
    }
}
