use crate::{Batch, Timestamp, storage::AlarmRow};

/// The batch of a handler that sets the room's alarm. It puts alarms into a [`Backend`](crate::Backend)
/// without running a room.
///
/// ```
/// use partykit_core::{
///     Backend, MemoryBackend, RoomAddress, RoomId, Timestamp, runtime::read_alarm,
///     testing::alarm_batch,
/// };
///
/// # futures_executor::block_on(async {
/// let (backend, room) = (MemoryBackend::default(), RoomAddress::new("main", RoomId::new("a")?));
/// let claim = backend.claim(&room).await?;
/// let at = Timestamp::from_millis(1_700_000_000_000);
/// backend.commit(&room, claim.epoch, alarm_batch(at)).await?;
/// assert_eq!(read_alarm(&backend, &room).await?.map(|alarm| alarm.scheduled), Some(at));
/// # Ok::<(), partykit_core::BoxError>(())
/// # }).unwrap();
/// ```
pub fn alarm_batch(at: Timestamp) -> Batch {
    AlarmRow::batch(Some(AlarmRow::new(at)))
}
