use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    cron::{Cron, InvalidCron},
    limits,
};
use crate::Timestamp;

/// A run of a schedule tells of at most this many runs that were missed.
const MISSED: u32 = 1000;

/// When a [schedule](crate::Schedules) runs.
///
/// As JSON it is `{"after": 60000}`, `{"at": 1700000000000}`, `{"every": 60000}` or
/// `{"cron": {"expression": "0 9 * * MON-FRI", "zone": "UTC"}}`. All numbers are milliseconds.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::{Room, ScheduleError, When};
///
/// async fn plan(room: &Room) -> Result<(), ScheduleError> {
///     let schedules = room.schedules();
///     schedules.set("close", When::After(Duration::from_secs(60))).await?;
///     schedules.set("tick", When::Every(Duration::from_secs(5))).await
/// }
/// # let _ = plan;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum When {
    /// Once, this long after it was set. Whole milliseconds count.
    After(#[serde(with = "millis")] Duration),
    /// Once, at this moment. A moment in the past means now.
    At(Timestamp),
    /// Again and again, at this distance: the first time this long after it was set. At least 1 s. Whole
    /// milliseconds count.
    Every(#[serde(with = "millis")] Duration),
    /// At the moments of a cron expression. Made with `Cron::new`, which needs the feature `cron`.
    Cron(Cron),
}

impl From<Cron> for When {
    fn from(cron: Cron) -> Self {
        Self::Cron(cron)
    }
}

impl When {
    /// The same as it is stored: with whole milliseconds.
    pub(crate) fn whole(self) -> Self {
        let whole = |time: Duration| Duration::from_millis(millis_of(time));
        match self {
            Self::After(time) => Self::After(whole(time)),
            Self::Every(time) => Self::Every(whole(time)),
            when => when,
        }
    }

    /// The first time that it runs if it is set now. `None` if it never runs.
    pub(crate) fn first(&self, now: Timestamp) -> Result<Option<Timestamp>, InvalidCron> {
        match self {
            Self::After(time) | Self::Every(time) => Ok(Some(now + *time)),
            Self::At(at) => Ok(Some(*at)),
            Self::Cron(cron) => cron.first_after(now),
        }
    }

    /// Its first time after `after`, when it has run for `scheduled`. `None` if it does not run again.
    pub(crate) fn next(
        &self,
        scheduled: Timestamp,
        after: Timestamp,
    ) -> Result<Option<Timestamp>, InvalidCron> {
        let after = after.max(scheduled);
        let next = match self {
            Self::After(_) | Self::At(_) => None,
            Self::Every(time) => {
                let period = millis_of(*time).max(1);
                let periods = after.since(scheduled).as_millis() as u64 / period + 1;
                let later = periods
                    .checked_mul(period)
                    .and_then(|it| it.checked_add(scheduled.as_millis()));
                later.map(Timestamp::from_millis)
            }
            Self::Cron(cron) => cron.first_after(after)?,
        };
        Ok(next.filter(|next| next.as_millis() <= limits::ALARM))
    }

    /// How often it should have run after `scheduled`, up to `until` and with it. Not more than
    /// 1,000 are counted.
    pub(crate) fn missed(&self, scheduled: Timestamp, until: Timestamp) -> u32 {
        match self {
            Self::After(_) | Self::At(_) => 0,
            Self::Every(time) => {
                let periods = until.since(scheduled).as_millis() as u64 / millis_of(*time).max(1);
                u32::try_from(periods).unwrap_or(u32::MAX).min(MISSED)
            }
            Self::Cron(cron) => cron.count(scheduled, until, MISSED),
        }
    }
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A duration as a number of milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(super::millis_of(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn every_keeps_its_phase_and_counts_what_it_missed() {
        let every = When::Every(Duration::from_secs(10));
        assert_eq!(every.first(at(3)).unwrap(), Some(at(10_003)));
        for (after, next, missed) in [
            (10_003, 20_003, 0),
            (10_500, 20_003, 0),
            (20_002, 20_003, 0),
            (20_003, 30_003, 1),
            (39_999, 40_003, 2),
            (9, 20_003, 0),
        ] {
            let is = every.next(at(10_003), at(after)).unwrap();
            assert_eq!(
                (is, every.missed(at(10_003), at(after))),
                (Some(at(next)), missed),
                "{after}"
            );
        }
        assert_eq!(every.missed(at(0), at(u64::MAX)), MISSED);
    }

    #[test]
    fn once_is_once() {
        for when in [When::At(at(5)), When::After(Duration::from_secs(1))] {
            assert_eq!(when.next(at(5), at(9_000)).unwrap(), None);
            assert_eq!(when.missed(at(5), at(9_000)), 0);
        }
    }

    #[test]
    fn nothing_runs_after_the_last_moment() {
        let never = When::Every(Duration::MAX).whole();
        assert_eq!(never.next(at(1), at(1)).unwrap(), None);
        let rarely = When::Every(Duration::from_millis(limits::ALARM));
        assert_eq!(rarely.next(at(0), at(0)).unwrap(), Some(at(limits::ALARM)));
        assert_eq!(rarely.next(at(1), at(1)).unwrap(), None);
    }

    #[test]
    fn its_json_has_milliseconds() {
        let every = When::Every(Duration::new(60, 999_999));
        let json = serde_json::to_string(&every).unwrap();
        assert_eq!(json, r#"{"every":60000}"#);
        assert_eq!(serde_json::from_str::<When>(&json).unwrap(), every.whole());
        let at = serde_json::to_string(&When::At(at(7))).unwrap();
        assert_eq!(at, r#"{"at":7}"#);
    }
}
