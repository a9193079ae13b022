use std::{future::poll_fn, pin::pin, task::Poll};

use futures_util::future::{join, join_all};

use super::holder::{
    EVERYTHING, Holder, Rows, address, assert_rows, bytes, cleared, deletes, done, puts, row,
};
use crate::{Backend, BackendError, Batch, Timestamp, WakeUp};

/// Lines 4 and 7: epochs grow, a claim says whether the room is empty, and stores nothing.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::claims(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks one of these lines.
pub async fn claims<B: Backend + ?Sized>(backend: &B) {
    let mut holder = Holder::claim(backend, &address("claims", "room")).await;
    let mut previous = holder.epoch;
    let steps = [
        ("nothing", Batch::default(), true),
        ("a put", puts([("a", "1")]), false),
        ("a put of an empty row", cleared(puts([("", "")])), false),
        ("a delete of another row", deletes(["a"]), false),
        ("a delete of the last row", deletes([""]), true),
        ("puts", puts([("a", "1"), ("b", "2")]), false),
        ("a clear with a put", cleared(puts([("c", "3")])), false),
        ("a clear", cleared(Batch::default()), true),
    ];
    assert!(holder.found_empty, "a room is empty before its first row");
    for (name, batch, is_empty) in steps {
        holder.commit(batch).await;
        for _ in 0..2 {
            let rows = holder.rows().await;
            holder.claim_anew().await;
            assert_rows(
                &holder.rows().await,
                &rows,
                "contract line 7 (nothing for nothing): a claim changed the rows",
            );
            assert_eq!(holder.found_empty, is_empty, "`Claim::empty` after {name}");
            assert!(
                holder.epoch > previous,
                "contract line 4 (fencing): {:?} is claimed after {previous:?}",
                holder.epoch
            );
            previous = holder.epoch;
        }
    }
}

/// Line 4: a commit with an older epoch changes nothing and is refused, also in a room whose rows are
/// all gone or whose claim was released. A claim of one room does not count for another room.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::fencing(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line.
pub async fn fencing<B: Backend + ?Sized>(backend: &B) {
    let room = address("fencing", "room");
    let oldest = Holder::claim(backend, &room).await;
    let older = Holder::claim(backend, &room).await;
    oldest.assert_is_fenced(puts([("a", "stale")])).await;
    older.commit(puts([("a", "1"), ("b", "1")])).await;

    let newest = Holder::claim(backend, &room).await;
    let other = Holder::claim(backend, &address("fencing", "other")).await;
    for batch in [
        Batch::default(),
        puts([("a", "stale"), ("c", "stale"), ("d", "stale")]),
        deletes(["a", "b"]),
        cleared(Batch::default()),
        cleared(puts([("a", "stale")])),
    ] {
        oldest.assert_is_fenced(batch.clone()).await;
        older.assert_is_fenced(batch).await;
    }
    assert_rows(
        &newest.rows().await,
        &[row("a", "1"), row("b", "1")],
        "contract line 4 (fencing): the rows of the newest claim",
    );

    newest.commit(deletes(["a", "b"])).await;
    older.assert_is_fenced(puts([("a", "stale")])).await;
    newest.commit(puts([("a", "2")])).await;
    newest.commit(cleared(Batch::default())).await;
    oldest.assert_is_fenced(puts([("a", "stale")])).await;
    newest.commit(puts([("a", "3")])).await;
    other.commit(puts([("a", "other")])).await;
    assert_rows(
        &newest.rows().await,
        &[row("a", "3")],
        "contract line 4 (fencing): the rows of the newest claim",
    );

    older.release();
    newest.commit(puts([("a", "4")])).await;
    newest.release();
    newest.assert_is_fenced(puts([("a", "released")])).await;
    let next = Holder::claim(backend, &room).await;
    older.assert_is_fenced(puts([("a", "stale")])).await;
    newest.assert_is_fenced(puts([("a", "released")])).await;
    next.commit(puts([("a", "5")])).await;
}

/// Claims and commits that run at the same time: of many claims the last one holds the room, and
/// commits neither lose nor mix rows.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::concurrency(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks line 1, 3 or 4.
pub async fn concurrency<B: Backend + ?Sized>(backend: &B) {
    let room = address("concurrency", "claims");
    let mut holders = join_all((0..16).map(|_| Holder::claim(backend, &room))).await;
    holders.sort_by_key(|holder| holder.epoch);
    assert!(
        holders.is_sorted_by(|a, b| a.epoch < b.epoch),
        "contract line 4 (fencing): two claims of one room got the same epoch"
    );
    for (index, holder) in holders.iter().enumerate() {
        let batch = puts([("k", index.to_string())]);
        match index {
            15 => holder.commit(batch).await,
            _ => holder.assert_is_fenced(batch).await,
        }
    }

    let rooms: Vec<_> = (0..16).map(|n| address("concurrency", &format!("room {n}"))).collect();
    let holders = join_all(rooms.iter().map(|room| Holder::claim(backend, room))).await;
    for round in 0..4 {
        let value = |room: usize| format!("{round} in {room}");
        let commits = (holders.iter().enumerate())
            .map(|(n, holder)| holder.commit(puts([("a", value(n)), ("b", value(n))])));
        join_all(commits).await;
        for (n, holder) in holders.iter().enumerate() {
            assert_rows(
                &holder.rows().await,
                &[row("a", value(n)), row("b", value(n))],
                format!("contract lines 1 and 3: commits of 16 rooms at the same time, room {n}"),
            );
        }
    }

    for holder in &holders {
        let batch = cleared(puts([("c", "late")]));
        let before = holder.rows().await;
        let (late, newer) =
            join(holder.try_commit(batch), Holder::claim(backend, &holder.room)).await;
        let expected = match late {
            Ok(()) => vec![row("c", "late")],
            Err(BackendError::StaleEpoch(_)) => before,
            Err(error) => panic!("a commit failed that had no reason to: {error:?}"),
        };
        assert_rows(
            &newer.rows().await,
            &expected,
            "contract line 4 (fencing): a commit and a claim at the same time",
        );
        holder.assert_is_fenced(puts([("c", "later")])).await;
    }
}

