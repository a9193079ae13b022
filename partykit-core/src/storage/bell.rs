//! What rings in a room: its alarm, and its schedules. Each is a row. A schedule has a second row, which orders
//! the schedules by the time at which they ring.

use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    AlarmRow, Backend, BackendError, Batch, Diff, KeyRange, Lookup, WakeUp, lookup, row::successor,
};
use crate::{Alarm, RoomAddress, Run, Schedule, Timestamp, When};

/// The keys of schedules begin with this, and go on with the name.
const SCHEDULE: &[u8] = b"\x00s";
/// The keys of their order begin with this, and go on with the time and the name.
const ORDER: &[u8] = b"\x00t";

/// What is stored of an alarm or a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bell {
    times: AlarmRow,
    /// `None`: it is the alarm.
    plan: Option<Box<Plan>>,
}

/// What makes a schedule of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) when: When,
    pub(crate) payload: Option<String>,
}

impl From<AlarmRow> for Bell {
    fn from(times: AlarmRow) -> Self {
        Self { times, plan: None }
    }
}

impl Bell {
    pub(crate) fn new(plan: Plan, first: Timestamp) -> Self {
        Self { times: AlarmRow::new(first), plan: Some(Box::new(plan)) }
    }

    /// The key of a schedule's row.
    pub(crate) fn key_of(name: &str) -> Bytes {
        [SCHEDULE, name.as_bytes()].concat().into()
    }

    pub(crate) fn key(&self) -> Bytes {
        self.plan.as_ref().map_or(AlarmRow::KEY, |plan| Self::key_of(&plan.name))
    }

    pub(crate) fn times(&self) -> &AlarmRow {
        &self.times
    }

    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
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
        let Some(plan) = &self.plan else { return Ok(None) };
        let next = plan.when.next(self.alarm().scheduled, wall);
        next.map_err(|error| {
            let text = format!("the schedule {:?} cannot be understood: {error}", plan.name);
            BackendError::Failed(text.into())
        })
    }

    /// The run that begins at `wall`. `None` for the alarm.
    pub(crate) fn run(&self, wall: Timestamp) -> Option<Run> {
        let Plan { name, when, payload } = self.plan()?;
        let Alarm { scheduled, retries, deaths } = self.alarm();
        let (name, payload) = (name.clone(), payload.clone());
        let missed = when.missed(scheduled, wall);
        Some(Run { name, scheduled, missed, retries, deaths, payload })
    }

    /// The schedule as users see it.
    pub(crate) fn schedule(self) -> Option<Schedule> {
        let Plan { name, when, payload } = *self.plan?;
        let Alarm { retries, deaths, .. } = self.times.alarm();
        let next = (!self.times.is_parked()).then(|| self.times.rings());
        Some(Schedule { name, when, next, retries, deaths, payload })
    }

    /// The batch that puts `next` in the place of `last`; either may be nothing. Both have this key.
    ///
    /// Its wake-up says that there is one to be found out, which [`resolve`] does.
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
        let Some(plan) = &self.plan else { return self.times.encode() };
        let row = (self.times, &plan.when, &plan.payload);
        // Postcard can encode all of it, so this never fails.
        postcard::to_extend(&row, Vec::new()).unwrap_or_default().into()
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, BackendError> {
        let Some(name) = key.strip_prefix(SCHEDULE) else {
            return AlarmRow::decode(value).map(Self::from);
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let failed = |error| {
            BackendError::Failed(format!("the row of the schedule {name:?}: {error}").into())
        };
        let Row { times, when, payload } = postcard::from_bytes(value).map_err(failed)?;
        Ok(Self { times, plan: Some(Box::new(Plan { name, when, payload })) })
    }

    /// The key that orders it by its time. `None` for the alarm, and if it does not ring.
    fn order(&self) -> Option<Bytes> {
        let plan = self.plan.as_ref().filter(|_| !self.times.is_parked())?;
        let time = self.times.rings().as_millis().to_be_bytes();
        Some([ORDER, &time, plan.name.as_bytes()].concat().into())
    }
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
        Bell::new(Plan { name: name.to_owned(), when, payload: Some("[1]".to_owned()) }, at(millis))
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
            let bell = Bell::new(plan, at(5));
            assert_eq!(Bell::decode(&bell.key(), &bell.encode()).unwrap(), bell);
        }
        let error = Bell::decode(&Bell::key_of("tick"), b"").unwrap_err().to_string();
        assert!(error.contains("the row of the schedule \"tick\""), "{error}");
        let alarm = AlarmRow::new(at(9));
        assert_eq!(Bell::decode(&AlarmRow::KEY, &alarm.encode()).unwrap(), Bell::from(alarm));
    }
}
