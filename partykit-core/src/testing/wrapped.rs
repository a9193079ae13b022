use async_trait::async_trait;
use bytes::Bytes;

use crate::{Backend, BackendError, Batch, Claim, Epoch, KeyRange, RoomAddress, RoomId, Timestamp};

/// A [`Backend`] that stands around another one and does what that does, except for the functions that
/// it replaces. For tests: to count, to delay, or to do one thing wrong.
///
/// What implements this is a [`Backend`].
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use async_trait::async_trait;
/// use partykit_core::{
///     Backend, BackendError, Batch, Epoch, MemoryBackend, RoomAddress, RoomId, testing::WrappedBackend,
/// };
///
/// #[derive(Default)]
/// struct Counting {
///     memory: MemoryBackend,
///     commits: AtomicUsize,
/// }
///
/// #[async_trait]
/// impl WrappedBackend for Counting {
///     type Inner = MemoryBackend;
///
///     fn inner(&self) -> &MemoryBackend {
///         &self.memory
///     }
///
///     async fn committing(
///         &self,
///         room: &RoomAddress,
///         epoch: Epoch,
///         batch: Batch,
///     ) -> Result<(), BackendError> {
///         self.commits.fetch_add(1, Ordering::Relaxed);
///         self.memory.commit(room, epoch, batch).await
///     }
/// }
///
/// # futures_executor::block_on(async {
/// let backend = Counting::default();
/// let room = RoomAddress::new("chat", RoomId::new("lobby")?);
/// let epoch = backend.claim(&room).await?.epoch;
/// backend.commit(&room, epoch, Batch::default()).await?;
/// assert_eq!(backend.commits.into_inner(), 1);
/// # Ok::<(), partykit_core::BoxError>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait WrappedBackend: Send + Sync + 'static {
    /// The backend inside.
    type Inner: Backend + ?Sized;

    /// The backend inside.
    fn inner(&self) -> &Self::Inner;

    /// Stands around every claim, read, scan and list of rooms; `room` is `None` for a list. As it
    /// stands, it only waits for `read`.
    async fn reading<T: Send>(
        &self,
        room: Option<&RoomAddress>,
        read: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, BackendError> {
        let _ = room;
        read.await
    }

    /// Stands in for [`Backend::scan`].
    async fn scanning(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.reading(Some(room), self.inner().scan(room, range, reverse, limit)).await
    }

    /// Stands in for [`Backend::commit`].
    async fn committing(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        self.inner().commit(room, epoch, batch).await
    }

    /// Stands in for [`Backend::wake_ups`].
    async fn waking(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        self.inner().wake_ups(after, limit).await
    }
}

#[async_trait]
impl<W: WrappedBackend> Backend for W {
    async fn claim(&self, room: &RoomAddress) -> Result<Claim, BackendError> {
        self.reading(Some(room), self.inner().claim(room)).await
    }

    async fn read(
        &self,
        room: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError> {
        self.reading(Some(room), self.inner().read(room, keys)).await
    }

    async fn scan(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.scanning(room, range, reverse, limit).await
    }

    async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        self.committing(room, epoch, batch).await
    }

    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        self.waking(after, limit).await
    }

    async fn rooms(
        &self,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomId>, BackendError> {
        self.reading(None, self.inner().rooms(party, after, limit)).await
    }

    fn release(&self, room: &RoomAddress, epoch: Epoch) {
        self.inner().release(room, epoch);
    }
}
