//! The backends of this crate pass the storage suite, and backends with one fault each do not.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_executor::block_on;
use partykit_core::{
    Backend, BackendError, Batch, Claim, Epoch, KeyRange, MemoryBackend, RoomAddress, RoomId,
    Timestamp, WakeUp, conformance::storage, testing::FaultyBackend,
};

#[test]
fn memory_passes() {
    block_on(storage::all(async || Arc::new(MemoryBackend::default())));
    let memory = MemoryBackend::default();
    block_on(storage::persistence(async || Arc::new(memory.clone())));
}

#[test]
fn a_backend_behind_the_trait_passes() {
    block_on(storage::all(async || Arc::new(MemoryBackend::default()) as Arc<dyn Backend>));
}

#[test]
fn all_cases_pass_on_one_shared_store() {
    let memory = Arc::new(MemoryBackend::default());
    block_on(storage::all(async || Arc::clone(&memory)));
}

#[test]
fn late_passes() {
    for seed in 0..3 {
        block_on(storage::all(async || {
            Arc::new(FaultyBackend::new(MemoryBackend::default(), seed).delay(0..=5))
        }));
    }
}

#[test]
fn late_and_failing_passes() {
    for seed in 0..20 {
        let backend = FaultyBackend::new(MemoryBackend::default(), seed)
            .fail_commits(0.3)
            .fail_reads(0.2)
            .delay(0..=3);
        block_on(storage::random_failures(&backend, seed));
    }
}

/// Runs a case of the suite on a fault and asks for the right complaint; and the whole suite, which
/// has to complain of something.
macro_rules! faults {
    ($($name:ident: $fault:ident, $case:ident, $complaint:literal;)+) => {$(
        #[test]
        fn $name() {
            let said = complaint(|| block_on(storage::$case(&Broken::new(Fault::$fault))));
            let said = said.expect("the case did not notice");
            assert!(said.contains($complaint), "complained of something else: {said}");

            let all = storage::all(async || Arc::new(Broken::new(Fault::$fault)));
            complaint(|| block_on(all)).expect("the suite did not notice");
        }
    )+};
}

faults! {
    ignored_epochs: IgnoresEpochs, fencing, "line 4 (fencing)";
    epochs_forgotten_with_the_rows: ForgetsEpochs, fencing, "line 4 (fencing)";
    a_claim_that_outlives_its_release: KeepsReleasedClaims, fencing, "line 4 (fencing)";
    a_release_of_somebody_elses_claim: ReleasesForOthers, fencing, "commit";
    a_refused_commit_that_is_half_done: WritesBeforeItChecks, fencing, "line 4 (fencing)";
    a_dropped_commit_that_is_half_done: WritesOneByOne, cancellation, "line 6 (cancellation)";
    rooms_that_share_a_name: JoinsNames, separation, "line 1 (rooms are separate)";
    a_clear_that_reaches_another_room: ClearsSiblings, separation, "line 1 (rooms are separate)";
    a_reverse_scan_of_the_wrong_end: ReversesThePage, ranges, "line 2 (order)";
    keys_in_another_order: OrdersByLength, order, "line 2 (order)";
    an_excluded_bound_that_is_included: IncludesBounds, ranges, "line 2 (order)";
    a_clear_that_comes_last: ClearsLast, batches, "line 3 (commits)";
    a_scan_that_stops_early: CapsScans, ranges, "1000 rows were found and 2999 expected";
    an_empty_value_that_is_lost: LosesEmptyValues, reads, "an empty value is a value";
    a_claim_that_stores: StoresClaims, claims, "line 7 (nothing for nothing)";
    a_claim_that_never_finds_a_room_empty: NeverEmpty, claims, "empty before its first row";
    wake_ups_in_another_order: WakesByName, wake_ups, "line 8 (wake-ups)";
    a_wake_up_that_outlives_a_clear: KeepsClearedWakeUps, wake_ups, "line 8 (wake-ups)";
    a_wake_up_that_is_never_removed: NeverForgetsWakeUps, wake_ups, "line 8 (wake-ups)";
    a_list_that_forgets_rooms_with_a_wake_up_alone: ListsRowsOnly, rooms, "line 9 (lists of rooms)";
    a_list_of_rooms_that_are_empty: ListsClaims, rooms, "line 9 (lists of rooms)";
    a_list_of_parties_with_a_like_name: ListsLikeNames, rooms, "line 9 (lists of rooms)";
    a_list_by_bytes: ListsByBytes, room_pages, "line 9 (lists of rooms)";
    a_page_that_begins_with_the_last_room: RepeatsTheLastRoom, rooms, "line 9 (lists of rooms)";
    a_wake_up_of_a_refused_commit: WritesWakeUpsBeforeItChecks, wake_ups, "line 8 (wake-ups)";
}

