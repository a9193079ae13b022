use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BackendError, Batch, WakeUp, alarm_state::AlarmState};
use crate::{
    Alarm, RoomAddress, Timestamp,
    value::{limits, splitmix::SplitMix64},
};

/// What is stored of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlarmRow {
    /// When it was to ring, in milliseconds.
    scheduled: u64,
    /// When it rings next. This is later than `scheduled` while it is retried or rings.
    rings: u64,
    /// How often its handler has failed.
    failures: u32,
    /// How often the process has ended while it rang.
    deaths: u32,
    /// It has begun to ring, and no end of that is stored. If a new process finds this, the last process has
    /// died while it rang.
    begun: bool,
    /// An operator has stopped it.
    parked: bool,
}

impl AlarmRow {
    /// The key of the framework's row that has it.
    pub(crate) const KEY: Bytes = Bytes::from_static(b"\x00alarm");

    pub(crate) fn new(at: Timestamp) -> Self {
        let at = at.as_millis();
        Self { scheduled: at, rings: at, failures: 0, deaths: 0, begun: false, parked: false }
    }

    pub(crate) fn rings(&self) -> Timestamp {
        Timestamp::from_millis(self.rings)
    }

    pub(crate) fn alarm(&self) -> Alarm {
        Alarm {
            scheduled: Timestamp::from_millis(self.scheduled),
            retries: self.failures,
            deaths: self.deaths,
        }
    }

