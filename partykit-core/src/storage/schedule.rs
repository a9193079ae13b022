//! What makes a schedule of a bell. A schedule has a second row, which orders the schedules by the time at which
//! they ring.
//!
//! A program without the feature `schedules` has the module `no_schedule` in the place of this one.

use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    AlarmRow, Backend, BackendError, Batch, Bell, Diff, KeyRange, Lookup, WakeUp, lookup,
    row::successor,
};
pub(crate) use crate::Run;
use crate::{Alarm, RoomAddress, Schedule, Timestamp, When};

/// The keys of schedules begin with this, and go on with the name.
const SCHEDULE: &[u8] = b"\x00s";
/// The keys of their order begin with this, and go on with the time and the name.
const ORDER: &[u8] = b"\x00t";

/// What a schedule has, beside its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) when: When,
    pub(crate) payload: Option<String>,
}

/// A plan as its bell has it: bells of alarms stay small.
pub(crate) type Planned = Box<Plan>;

impl Plan {
    /// The key of a schedule's row.
    pub(super) fn key(&self) -> Bytes {
        Bell::key_of(&self.name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn next(
        &self,
        scheduled: Timestamp,
        wall: Timestamp,
    ) -> Result<Option<Timestamp>, BackendError> {
        self.when.next(scheduled, wall).map_err(|error| {
            let text = format!("the schedule {:?} cannot be understood: {error}", self.name);
            BackendError::Failed(text.into())
        })
    }

    pub(super) fn run(&self, alarm: Alarm, wall: Timestamp) -> Run {
        let Self { name, when, payload } = self;
        let Alarm { scheduled, retries, deaths } = alarm;
        let (name, payload) = (name.clone(), payload.clone());
        let missed = when.missed(scheduled, wall);
        Run { name, scheduled, missed, retries, deaths, payload }
    }

    pub(super) fn encode(&self, times: AlarmRow) -> Bytes {
        let row = (times, &self.when, &self.payload);
        // Postcard can encode all of it, so this never fails.
        postcard::to_extend(&row, Vec::new()).unwrap_or_default().into()
    }

    /// The key in the order.
    pub(super) fn order(&self, times: &AlarmRow) -> Option<Bytes> {
        let time = times.rings().as_millis().to_be_bytes();
        Some([ORDER, &time, self.name.as_bytes()].concat().into())
    }

    /// Its row as JSON, for people.
    pub(super) fn describe(&self, times: &AlarmRow) -> serde_json::Value {
        let Self { name, when, payload } = self;
        serde_json::json!({ "name": name, "when": when, "payload": payload, "times": times })
    }
}

/// What only schedules need of their bells.
impl Bell {
    pub(crate) fn new(plan: Planned, first: Timestamp) -> Self {
        Self { times: AlarmRow::new(first), plan: Some(plan) }
    }

    /// The key of a schedule's row.
    pub(crate) fn key_of(name: &str) -> Bytes {
        [SCHEDULE, name.as_bytes()].concat().into()
    }

    /// The schedule as users see it.
    pub(crate) fn schedule(self) -> Option<Schedule> {
        let Self { times, plan } = self;
        let Plan { name, when, payload } = *plan?;
        let Alarm { retries, deaths, .. } = times.alarm();
        let next = (!times.is_parked()).then(|| times.rings());
        Some(Schedule { name, when, next, retries, deaths, payload })
    }

    /// Whether it should have rung by now, and nothing has begun that.
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        let times = self.times();
        !times.is_parked() && !times.has_begun() && times.rings() <= now
    }
}

/// The bell of a schedule's row. `None` for the alarm's.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Result<Bell, BackendError>> {
    let name = String::from_utf8_lossy(key.strip_prefix(SCHEDULE)?).into_owned();
    Some(match postcard::from_bytes(value) {
        Ok(Row { times, when, payload }) => {
            Ok(Bell { times, plan: Some(Box::new(Plan { name, when, payload })) })
        }
        Err(error) => {
            let text = format!("the row of the schedule {name:?}: {error}");
            Err(BackendError::Failed(text.into()))
        }
    })
}

#[derive(Serialize, Deserialize)]
struct Row {
    times: AlarmRow,
    when: When,
    payload: Option<String>,
}

/// A schedule that is first in their order, as far as that tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct First {
    /// The key in the order.
    pub(crate) order: Bytes,
    pub(crate) rings: Timestamp,
    /// The key of the schedule's row.
    pub(crate) key: Bytes,
}

