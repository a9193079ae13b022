//! A room's alarm as operators see it.

use serde::Serialize;

use super::{Backend, BackendError, Bell, alarm_row::AlarmRow, is_schedule};
use crate::{RoomAddress, Timestamp};

/// A room's alarm as it is stored, for operators.
///
/// ```
/// use partykit_core::runtime::AlarmState;
///
/// fn describe(alarm: &AlarmState) -> String {
///     match alarm.rings {
///         Some(at) => format!("rings at {} ms, died {} times", at.as_millis(), alarm.deaths),
///         None => "is parked".to_owned(),
///     }
/// }
/// # let _ = describe;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AlarmState {
    /// When it was to ring.
    pub scheduled: Timestamp,
    /// When it rings next. `None` if it is parked. While it rings, this is when it would ring again if the
    /// process ended now.
    pub rings: Option<Timestamp>,
    /// How often its handler has failed.
    pub retries: u32,
    /// How often the process has ended while its handler ran.
    pub deaths: u32,
    /// Its handler runs; or the process has ended while it ran, and the next attempt has not begun.
    pub ringing: bool,
}

/// Reads a room's alarm from its store. `None` if the room has no alarm. Starts nothing and changes nothing.
///
/// # Errors
///
/// When the store fails, or holds something else in the place of an alarm.
///
/// ```
/// use partykit_core::{Backend, MemoryBackend, RoomAddress, RoomId, runtime::read_alarm};
///
/// # futures_executor::block_on(async {
/// let room = RoomAddress::new("main", RoomId::new("lobby")?);
/// assert_eq!(read_alarm(&MemoryBackend::default(), &room).await?, None);
/// # Ok::<(), partykit_core::BoxError>(())
/// # }).unwrap();
/// ```
pub async fn read_alarm(
    backend: &dyn Backend,
    room: &RoomAddress,
) -> Result<Option<AlarmState>, BackendError> {
    let found = backend.read(room, &[AlarmRow::KEY]).await?.into_iter().next().flatten();
    Ok(found.map(|row| AlarmRow::decode(&row)).transpose()?.map(|row| row.state()))
}

/// The content of a row of the framework, as JSON for people. `None` if it is a user's row or cannot be read.
pub fn describe_row(key: &[u8], value: &[u8]) -> Option<String> {
    if key == AlarmRow::KEY {
        let row = AlarmRow::decode(value).ok()?;
        return serde_json::to_string(&serde_json::json!({ "alarm": row })).ok();
    }
    let bell = is_schedule(key).then(|| Bell::decode(key, value).ok()).flatten()?;
    let schedule = bell.plan()?.describe(bell.times());
    serde_json::to_string(&serde_json::json!({ "schedule": schedule })).ok()
}