#[test]
fn a_failed_commit_that_is_half_done() {
    let complaint = complaint(|| {
        block_on(storage::random_failures(&Broken::new(Fault::FailsHalfway), 1));
    });
    let complaint = complaint.expect("the suite did not notice");
    assert!(complaint.contains("left a part of its batch"), "{complaint}");
}

#[test]
fn a_store_that_is_empty_when_opened_anew() {
    let complaint = complaint(|| {
        block_on(storage::persistence(async || Arc::new(MemoryBackend::default())));
    });
    assert!(complaint.expect("the suite did not notice").contains("line 3 (commits)"));
}

/// What the suite panicked with.
fn complaint(suite: impl FnOnce()) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(suite)).err()?;
    Some(match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a panic with a message")).to_owned(),
    })
}

/// The reference with one fault.
struct Broken {
    memory: MemoryBackend,
    fault: Fault,
    newest: Mutex<HashMap<RoomAddress, Epoch>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    CapsScans,
    ClearsLast,
    ClearsSiblings,
    FailsHalfway,
    NeverEmpty,
    NeverForgetsWakeUps,
    ForgetsEpochs,
    IgnoresEpochs,
    IncludesBounds,
    JoinsNames,
    KeepsClearedWakeUps,
    KeepsReleasedClaims,
    ListsByBytes,
    ListsClaims,
    ListsLikeNames,
    ListsRowsOnly,
    LosesEmptyValues,
    OrdersByLength,
    ReleasesForOthers,
    RepeatsTheLastRoom,
    ReversesThePage,
    StoresClaims,
    WakesByName,
    WritesBeforeItChecks,
    WritesWakeUpsBeforeItChecks,
    WritesOneByOne,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self { memory: MemoryBackend::default(), fault, newest: Mutex::default() }
    }

    fn room(&self, room: &RoomAddress) -> RoomAddress {
        match self.fault {
            Fault::JoinsNames => {
                let joined = RoomId::new(format!("{}/{}", room.party(), room.room()));
                joined.map_or_else(|_| room.clone(), |id| RoomAddress::new("all", id))
            }
            _ => room.clone(),
        }
    }

    /// Commits whatever the epoch is.
    async fn force(&self, room: &RoomAddress, batch: Batch) -> Result<(), BackendError> {
        let newest = self.newest.lock().unwrap().get(room).copied();
        let epoch = match newest {
            Some(epoch) => epoch,
            None => self.memory.claim(room).await?.epoch,
        };
        self.memory.commit(room, epoch, batch).await
    }
}

#[async_trait]
impl Backend for Broken {
    async fn claim(&self, room: &RoomAddress) -> Result<Claim, BackendError> {
        let room = self.room(room);
        let claim = self.memory.claim(&room).await?;
        self.newest.lock().unwrap().insert(room.clone(), claim.epoch);
        Ok(match self.fault {
            Fault::StoresClaims => {
                let epoch = claim.epoch.0.to_string();
                let writes = [("claim".into(), Some(epoch.into()))].into();
                self.memory
                    .commit(&room, claim.epoch, Batch { writes, ..Batch::default() })
                    .await?;
                claim
            }
            Fault::NeverEmpty => Claim { empty: false, ..claim },
            _ => claim,
        })
    }