impl First {
    /// Whether this row is what the order tells of.
    pub(crate) fn is(&self, bell: &Bell) -> bool {
        bell.order().as_ref() == Some(&self.order)
    }
}

/// The keys of all schedules.
pub(crate) fn schedules() -> KeyRange {
    (Bound::Included(Bytes::from_static(SCHEDULE)), Bound::Excluded(successor(SCHEDULE)))
}

/// The keys of their order.
pub(crate) fn order() -> KeyRange {
    (Bound::Included(Bytes::from_static(ORDER)), Bound::Excluded(successor(ORDER)))
}

/// Whether this is the key of a schedule, which counts towards what a handler may write.
pub(crate) fn is_schedule(key: &[u8]) -> bool {
    key.starts_with(SCHEDULE)
}

/// The schedule that rings first. `diff` is what is not stored yet of [`order`].
pub(crate) async fn first(
    diff: Diff,
    backend: &dyn Backend,
    room: &RoomAddress,
) -> Result<Option<First>, BackendError> {
    let rows = diff.scan(backend, room, &order(), false, 1).await?;
    let Some((order, _)) = rows.into_iter().next() else { return Ok(None) };
    let (time, name) = order
        .get(ORDER.len()..)
        .and_then(|rest| rest.split_first_chunk())
        .ok_or_else(|| BackendError::Failed("the order of the schedules is damaged".into()))?;
    let rings = Timestamp::from_millis(u64::from_be_bytes(*time));
    let key = [SCHEDULE, name].concat().into();
    Ok(Some(First { order, rings, key }))
}

/// Makes a batch's wake-up right: the first moment at which the alarm or a schedule rings when it is stored.
/// Nothing to do for a batch without a wake-up.
///
/// Only one commit of a room is in flight, so the store and the batch are all there is.
pub(crate) async fn resolve(
    batch: &mut Batch,
    backend: &dyn Backend,
    room: &RoomAddress,
) -> Result<(), BackendError> {
    if batch.wake_up.is_none() {
        return Ok(());
    }
    let (alarm, diff) = {
        let layers = [&*batch];
        (lookup(&layers, &AlarmRow::KEY), Diff::over(&layers, &order()))
    };
    let alarm = match alarm {
        Lookup::Ask => backend.read(room, &[AlarmRow::KEY]).await?.into_iter().next().flatten(),
        known => known.value(),
    };
    let alarm = alarm.map(|row| AlarmRow::decode(&row)).transpose()?;
    let alarm = alarm.filter(|row| !row.is_parked()).map(|row| row.rings());
    let schedule = first(diff, backend, room).await?.map(|first| first.rings);
    let next = alarm.into_iter().chain(schedule).min();
    batch.wake_up = Some(next.map_or(WakeUp::Never, WakeUp::At));
    Ok(())
}