    pub(crate) fn state(&self) -> AlarmState {
        let Alarm { scheduled, retries, deaths } = self.alarm();
        let rings = (!self.parked).then(|| self.rings());
        AlarmState { scheduled, rings, retries, deaths, ringing: self.begun }
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The same alarm, after the process has ended while it rang.
    pub(crate) fn died(&self) -> Self {
        Self { deaths: self.deaths.saturating_add(1), begun: false, ..*self }
    }

    /// The same alarm, which rings no sooner than this.
    pub(crate) fn postponed(&self, rings: Timestamp) -> Self {
        Self { rings: rings.as_millis(), ..*self }
    }

    /// The same alarm when it begins to ring at `wall`. If the process dies before anything else is stored,
    /// it rings again after a pause.
    pub(crate) fn begins(&self, wall: Timestamp, spread: u64) -> Self {
        let rings = wall + self.died().pause(spread);
        Self { begun: true, ..self.postponed(rings) }
    }

    /// The pause after a death: 2 s, which doubles up to 5 minutes, plus up to half of it, depending on the
    /// spread. So alarms that died together do not ring together again: an alarm that kills the process would
    /// take the others with it each time.
    pub(crate) fn pause(&self, spread: u64) -> Duration {
        let doubled = 1_u32.checked_shl(self.deaths.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = limits::ALARM_DEATH_FIRST.saturating_mul(doubled).min(limits::ALARM_DEATH);
        let share = SplitMix64::new(spread ^ u64::from(self.deaths)).below(1024) as u32;
        pause + pause / 2048 * share
    }

    /// The same alarm after its handler has failed at `now`. `None` after the last retry.
    pub(crate) fn retried(&self, now: Timestamp) -> Option<Self> {
        let failures = self.failures.saturating_add(1);
        let backoff = 1_u32
            .checked_shl(self.failures)
            .map_or(Duration::MAX, |times| limits::ALARM_BACKOFF_FIRST.saturating_mul(times));
        let next = Self { failures, begun: false, ..self.postponed(now + backoff) };
        (failures <= limits::ALARM_RETRIES).then_some(next)
    }

    /// The same alarm, which does not ring any more until a new one is set.
    pub(crate) fn parked(&self) -> Self {
        let died = if self.begun { self.died() } else { *self };
        Self { parked: true, ..died }
    }

    /// The batch that stores it and its wake-up. `None` removes both.
    pub(crate) fn batch(row: Option<Self>) -> Batch {
        let wake_up = match row {
            Some(row) if !row.parked => WakeUp::At(row.rings()),
            _ => WakeUp::Never,
        };
        let writes = [(Self::KEY, row.map(|row| row.encode()))].into();
        Batch { writes, wake_up: Some(wake_up), ..Batch::default() }
    }

    pub(crate) fn encode(&self) -> Bytes {
        // Postcard can encode all numbers, so this never fails.
        postcard::to_extend(self, Vec::new()).unwrap_or_default().into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BackendError> {
        let read = postcard::from_bytes(bytes);
        read.map_err(|error| BackendError::Failed(format!("the alarm's row: {error}").into()))
    }
}

/// A number for each room, the same in every process: FNV-1a of its address.
pub(crate) fn spread(room: &RoomAddress) -> u64 {
    let bytes = room.party().bytes().chain([b'/']).chain(room.room().as_str().bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RoomId;

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
        assert_eq!((row.alarm().retries, row.alarm().deaths), (6, 0));
    }

    #[test]
    fn pauses_double_after_each_death_up_to_five_minutes_and_half_as_long_again() {
        let room = RoomAddress::new("main", RoomId::new("a").unwrap());
        for spread in [0, 7, u64::MAX, spread(&room)] {
            let mut row = AlarmRow::new(Timestamp::default());
            for least in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
                let wall = Timestamp::from_millis(5_000);
                let begun = row.begins(wall, spread);
                row = row.died();
                let (least, pause) = (Duration::from_secs(least), row.pause(spread));
                assert!(pause >= least && pause < least * 3 / 2, "{pause:?}, {least:?}");
                assert_eq!(begun.rings(), wall + pause, "the pause is stored when it begins");
                assert!(begun.has_begun() && begun.alarm().deaths + 1 == row.alarm().deaths);
            }
            let row = AlarmRow { deaths: u32::MAX, ..row };
            assert!(
                row.pause(spread) >= limits::ALARM_DEATH && row.died().alarm().deaths == u32::MAX
            );
        }
    }

    #[test]
    fn alarms_that_died_together_come_back_apart() {
        let pause = |n: u32| {
            let room = RoomAddress::new("main", RoomId::new(format!("room {n}")).unwrap());
            AlarmRow::new(Timestamp::default()).died().pause(spread(&room)).as_millis() / 10
        };
        let pauses: std::collections::BTreeSet<u128> = (0..256).map(pause).collect();
        assert!(pauses.len() > 80, "only {} of 100 moments are used", pauses.len());
    }

    #[test]
    fn deaths_and_failures_do_not_count_as_one_another() {
        let now = Timestamp::default();
        let mut row = AlarmRow::new(now);
        for _ in 0..100 {
            row = row.died();
        }
        assert_eq!(row.alarm().retries, 0);
        let mut failures = 0;
        while let Some(next) = row.retried(now) {
            (row, failures) = (next, failures + 1);
        }
        assert_eq!((failures, row.alarm().deaths), (6, 100));
    }

    #[test]
    fn a_parked_one_wakes_nobody_and_keeps_what_it_was() {
        let row = AlarmRow::new(Timestamp::from_millis(9)).begins(Timestamp::from_millis(10), 0);
        let batch = AlarmRow::batch(Some(row.parked()));
        assert_eq!(batch.wake_up, Some(WakeUp::Never));
        let state = row.parked().state();
        assert_eq!((state.rings, state.deaths, state.ringing), (None, 1, false));
        assert_eq!(state.scheduled, Timestamp::from_millis(9));
    }

    #[test]
    fn a_row_survives_its_encoding_and_another_is_refused() {
        let row = AlarmRow {
            scheduled: 1,
            rings: u64::MAX,
            failures: u32::MAX,
            deaths: 7,
            begun: true,
            parked: false,
        };
        assert_eq!(AlarmRow::decode(&row.encode()).unwrap(), row);
        assert!(AlarmRow::decode(b"").unwrap_err().to_string().contains("the alarm's row"));
        assert_eq!(row.retried(Timestamp::default()), None);
    }
}