    async fn read(
        &self,
        room: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError> {
        let values = self.memory.read(&self.room(room), keys).await?;
        Ok(match self.fault {
            Fault::LosesEmptyValues => {
                values.into_iter().map(|value| value.filter(|it| !it.is_empty())).collect()
            }
            _ => values,
        })
    }

    async fn scan(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        use std::ops::Bound;

        let room = self.room(room);
        match self.fault {
            Fault::CapsScans => self.memory.scan(&room, range, reverse, limit.min(1000)).await,
            Fault::ReversesThePage => {
                let mut rows = self.memory.scan(&room, range, false, limit).await?;
                if reverse {
                    rows.reverse();
                }
                Ok(rows)
            }
            Fault::OrdersByLength => {
                let mut rows = self.memory.scan(&room, range, reverse, limit).await?;
                rows.sort_by_key(|(key, _)| key.len());
                Ok(rows)
            }
            Fault::IncludesBounds => {
                let include = |bound: &Bound<Bytes>| match bound {
                    Bound::Excluded(key) => Bound::Included(key.clone()),
                    bound => bound.clone(),
                };
                let range = (include(&range.0), include(&range.1));
                self.memory.scan(&room, &range, reverse, limit).await
            }
            _ => self.memory.scan(&room, range, reverse, limit).await,
        }
    }

    async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        let room = self.room(room);
        match self.fault {
            Fault::IgnoresEpochs => self.force(&room, batch).await,
            Fault::ForgetsEpochs if self.memory.rows(&room).is_empty() => {
                self.force(&room, batch).await
            }
            Fault::WritesBeforeItChecks => {
                let result = self.memory.commit(&room, epoch, batch.clone()).await;
                if result.is_err() {
                    let writes = batch.writes.into_iter().take(1).collect();
                    self.force(&room, Batch { writes, ..batch }).await?;
                }
                result
            }
            Fault::WritesOneByOne => {
                let clear = Batch { clear: batch.clear, ..Batch::default() };
                self.memory.commit(&room, epoch, clear).await?;
                for write in batch.writes {
                    yield_once().await;
                    let batch = Batch { writes: [write].into(), ..Batch::default() };
                    self.memory.commit(&room, epoch, batch).await?;
                }
                Ok(())
            }
            Fault::FailsHalfway => {
                let writes: std::collections::BTreeMap<_, _> =
                    batch.writes.iter().take(1).map(|(k, v)| (k.clone(), v.clone())).collect();
                let is_whole = writes.len() == batch.writes.len();
                let batch = Batch { writes, ..batch };
                self.memory.commit(&room, epoch, batch).await?;
                match is_whole {
                    true => Ok(()),
                    false => Err(BackendError::Failed("the disk is full".into())),
                }
            }
            Fault::ClearsLast if batch.clear => {
                self.memory.commit(&room, epoch, Batch { clear: false, ..batch }).await?;
                self.memory.commit(&room, epoch, Batch { clear: true, ..Batch::default() }).await
            }
            Fault::ClearsSiblings if batch.clear => {
                let sibling = RoomAddress::new(room.party(), RoomId::new("b").expect("an id"));
                self.force(&sibling, Batch { clear: true, ..Batch::default() }).await?;
                self.force(&room, batch).await
            }
            Fault::KeepsClearedWakeUps if batch.clear && batch.wake_up.is_none() => {
                let found = self.memory.wake_ups(None, usize::MAX).await?;
                let kept = found.into_iter().find(|(_, address)| *address == room);
                let wake_up = kept.map(|(at, _)| WakeUp::At(at));
                self.memory.commit(&room, epoch, Batch { wake_up, ..batch }).await
            }
            Fault::NeverForgetsWakeUps => {
                let wake_up = batch.wake_up.filter(|wake_up| *wake_up != WakeUp::Never);
                self.memory.commit(&room, epoch, Batch { wake_up, ..batch }).await
            }
            Fault::WritesWakeUpsBeforeItChecks if batch.wake_up.is_some() => {
                let result = self.memory.commit(&room, epoch, batch.clone()).await;
                let wake_up = batch.wake_up;
                self.force(&room, Batch { wake_up, ..Batch::default() }).await?;
                result
            }
            _ => self.memory.commit(&room, epoch, batch).await,
        }
    }

    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        let mut found = self.memory.wake_ups(after, usize::MAX).await?;
        if self.fault == Fault::WakesByName {
            found.sort_by(|(_, one), (_, other)| one.cmp(other));
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn rooms(
        &self,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomId>, BackendError> {
        let mut found = self.memory.rooms(party, None, usize::MAX).await?;
        let claimed = self.newest.lock().unwrap().keys().cloned().collect::<Vec<_>>();
        match self.fault {
            Fault::ListsRowsOnly => found.retain(|room| {
                !self.memory.rows(&RoomAddress::new(party, room.clone())).is_empty()
            }),
            Fault::ListsClaims => {
                let claimed = claimed.iter().filter(|room| room.party() == party);
                found.extend(claimed.map(|room| room.room().clone()));
            }
            Fault::ListsLikeNames => {
                for room in claimed.iter().filter(|room| room.party().starts_with(party)) {
                    found.extend(self.memory.rooms(room.party(), None, usize::MAX).await?);
                }
            }
            _ => {}
        }
        let place = |room: &RoomId| match self.fault {
            Fault::ListsByBytes => (0, room.clone()),
            _ => (room.len(), room.clone()),
        };
        found.sort_by_key(place);
        found.dedup();
        found.retain(|room| match (after, self.fault) {
            (None, _) => true,
            (Some(after), Fault::RepeatsTheLastRoom) => place(room) >= place(after),
            (Some(after), _) => place(room) > place(after),
        });
        found.truncate(limit);
        Ok(found)
    }

    fn release(&self, room: &RoomAddress, epoch: Epoch) {
        match self.fault {
            Fault::KeepsReleasedClaims => {}
            Fault::ReleasesForOthers => {
                let newest = self.newest.lock().unwrap().get(room).copied();
                self.memory.release(room, newest.unwrap_or(epoch));
            }
            _ => self.memory.release(&self.room(room), epoch),
        }
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