/// The schedules of a room as they are stored, in the order of their names. Starts nothing and changes
/// nothing.
///
/// # Errors
///
/// When the store fails, or holds something else in the place of a schedule.
///
/// ```
/// use partykit_core::{MemoryBackend, RoomAddress, RoomId, runtime::read_schedules};
///
/// # futures_executor::block_on(async {
/// let room = RoomAddress::new("main", RoomId::new("lobby")?);
/// assert!(read_schedules(&MemoryBackend::default(), &room).await?.is_empty());
/// # Ok::<(), partykit_core::BoxError>(())
/// # }).unwrap();
/// ```
pub async fn read_schedules(
    backend: &dyn Backend,
    room: &RoomAddress,
) -> Result<Vec<Schedule>, BackendError> {
    let none = Diff::over(&[], &schedules());
    let rows = none.scan(backend, room, &schedules(), false, usize::MAX).await?;
    let bells = rows.iter().map(|(key, value)| Bell::decode(key, value));
    let schedules = bells.map(|bell| bell.map(Bell::schedule));
    schedules.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_executor::block_on;

    use super::*;
    use crate::{MemoryBackend, RoomId};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn bell(name: &str, millis: u64) -> Bell {
        let when = When::Every(Duration::from_secs(60));
        let payload = Some("[1]".to_owned());
        Bell::new(Box::new(Plan { name: name.to_owned(), when, payload }), at(millis))
    }

    /// Stores batches one after another, and says what is woken when.
    struct Store(MemoryBackend, RoomAddress);

    impl Store {
        fn new() -> Self {
            Self(MemoryBackend::default(), RoomAddress::new("main", RoomId::new("a").unwrap()))
        }

        fn commit(&self, mut batch: Batch) -> Option<u64> {
            let Self(backend, room) = self;
            block_on(async {
                let epoch = backend.claim(room).await.unwrap().epoch;
                resolve(&mut batch, backend, room).await.unwrap();
                backend.commit(room, epoch, batch).await.unwrap();
                let found = backend.wake_ups(None, 2).await.unwrap();
                assert!(found.len() < 2);
                found.first().map(|(at, _)| at.as_millis())
            })
        }

        fn first(&self) -> Option<String> {
            let none = Diff::over(&[], &order());
            let first = block_on(first(none, &self.0, &self.1)).unwrap();
            first.map(|first| String::from_utf8(first.key[SCHEDULE.len()..].to_vec()).unwrap())
        }
    }

    #[test]
    fn the_room_is_woken_for_the_first_of_all_whoever_writes_last() {
        let store = Store::new();
        let (a, b) = (bell("a", 300), bell("b", 200));
        assert_eq!(store.commit(Bell::replace(None, Some(&a))), Some(300));
        assert_eq!(store.commit(AlarmRow::batch(Some(AlarmRow::new(at(500))))), Some(300));
        assert_eq!(store.commit(Bell::replace(None, Some(&b))), Some(200));
        assert_eq!(store.commit(AlarmRow::batch(Some(AlarmRow::new(at(100))))), Some(100));
        assert_eq!(store.commit(AlarmRow::batch(None)), Some(200));
        assert_eq!(store.first().as_deref(), Some("b"));
        let later = b.with(AlarmRow::new(at(400)));
        assert_eq!(store.commit(Bell::replace(Some(&b), Some(&later))), Some(300));
        assert_eq!(store.commit(Bell::replace(Some(&a), None)), Some(400));
        let parked = later.with(later.times().parked());
        assert_eq!(store.commit(Bell::replace(Some(&later), Some(&parked))), None);
        assert_eq!(store.first(), None);
        let mut both = Bell::replace(Some(&parked), Some(&b));
        both.merge(AlarmRow::batch(Some(AlarmRow::new(at(900)))));
        assert_eq!(store.commit(both), Some(200));
        let mut again = Batch { clear: true, ..Batch::default() };
        again.merge(Bell::replace(None, Some(&a)));
        assert_eq!(store.commit(again), Some(300), "what a clear removes does not count");
        assert_eq!(store.commit(Batch { clear: true, ..Batch::default() }), None);
    }

    #[test]
    fn what_touches_no_bell_asks_the_store_nothing() {
        let store = Store::new();
        store.commit(Bell::replace(None, Some(&bell("a", 300))));
        let mut batch = Batch { writes: [("\u{1}k".into(), None)].into(), ..Batch::default() };
        block_on(resolve(&mut batch, &store.0, &store.1)).unwrap();
        assert_eq!(batch.wake_up, None);
        assert_eq!(store.commit(batch), Some(300));
    }

    #[test]
    fn those_of_one_moment_are_in_the_order_of_their_names() {
        let store = Store::new();
        for name in ["b", "aa", "a", "\u{10FFFF}", "c"] {
            store.commit(Bell::replace(None, Some(&bell(name, 7))));
        }
        let mut order = Vec::new();
        while let Some(name) = store.first() {
            store.commit(Bell::replace(Some(&bell(&name, 7)), None));
            order.push(name);
        }
        assert_eq!(order, ["a", "aa", "b", "c", "\u{10FFFF}"]);
    }

    #[test]
    fn a_row_survives_its_encoding_and_another_is_refused() {
        for when in
            [When::At(at(7)), When::After(Duration::from_secs(3)), When::Every(Duration::MAX)]
        {
            let plan = Plan { name: "é".to_owned(), when: when.whole(), payload: None };
            let bell = Bell::new(Box::new(plan), at(5));
            assert_eq!(Bell::decode(&bell.key(), &bell.encode()).unwrap(), bell);
        }
        let error = Bell::decode(&Bell::key_of("tick"), b"").unwrap_err().to_string();
        assert!(error.contains("the row of the schedule \"tick\""), "{error}");
        let alarm = AlarmRow::new(at(9));
        assert_eq!(Bell::decode(&AlarmRow::KEY, &alarm.encode()).unwrap(), Bell::from(alarm));
    }
}
