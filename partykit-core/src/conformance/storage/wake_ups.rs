use super::holder::{Holder, address, cleared, done, puts};
use crate::{Backend, BackendError, Batch, RoomAddress, RoomId, Timestamp, WakeUp};

/// Line 8: wake-ups are set, replaced and removed with their batches, and come in the order of their
/// times, page by page.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::wake_ups(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line.
pub async fn wake_ups<B: Backend + ?Sized>(backend: &B) {
    // Names, times and commits are in three different orders.
    let times = [("d", 7_000), ("a", 9_000), ("c", 0), ("b", 8_000), ("long", 1 << 52)];
    let mut holders = Vec::new();
    for (name, at) in times {
        let holder = Holder::claim(backend, &address(PARTY, name)).await;
        holder.commit(wakes(at)).await;
        assert!(holder.rows().await.is_empty(), "contract line 8 (wake-ups): one is no row");
        holders.push(holder);
    }
    let [d, a, c, b, long] = holders.try_into().unwrap_or_else(|_| unreachable!("five rooms"));
    let again = Holder::claim(backend, &c.room).await;
    assert!(again.found_empty, "contract line 8 (wake-ups): `Claim::empty` counts rows only");
    let c = again;
    expect(backend, &[("c", 0), ("d", 7_000), ("b", 8_000), ("a", 9_000), ("long", 1 << 52)]).await;

    a.commit(puts([("row", "1")])).await;
    c.commit(Batch { wake_up: Some(WakeUp::Never), ..puts([("row", "1")]) }).await;
    b.commit(wakes(6_999)).await;
    long.commit(Batch { wake_up: Some(WakeUp::Never), ..Batch::default() }).await;
    long.commit(Batch { wake_up: Some(WakeUp::Never), ..Batch::default() }).await;
    expect(backend, &[("b", 6_999), ("d", 7_000), ("a", 9_000)]).await;

    d.commit(cleared(puts([("row", "2")]))).await;
    a.commit(Batch { clear: true, ..wakes(3) }).await;
    expect(backend, &[("a", 3), ("b", 6_999)]).await;

    let newer = Holder::claim(backend, &b.room).await;
    match b.try_commit(wakes(1)).await {
        Err(BackendError::StaleEpoch(_)) => {}
        other => panic!("contract line 4 (fencing): a stale wake-up was answered {other:?}"),
    }
    match b.try_commit(cleared(Batch::default())).await {
        Err(BackendError::StaleEpoch(_)) => {}
        other => panic!("contract line 4 (fencing): a stale clear was answered {other:?}"),
    }
    expect(backend, &[("a", 3), ("b", 6_999)]).await;
    newer.release();
    a.release();
    expect(backend, &[("a", 3), ("b", 6_999)]).await;
}

/// Line 8 with many rooms: pages neither lose nor repeat one, also when rooms share a time and when
/// the entry before the page is gone.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::wake_up_pages(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line.
pub async fn wake_up_pages<B: Backend + ?Sized>(backend: &B) {
    let longest = "é".repeat(RoomId::MAX_LEN / 2);
    let names = (0..40).map(|n| format!("{n}")).chain([longest, "\u{0}".into(), "a\u{0}b".into()]);
    let mut expected = Vec::new();
    for (n, name) in names.enumerate() {
        let room = address(PAGES, &name);
        // A third of the rooms share one time.
        let at = if n % 3 == 0 { 500 } else { 100 + 13 * (n as u64 % 7) };
        let holder = Holder::claim(backend, &room).await;
        holder.commit(wakes(at)).await;
        holder.release();
        expected.push((Timestamp::from_millis(at), room));
    }
    for limit in [1, 2, 7, 1000] {
        let mut found = all(backend, limit).await;
        found.retain(|(_, room)| room.party() == PAGES);
        assert!(
            found.is_sorted_by_key(|(at, _)| *at),
            "contract line 8 (wake-ups): they come in the order of their times"
        );
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "contract line 8 (wake-ups): pages of {limit}");
    }
    let first = done("wake_ups", backend.wake_ups(None, 1).await).remove(0);
    let holder = Holder::claim(backend, &first.1).await;
    holder.commit(Batch { wake_up: Some(WakeUp::Never), ..Batch::default() }).await;
    let next = done("wake_ups", backend.wake_ups(Some(&first), 1).await);
    assert!(
        next.first().is_some_and(|next| next.0 >= first.0 && *next != first),
        "contract line 8 (wake-ups): after an entry that is gone comes the next one"
    );
    assert!(done("wake_ups", backend.wake_ups(None, 0).await).is_empty(), "a limit of none");
}

/// Parties of these cases: another's wake-ups may be in the same store.
const PARTY: &str = "wake-ups";
const PAGES: &str = "wake-up-pages";

fn wakes(at: u64) -> Batch {
    Batch { wake_up: Some(WakeUp::At(Timestamp::from_millis(at))), ..Batch::default() }
}

async fn all<B: Backend + ?Sized>(backend: &B, limit: usize) -> Vec<(Timestamp, RoomAddress)> {
    let mut all = Vec::new();
    loop {
        let page = done("wake_ups", backend.wake_ups(all.last(), limit).await);
        assert!(page.len() <= limit, "contract line 8 (wake-ups): {} for {limit}", page.len());
        let is_last = page.len() < limit;
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

#[track_caller]
fn same(found: &[(String, u64)], expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
    assert_eq!(
        found, expected,
        "contract line 8 (wake-ups): the rooms in the order of their times"
    );
}

async fn expect<B: Backend + ?Sized>(backend: &B, expected: &[(&str, u64)]) {
    for limit in [1, 3, 1000] {
        let found = all(backend, limit).await;
        let of_case = found.into_iter().filter(|(_, room)| room.party() == PARTY);
        let found: Vec<_> =
            of_case.map(|(at, room)| (room.room().to_string(), at.as_millis())).collect();
        same(&found, expected);
    }
}
