use super::holder::{Holder, address, cleared, deletes, done, puts};
use crate::{Backend, BackendError, Batch, RoomId, Timestamp, WakeUp};

/// Line 9: a room is listed while it has a row or a wake-up, with its own party, and not longer.
///
/// A backend that answers [`BackendError::Unsupported`] passes.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::rooms(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line.
pub async fn rooms<B: Backend + ?Sized>(backend: &B) {
    if !lists_rooms(backend).await {
        return;
    }
    expect(backend, PARTY, &[], "before anyone wrote anything").await;
    let a = Holder::claim(backend, &address(PARTY, "a")).await;
    expect(backend, PARTY, &[], "a claim alone").await;

    a.commit(puts([("row", "1"), ("other", "2")])).await;
    let b = Holder::claim(backend, &address(PARTY, "b")).await;
    b.commit(wakes(7_000)).await;
    let long = Holder::claim(backend, &address(PARTY, "longer")).await;
    long.commit(Batch { wake_up: wakes(1).wake_up, ..puts([("", "")]) }).await;
    // Parties whose names begin alike, and one whose name and room join to the same letters.
    for (party, room) in [("room", "a"), ("rooms-", "a"), ("roomsa", "c"), ("room", "sa")] {
        Holder::claim(backend, &address(party, room)).await.commit(puts([("row", "1")])).await;
    }
    expect(backend, PARTY, &["a", "b", "longer"], "rows, a wake-up, and both").await;
    a.release();
    b.release();
    expect(backend, PARTY, &["a", "b", "longer"], "after a release").await;
    expect(backend, "roomsa", &["c"], "of another party").await;
    expect(backend, "no-such-party", &[], "of a party that has no room").await;
    expect(backend, "", &[], "of a party without a name").await;

    let a = Holder::claim(backend, &a.room).await;
    let b = Holder::claim(backend, &b.room).await;
    a.commit(deletes(["row"])).await;
    b.commit(Batch { wake_up: Some(WakeUp::Never), ..Batch::default() }).await;
    expect(backend, PARTY, &["a", "longer"], "after its wake-up was removed").await;
    a.commit(deletes(["other"])).await;
    long.commit(Batch { wake_up: Some(WakeUp::Never), ..Batch::default() }).await;
    expect(backend, PARTY, &["longer"], "after its last row was deleted").await;
    long.commit(cleared(Batch::default())).await;
    expect(backend, PARTY, &[], "after it was cleared").await;
    long.commit(cleared(puts([("row", "2")]))).await;
    a.commit(Batch { clear: true, ..wakes(5) }).await;
    b.commit(puts([("row", "3")])).await;
    expect(backend, PARTY, &["a", "b", "longer"], "when they have something again").await;
}

/// Line 9 with many rooms: pages neither lose nor repeat one, in the order of lengths and then bytes, and
/// go on behind a room that is gone.
///
/// A backend that answers [`BackendError::Unsupported`] passes.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::room_pages(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line.
pub async fn room_pages<B: Backend + ?Sized>(backend: &B) {
    if !lists_rooms(backend).await {
        return;
    }
    let longest = "é".repeat(RoomId::MAX_LEN / 2);
    let names = (0..40).map(|n| format!("room-{n}"));
    let odd = [longest, "\u{0}".into(), "a\u{0}b".into(), "\u{10FFFF}".into(), "a".repeat(255)];
    let mut names: Vec<String> = names.chain(odd).chain(["a".repeat(256)]).collect();
    for (n, name) in names.iter().enumerate() {
        let holder = Holder::claim(backend, &address(PAGES, name)).await;
        // Rooms of one row, of many, cleared ones, and some that have a wake-up alone.
        match n % 4 {
            0 => holder.commit(puts([("row", "1")])).await,
            1 => holder.commit(puts((0..100_u32).map(|n| (n.to_be_bytes(), "v")))).await,
            2 => {
                holder.commit(puts((0..100_u32).map(|n| (n.to_be_bytes(), "v")))).await;
                holder.commit(cleared(puts([("row", "2")]))).await;
            }
            _ => holder.commit(wakes(n as u64)).await,
        }
        holder.release();
    }
    names.sort_by_key(|name| (name.len(), name.clone()));
    for limit in [1, 2, 7, 1000] {
        let found = all(backend, PAGES, limit).await;
        assert_eq!(found, names, "{LINE}: pages of {limit}");
    }
    let page = done("rooms", backend.rooms(PAGES, None, 0).await);
    assert!(page.is_empty(), "{LINE}: a limit of 0 gives no room");

    let gone = Holder::claim(backend, &address(PAGES, "room-9")).await;
    gone.commit(cleared(Batch::default())).await;
    let page = done("rooms", backend.rooms(PAGES, Some(gone.room.room()), 2).await);
    assert_eq!(
        page.iter().map(RoomId::as_str).collect::<Vec<_>>(),
        ["room-10", "room-11"],
        "{LINE}: behind a room that is gone"
    );
    let never = address(PAGES, "room-1\u{0}");
    let page = done("rooms", backend.rooms(PAGES, Some(never.room()), 1).await);
    assert_eq!(
        page.iter().map(RoomId::as_str).collect::<Vec<_>>(),
        ["room-10"],
        "{LINE}: behind a room that never was"
    );
}

/// Parties of these cases: another's rooms may be in the same store.
const PARTY: &str = "rooms";
const PAGES: &str = "room-pages";

const LINE: &str = "contract line 9 (lists of rooms)";

async fn lists_rooms<B: Backend + ?Sized>(backend: &B) -> bool {
    match backend.rooms(PARTY, None, 1).await {
        Err(BackendError::Unsupported(_)) => false,
        result => {
            done("rooms", result);
            true
        }
    }
}

fn wakes(at: u64) -> Batch {
    Batch { wake_up: Some(WakeUp::At(Timestamp::from_millis(at))), ..Batch::default() }
}

async fn all<B: Backend + ?Sized>(backend: &B, party: &str, limit: usize) -> Vec<String> {
    let mut all: Vec<RoomId> = Vec::new();
    loop {
        let page = done("rooms", backend.rooms(party, all.last(), limit).await);
        assert!(page.len() <= limit, "{LINE}: {} for {limit}", page.len());
        let is_last = page.len() < limit;
        all.extend(page);
        assert!(all.len() <= 1_000, "{LINE}: pages of {limit} come again and again");
        if is_last {
            return all.iter().map(|id| id.as_str().to_owned()).collect();
        }
    }
}

async fn expect<B: Backend + ?Sized>(backend: &B, party: &str, expected: &[&str], when: &str) {
    for limit in [1, 2, 1000] {
        assert_eq!(all(backend, party, limit).await, expected, "{LINE}: {when}, pages of {limit}");
    }
}
