use std::{path::Path, sync::Arc};

use bytes::Bytes;
use partykit_core::{Backend, BackendError, Batch, KeyRange, RoomAddress, RoomId};
use partykit_runtime_tokio::store::{DiskBackend, Durability};
use tempfile::TempDir;

pub(crate) const EVERYTHING: KeyRange = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);

/// A directory with room for stores.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The same where nothing has to be synced, if there is such a place: for tests that make hundreds of
/// stores.
pub(crate) fn quick_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| directory())
}

pub(crate) fn open(path: impl AsRef<Path>) -> Arc<DiskBackend> {
    Arc::new(DiskBackend::open(path, Durability::Durable).unwrap())
}

pub(crate) fn address(room: impl AsRef<str>) -> RoomAddress {
    RoomAddress::new("main", RoomId::new(room).unwrap())
}

pub(crate) fn puts<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    rows: impl IntoIterator<Item = (K, V)>,
) -> Batch {
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let writes =
        rows.into_iter().map(|(key, value)| (bytes(key.as_ref()), Some(bytes(value.as_ref()))));
    Batch { writes: writes.collect(), ..Batch::default() }
}

/// Claims, commits, releases.
pub(crate) async fn write(
    backend: &DiskBackend,
    room: &RoomAddress,
    batch: Batch,
) -> Result<(), BackendError> {
    let claim = backend.claim(room).await?;
    backend.commit(room, claim.epoch, batch).await?;
    backend.release(room, claim.epoch);
    Ok(())
}

pub(crate) async fn rows(
    backend: &DiskBackend,
    room: &RoomAddress,
) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
    backend.scan(room, &EVERYTHING, false, usize::MAX).await
}