/// Line 6: a dropped future leaves the store as if its call had either not been made or been
/// completed; and after the next claim that does not change any more.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::cancellation(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line, or line 3 or 4 because of it.
pub async fn cancellation<B: Backend + ?Sized>(backend: &B) {
    let room = address("cancellation", "room");
    for polls in 0..24 {
        let mut holder = Holder::claim(backend, &room).await;
        let before = vec![row("a", "old"), row("b", "old"), row("c", "old")];
        holder.commit(cleared(puts(before.iter().cloned()))).await;
        let (batch, after) = match polls % 2 {
            0 => (
                cleared(puts([("b", "new"), ("d", "new"), ("e", "new")])),
                vec![row("b", "new"), row("d", "new"), row("e", "new")],
            ),
            _ => {
                let mut batch = puts([("b", "new"), ("d", "new")]);
                batch.writes.insert(bytes("a"), None);
                (batch, vec![row("b", "new"), row("c", "old"), row("d", "new")])
            }
        };
        let finished = poll_times(polls, holder.try_commit(batch)).await.map(|commit| {
            done("commit", commit);
        });

        holder.claim_anew().await;
        let found = holder.rows().await;
        assert!(
            found == after || (found == before && finished.is_none()),
            "contract line 6 (cancellation): a commit dropped after {polls} polls left {found:?}"
        );
        poll_times(polls, std::future::pending::<()>()).await;
        assert_stays(&holder, &found).await;

        poll_times(polls, holder.scan(&EVERYTHING, false, 2)).await;
        poll_times(polls, holder.read(&[bytes("a")])).await;
        assert_stays(&holder, &found).await;

        let claimed = poll_times(polls, Holder::claim(backend, &room)).await;
        match (claimed, holder.try_commit(puts([("z", "z")])).await) {
            (None, Ok(())) | (_, Err(BackendError::StaleEpoch(_))) => {}
            (claimed, commit) => panic!(
                "contract line 6 (cancellation): after a claim that was dropped ({}), a commit gave \
                 {commit:?}",
                claimed.is_none()
            ),
        }
        Holder::claim(backend, &room).await.commit(puts([("z", "z")])).await;
    }
}

/// Lines 3 and 4, across the end of a process: `open` opens the same store again after it was dropped. The
/// rows are there, and epochs go on growing.
///
/// ```
/// use std::sync::Arc;
///
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// let memory = MemoryBackend::default();
/// let reopened = storage::persistence(async || Arc::new(memory.clone()));
/// futures_executor::block_on(reopened);
/// ```
///
/// # Panics
///
/// When the backend breaks one of these lines.
pub async fn persistence<B: Backend + ?Sized>(open: impl AsyncFn() -> std::sync::Arc<B>) {
    let room = address("persistence", "room");
    let mut expected = Rows::new();
    let mut previous = None;
    for round in 0..4_u64 {
        let backend = open().await;
        if let Some(epoch) = previous {
            let holder = Holder::with_epoch(&*backend, &room, epoch);
            assert_rows(
                &holder.rows().await,
                &expected,
                "contract line 3 (commits): the rows before and after the store was opened again",
            );
        }
        let holder = Holder::claim(&*backend, &room).await;
        assert_eq!(holder.found_empty, expected.is_empty(), "`Claim::empty` in round {round}");
        let wake_up = (Timestamp::from_millis(1000 + round), room.clone());
        if let Some(before) = round.checked_sub(1) {
            let found = done("wake_ups", backend.wake_ups(None, usize::MAX).await);
            let before = (Timestamp::from_millis(1000 + before), room.clone());
            assert!(
                found.contains(&before) && !found.contains(&wake_up),
                "contract line 8 (wake-ups): {found:?} after the store was opened again"
            );
        }
        if let Some(epoch) = previous {
            assert!(
                holder.epoch > epoch,
                "contract line 4 (fencing): {:?} is claimed after {epoch:?}, before the store was \
                 opened again",
                holder.epoch
            );
            let stale = Holder::with_epoch(&*backend, &room, epoch);
            stale.assert_is_fenced(cleared(puts([("a", "stale")]))).await;
        }
        expected = vec![row("a", format!("{round}")), row("b", "")];
        let wake_up = Some(WakeUp::At(wake_up.0));
        holder.commit(Batch { wake_up, ..cleared(puts(expected.iter().cloned())) }).await;
        previous = Some(holder.epoch);
    }
}

async fn assert_stays<B: Backend + ?Sized>(holder: &Holder<'_, B>, rows: &Rows) {
    assert_rows(
        &holder.rows().await,
        rows,
        "contract lines 4 and 6: rows changed after a newer claim, by a call that was dropped",
    );
}

/// Polls a future this many times and drops it, ready or not.
async fn poll_times<T>(mut times: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(None);
        }
        times -= 1;
        cx.waker().wake_by_ref();
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
