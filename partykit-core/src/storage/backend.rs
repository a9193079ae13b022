use std::{collections::BTreeMap, ops::Bound};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BoxError, RoomAddress, RoomId, Timestamp};

/// Stores the rows of rooms: a minimal, dyn-safe key-value store.
///
/// Users see [`Storage`](crate::Storage), which uses a backend. Keys and values are bytes without a meaning
/// for the backend. Core puts users' rows and its own rows into one key space for each room; the first byte
/// of a key tells them apart. Core enforces all limits.
///
/// # Contract
///
/// The conformance suite, `partykit_core::conformance::storage` (feature `testing`), tests each of these
/// lines. [`MemoryBackend`](crate::MemoryBackend) is the reference.
///
/// 1. **Rooms are separate.** No call for one room reads or changes a row of another.
/// 2. **Order.** Keys are ordered as byte strings: `[] < [0x00] < [0x00, 0x00] < .. < [0xFF, 0xFF]`. Every
///    byte string is a key, also the empty one.
/// 3. **A commit is atomic and durable.** When [`commit`](Backend::commit) returns `Ok`, the whole batch is
///    stored as durably as this backend can, and later reads and scans see it. When it returns `Err`, the
///    batch is stored completely or not at all, and the caller has to [`claim`](Backend::claim) before it
///    reads again.
/// 4. **Fencing.** A commit carries the epoch of its claim. After a newer claim of the same room, a
///    commit with the older epoch changes nothing and fails with [`BackendError::StaleEpoch`].
///    The same holds after the claim was [released](Backend::release).
/// 5. **Reads see every finished commit.** They may or may not see a commit in flight. (Core does not depend
///    on it: it looks into its own pending batches first.)
/// 6. **Cancellation.** After a future is dropped, the store is as if the call was never made, or as if it
///    was completed.
/// 7. **Nothing for nothing.** A claim stores nothing. A room without rows and without a claim costs nothing.
/// 8. **Wake-ups.** A batch may say when its room is to be woken. This is a part of the same atomic commit. A
///    room has at most one such time; a new one replaces it, and [`clear`](Batch::clear) removes it. It is as
///    durable as a row, but it is not a row: [`Claim::empty`] does not count it, and no scan finds it.
///    [`wake_ups`](Backend::wake_ups) returns rooms in the order of their times. Its cost depends on what it
///    returns, not on the number of rooms.
/// 9. **Lists of rooms.** [`rooms`](Backend::rooms) returns the rooms of a party that have a row or a
///    wake-up, and no others. It claims no room. Its cost depends on what it returns, not on the number of
///    rows. A backend that does not know its rooms returns [`BackendError::Unsupported`].
///
/// ```
/// use partykit_core::{Backend, BackendError, Batch, MemoryBackend, RoomAddress, RoomId};
///
/// /// Puts one row, as core would for a room that was never in memory.
/// async fn seed(backend: &dyn Backend, room: &RoomAddress) -> Result<(), BackendError> {
///     let claim = backend.claim(room).await?;
///     let writes = [("key".into(), Some("value".into()))].into();
///     backend.commit(room, claim.epoch, Batch { writes, ..Batch::default() }).await?;
///     backend.release(room, claim.epoch);
///     Ok(())
/// }
///
/// # futures_executor::block_on(async {
/// let room = RoomAddress::new("main", RoomId::new("lobby")?);
/// seed(&MemoryBackend::default(), &room).await?;
/// # Ok::<(), partykit_core::BoxError>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Takes the room over: from now on, commits with earlier epochs fail. It must not wait for a sync of the
    /// disk.
    async fn claim(&self, room: &RoomAddress) -> Result<Claim, BackendError>;

    /// The values of `keys`, in their order. `None` for a key that does not exist.
    async fn read(
        &self,
        room: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError>;

    /// The first `limit` rows of `range` in key order, or in reverse key order if `reverse`. It returns fewer
    /// rows only if the range has no more.
    ///
    /// A range whose end is before its start has no rows. It is not an error.
    async fn scan(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError>;

    /// Applies `batch` atomically and durably.
    async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError>;

    /// The first `limit` rooms that want to be woken, with their times, earliest first. With `after`, the
    /// first ones after that entry. The order of rooms with the same time does not change.
    ///
    /// `after` need not be an entry any more.
    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError>;

    /// The first `limit` rooms of a party that have a row or a wake-up. With `after`, the first ones after
    /// that room. It claims and wakes no room.
    ///
    /// Shorter ids come first, and ids of the same length in the order of their bytes: `room-9` before
    /// `room-10`. `after` need not be a room with rows.
    ///
    /// ```
    /// use partykit_core::{Backend, BackendError, RoomId};
    ///
    /// /// Every room of a party, page by page.
    /// async fn every_room(backend: &dyn Backend, party: &str) -> Result<Vec<RoomId>, BackendError> {
    ///     let mut rooms: Vec<RoomId> = Vec::new();
    ///     loop {
    ///         let page = backend.rooms(party, rooms.last(), 256).await?;
    ///         if page.is_empty() {
    ///             return Ok(rooms);
    ///         }
    ///         rooms.extend(page);
    ///     }
    /// }
    /// # let backend = partykit_core::MemoryBackend::default();
    /// # assert!(futures_executor::block_on(every_room(&backend, "chat")).unwrap().is_empty());
    /// ```
    async fn rooms(
        &self,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomId>, BackendError>;

    /// Gives a claim back, because the room sleeps and has no connection. Does nothing if the claim is not
    /// the newest one.
    fn release(&self, room: &RoomAddress, epoch: Epoch);
}

/// The right to commit to a room: the answer to [`Backend::claim`].
///
/// ```
/// use partykit_core::{Claim, Epoch};
///
/// let claim = Claim { epoch: Epoch(1), empty: true };
/// assert!(claim.epoch < Epoch(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "backends outside this crate make it")]
pub struct Claim {
    /// The number to commit with.
    pub epoch: Epoch,
    /// Whether the room had no row when it was claimed.
    pub empty: bool,
}

/// The number of a claim. A later claim of the same room has a greater one.
///
/// ```
/// use partykit_core::Epoch;
///
/// assert!(Epoch(2) > Epoch(1), "the later claim");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A range of keys. Each end may be unbounded.
///
/// ```
/// use std::ops::Bound;
/// use partykit_core::KeyRange;
///
/// let from_b: KeyRange = (Bound::Included("b".into()), Bound::Unbounded);
/// # let _ = from_b;
/// ```
pub type KeyRange = (Bound<Bytes>, Bound<Bytes>);

/// Whether the end of `range` is before its start, so that it has no key. (`BTreeMap::range` panics then.)
pub(crate) fn is_crossed(range: &KeyRange) -> bool {
    match range {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
        _ => false,
    }
}

/// What one commit changes.
///
/// It is applied in this order: if [`clear`](Batch::clear) is set, all rows of the room and its wake-up are
/// removed. Then each of the [`writes`](Batch::writes) is put (`Some`) or deleted (`None`), and the
/// [`wake_up`](Batch::wake_up) is set.
///
/// ```
/// use partykit_core::Batch;
///
/// let mut batch = Batch { writes: [("a".into(), Some("1".into()))].into(), ..Batch::default() };
/// let writes = [("a".into(), None), ("b".into(), Some("2".into()))].into();
/// batch.merge(Batch { writes, ..Batch::default() });
/// assert_eq!(batch.writes.len(), 2);
/// assert_eq!(batch.writes["a".as_bytes()], None, "the later write counts");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "backends outside this crate take it apart")]
pub struct Batch {
    /// Whether all rows of the room and its wake-up are removed first.
    pub clear: bool,
    /// The rows to put or delete.
    pub writes: BTreeMap<Bytes, Option<Bytes>>,
    /// When the room is to be woken. `None` does not change it.
    pub wake_up: Option<WakeUp>,
}

/// When a room is to be woken.
///
/// ```
/// use partykit_core::{Batch, Timestamp, WakeUp};
///
/// let at = WakeUp::At(Timestamp::from_millis(1_700_000_000_000));
/// let mut batch = Batch { wake_up: Some(at), ..Batch::default() };
/// batch.merge(Batch { wake_up: Some(WakeUp::Never), ..Batch::default() });
/// assert_eq!(batch.wake_up, Some(WakeUp::Never), "the later one counts");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "backends outside this crate take it apart")]
pub enum WakeUp {
    /// No sooner than this.
    At(Timestamp),
    /// Not at all.
    Never,
}

impl Batch {
    /// Whether applying it would change nothing.
    pub fn is_empty(&self) -> bool {
        !self.clear && self.writes.is_empty() && self.wake_up.is_none()
    }

    /// Merges `next` into this batch. The result does what applying this batch and then `next` would do.
    pub fn merge(&mut self, next: Self) {
        if next.clear {
            *self = next;
        } else {
            self.writes.extend(next.writes);
            self.wake_up = next.wake_up.or(self.wake_up);
        }
    }

    /// The bytes of its keys and values.
    pub fn size(&self) -> usize {
        self.writes.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, Bytes::len)).sum()
    }
}

/// Why a call to a [`Backend`] failed.
///
/// ```
/// use partykit_core::{BackendError, Epoch};
///
/// let error = BackendError::Failed("the disk is full".into());
/// assert_eq!(error.to_string(), "the store failed: the disk is full");
/// assert!(BackendError::StaleEpoch(Epoch(7)).to_string().contains("epoch 7"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The room was claimed again later, by another process or by a later life of this room.
    #[error("the room was claimed again; the earlier claim (epoch {}) cannot commit any more", .0.0)]
    StaleEpoch(Epoch),
    /// The store failed.
    #[error("the store failed: {0}")]
    Failed(#[source] BoxError),
    /// The store does not support this call. The text says why.
    #[error("this store cannot do that: {0}")]
    Unsupported(&'static str),
}
