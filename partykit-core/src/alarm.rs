use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{BackendError, Room, StorageError, Timestamp, limits};

/// An alarm that rings: what [`Server::on_alarm`](crate::Server::on_alarm) is told.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::{Alarm, Connection, Message, Result, Room, Server};
///
/// struct Reminder;
///
/// impl Server for Reminder {
///     async fn on_message(&mut self, room: &Room, _: &Connection, note: Message) -> Result {
///         room.storage().put("note", note.as_text().unwrap_or_default())?;
///         room.storage().set_alarm(room.now() + Duration::from_secs(60))?;
///         Ok(())
///     }
///
///     async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
///         let note: Option<String> = room.storage().get("note").await?;
///         let late = room.now().since(alarm.scheduled);
///         room.broadcast(format!("{} (late by {late:?})", note.unwrap_or_default())).send();
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alarm {
    /// When it was to ring.
    pub scheduled: Timestamp,
    /// How often it has rung before in vain: the handler failed, or the process ended in it.
    pub retries: u32,
}

/// What is stored of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlarmRow {
    /// When it was to ring, in milliseconds.
    scheduled: u64,
    /// When it rings next: later than that while it is retried.
    rings: u64,
    /// How often it has rung.
    rung: u32,
}

impl AlarmRow {
    /// Where it is stored: the key of a framework's row.
    pub(crate) const KEY: Bytes = Bytes::from_static(b"\x00alarm");

    pub(crate) fn new(at: Timestamp) -> Self {
        Self { scheduled: at.as_millis(), rings: at.as_millis(), rung: 0 }
    }

    pub(crate) fn rings(&self) -> Timestamp {
        Timestamp::from_millis(self.rings)
    }

    pub(crate) fn alarm(&self) -> Alarm {
        Alarm { scheduled: Timestamp::from_millis(self.scheduled), retries: self.rung }
    }

    /// Whether it has rung in vain too often.
    pub(crate) fn is_spent(&self) -> bool {
        self.rung > limits::ALARM_RETRIES
    }

    /// The same alarm, having rung once more.
    pub(crate) fn counted(&self) -> Self {
        Self { rung: self.rung.saturating_add(1), ..*self }
    }

    /// The same alarm after its handler failed at `now`; `None` when it has been retried enough.
    pub(crate) fn retried(&self, now: Timestamp) -> Option<Self> {
        let backoff = 1_u32
            .checked_shl(self.rung)
            .map_or(Duration::MAX, |times| limits::ALARM_BACKOFF_FIRST.saturating_mul(times));
        let next = Self { rings: (now + backoff).as_millis(), ..self.counted() };
        (!next.is_spent()).then_some(next)
    }

    pub(crate) fn encode(&self) -> Bytes {
        // Three numbers have no form that postcard refuses.
        postcard::to_extend(self, Vec::new()).unwrap_or_default().into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BackendError> {
        let read = postcard::from_bytes(bytes);
        read.map_err(|error| BackendError::Failed(format!("the alarm's row: {error}").into()))
    }
}

/// What a row of the framework holds, as JSON for people to read; `None` if the row is a user's, or has no
/// such form.
pub fn describe_row(key: &[u8], value: &[u8]) -> Option<String> {
    if key != AlarmRow::KEY {
        return None;
    }
    let row = AlarmRow::decode(value).ok()?;
    serde_json::to_string(&serde_json::json!({ "alarm": row })).ok()
}

/// The room's alarm, if it is due; then it rings: the handler is to be run.
pub(crate) async fn ring(room: &Room) -> Result<Option<Alarm>, StorageError> {
    let Some(row) = room.storage().alarm_row().await? else { return Ok(None) };
    let wall = room.now();
    Ok(room.cell().report(|machine, now| machine.ring(now, wall, row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_retried_six_times_from_two_seconds_doubling() {
        let now = Timestamp::from_millis(1_000);
        let mut row = AlarmRow::new(Timestamp::from_millis(500));
        let mut waits = Vec::new();
        while let Some(next) = row.retried(now) {
            assert_eq!(next.alarm().scheduled, Timestamp::from_millis(500));
            waits.push(next.rings().since(now).as_secs());
            row = next;
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64]);
        assert_eq!(row.alarm().retries, 6);
        assert!(!row.is_spent() && row.counted().is_spent());
    }

    #[test]
    fn a_row_survives_its_encoding_and_another_is_refused() {
        let row = AlarmRow { scheduled: 1, rings: u64::MAX, rung: u32::MAX };
        assert_eq!(AlarmRow::decode(&row.encode()).unwrap(), row);
        assert!(AlarmRow::decode(b"").unwrap_err().to_string().contains("the alarm's row"));
        assert_eq!(row.retried(Timestamp::default()), None);
    }
}
