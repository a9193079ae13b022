//! What rings in a room: its alarm, and its schedules. Each is a row.

use bytes::Bytes;

use super::{
    AlarmRow, BackendError, Batch,
    schedule::{self, Planned, Run},
};
use crate::{Alarm, Timestamp};

/// What is stored of an alarm or a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bell {
    pub(super) times: AlarmRow,
    /// `None`: it is the alarm.
    pub(super) plan: Option<Planned>,
}

impl From<AlarmRow> for Bell {
    fn from(times: AlarmRow) -> Self {
        Self { times, plan: None }
    }
}

impl Bell {
    pub(crate) fn key(&self) -> Bytes {
        self.plan.as_ref().map_or(AlarmRow::KEY, |plan| plan.key())
    }

    pub(crate) fn times(&self) -> &AlarmRow {
        &self.times
    }

    pub(crate) fn plan(&self) -> Option<&Planned> {
        self.plan.as_ref()
    }

    pub(crate) fn alarm(&self) -> Alarm {
        self.times.alarm()
    }

    /// The same bell with other times.
    pub(crate) fn with(&self, times: AlarmRow) -> Self {
        Self { times, plan: self.plan.clone() }
    }

    /// When it rings after it has rung at `wall`. `None` if it does not ring again.
    pub(crate) fn next(&self, wall: Timestamp) -> Result<Option<Timestamp>, BackendError> {
        self.plan.as_ref().map_or(Ok(None), |plan| plan.next(self.alarm().scheduled, wall))
    }

    /// The run that begins at `wall`. `None` for the alarm.
    pub(crate) fn run(&self, wall: Timestamp) -> Option<Run> {
        self.plan.as_ref().map(|plan| plan.run(self.alarm(), wall))
    }

    /// The batch that puts `next` in the place of `last`; either may be nothing. Both have this key.
    ///
    /// Its wake-up is right for the alarm. If there are schedules, it says that there is one to be found out,
    /// which [`resolve`](schedule::resolve) does.
    pub(crate) fn replace(last: Option<&Self>, next: Option<&Self>) -> Batch {
        let mut batch = AlarmRow::batch(next.map(|bell| bell.times));
        batch.writes.clear();
        batch.writes.extend(last.and_then(Self::order).map(|key| (key, None)));
        batch.writes.extend(next.and_then(Self::order).map(|key| (key, Some(Bytes::new()))));
        if let Some(key) = next.or(last).map(Self::key) {
            batch.writes.insert(key, next.map(Self::encode));
        }
        batch
    }

    /// The batch of a write that changes no bell, but after which the room's wake-up is to be right.
    pub(crate) fn wake_up(&self) -> Batch {
        Batch { wake_up: AlarmRow::batch(Some(self.times)).wake_up, ..Batch::default() }
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.plan.as_ref().map_or_else(|| self.times.encode(), |plan| plan.encode(self.times))
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, BackendError> {
        schedule::decode(key, value).unwrap_or_else(|| AlarmRow::decode(value).map(Self::from))
    }

    /// The key that orders it by its time. `None` for the alarm, and if it does not ring.
    pub(super) fn order(&self) -> Option<Bytes> {
        self.plan.as_ref().filter(|_| !self.times.is_parked())?.order(&self.times)
    }
}
