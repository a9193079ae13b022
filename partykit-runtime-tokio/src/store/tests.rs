//! What needs a hand inside: failures below the log, and what is on disk in between.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;
use partykit_core::{
    Backend, BackendError, Batch, RoomAddress, RoomId, Timestamp, WakeUp, conformance::storage,
};
use tempfile::TempDir;

use super::{DiskBackend, Durability, EVERYTHING, StoreError, StoreOptions, faults::Faults, log};

struct Disk {
    directory: TempDir,
}

impl Disk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn open(&self) -> DiskBackend {
        DiskBackend::open(self.path(), Durability::Durable).unwrap()
    }

    fn faults(&self) -> Faults {
        Faults::of(&self.path().join("log"))
    }

    fn log_files(&self) -> Vec<u64> {
        log::files(&self.path().join("log")).unwrap()
    }

    /// A copy, as a process leaves the directory that is killed now. The store tidies up in a thread of its
    /// own: a copy during which a file has changed, come or gone is of no moment, and is made again.
    fn at_one_moment(&self) -> TempDir {
        for _ in 0..1_000 {
            let copy = tempfile::tempdir().unwrap();
            let Ok(before) = files(self.path()) else { continue };
            let is_copied = copy_all(self.path(), copy.path()).is_ok();
            if is_copied && files(self.path()).is_ok_and(|after| after == before) {
                return copy;
            }
        }
        panic!("the store does not come to rest");
    }
}

/// What a file is known by: its path, its length, and when it was written last.
type Known = (PathBuf, u64, SystemTime);

/// The files in a directory and below, sorted.
fn files(directory: &Path) -> io::Result<Vec<Known>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let (path, about) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        match about.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push((path, about.len(), about.modified()?)),
        }
    }
    found.sort();
    Ok(found)
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => fs::create_dir(&to).and_then(|()| copy_all(&entry.path(), &to))?,
            false => fs::copy(entry.path(), to).map(drop)?,
        }
    }
    Ok(())
}

fn room(name: &str) -> RoomAddress {
    RoomAddress::new("main", RoomId::new(name).unwrap())
}

fn put(key: &'static str, value: impl Into<Bytes>) -> Batch {
    Batch { writes: [(key.into(), Some(value.into()))].into(), ..Batch::default() }
}

async fn rows(store: &DiskBackend, room: &RoomAddress) -> Vec<(Bytes, Bytes)> {
    store.scan(room, &EVERYTHING, false, usize::MAX).await.unwrap()
}

fn row(key: &'static str, value: impl Into<Bytes>) -> (Bytes, Bytes) {
    (key.into(), value.into())
}

#[tokio::test]
async fn a_failed_write_or_sync_fails_the_commit_and_the_store_recovers() {
    let disk = Disk::new();
    let store = disk.open();
    let (a, b) = (room("a"), room("b"));
    let (of_a, of_b) = (store.claim(&a).await.unwrap(), store.claim(&b).await.unwrap());
    store.commit(&a, of_a.epoch, put("k", "0")).await.unwrap();

    for round in 0..4 {
        let before = rows(&store, &a).await;
        match round % 2 {
            0 => disk.faults().fail_writes(1),
            _ => disk.faults().fail_syncs(1),
        }
        let claim = store.claim(&a).await.unwrap();
        let failed = store.commit(&a, claim.epoch, put("k", format!("{round}"))).await;
        let BackendError::Failed(cause) = failed.unwrap_err() else { panic!("not stale") };
        assert!(cause.to_string().contains("a planned failure"), "{cause}");
        assert!(cause.to_string().contains(&*disk.path().to_string_lossy()), "{cause}");

        let claim = store.claim(&a).await.unwrap();
        let after = rows(&store, &a).await;
        let whole = vec![row("k", format!("{round}"))];
        match round % 2 {
            0 => assert_eq!(after, before, "half of a record was read"),
            _ => assert!(after == before || after == whole),
        }
        // Who was not in it goes on as if nothing had been.
        store.commit(&b, of_b.epoch, put("k", format!("{round}"))).await.unwrap();
        store.commit(&a, claim.epoch, put("k", format!("next {round}"))).await.unwrap();
        assert_eq!(rows(&store, &a).await, [row("k", format!("next {round}"))]);
    }
    drop(store);
    let store = disk.open();
    assert_eq!(rows(&store, &a).await, [row("k", "next 3")]);
    assert_eq!(rows(&store, &b).await, [row("k", "3")]);
}

#[tokio::test]
async fn it_keeps_the_contract_while_the_disk_fails_now_and_then() {
    for seed in 0..2 {
        let disk = Disk::new();
        let (store, faults) = (disk.open(), disk.faults());
        let cases = storage::random_failures(&store, seed);
        let mut cases = std::pin::pin!(cases);
        let mut polls = 0_u32;
        std::future::poll_fn(|cx| {
            polls += 1;
            match (seed as u32).wrapping_add(polls) % 31 {
                0 => faults.fail_writes(1),
                13 => faults.fail_syncs(1),
                _ => {}
            }
            cases.as_mut().poll(cx)
        })
        .await;
        assert!(polls > 100, "it waited for the writer {polls} times");
    }
}

#[tokio::test]
async fn all_rooms_that_wait_fail_with_it_and_none_of_them_for_ever() {
    let disk = Disk::new();
    let store = disk.open();
    let rooms: Vec<_> = (0..64).map(|n| room(&n.to_string())).collect();
    for round in 0..8 {
        let claims = rooms.iter().map(|room| store.claim(room));
        let claims = futures_util::future::try_join_all(claims).await.unwrap();
        disk.faults().fail_syncs(round % 3);
        let commits = rooms
            .iter()
            .zip(&claims)
            .map(|(room, claim)| store.commit(room, claim.epoch, put("round", format!("{round}"))));
        let results = futures_util::future::join_all(commits).await;
        for (room, result) in rooms.iter().zip(results) {
            if result.is_ok() {
                assert_eq!(rows(&store, room).await, [row("round", format!("{round}"))]);
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_opened_anew_is_refused_until_it_can() {
    let disk = Disk::new();
    let store = disk.open();
    let claim = store.claim(&room("a")).await.unwrap();
    store.commit(&room("a"), claim.epoch, put("k", "1")).await.unwrap();

    // The list of the tree's files is gone while the store fails and opens itself again.
    let (list, aside) = (disk.path().join("tree/current"), disk.path().join("aside"));
    fs::rename(&list, &aside).unwrap();
    disk.faults().fail_syncs(1);
    store.commit(&room("a"), claim.epoch, put("k", "2")).await.unwrap_err();
    let error = store.claim(&room("a")).await.unwrap_err();
    assert!(error.to_string().contains("tree/current"), "{error}");
    store.commit(&room("a"), claim.epoch, put("k", "3")).await.unwrap_err();
    store.read(&room("a"), &["k".into()]).await.unwrap_err();
    store.wake_ups(None, 1).await.unwrap_err();

    fs::rename(&aside, &list).unwrap();
    let mut states = store.0.shared.state.subscribe();
    states.wait_for(|state| matches!(state, super::State::Open(_))).await.unwrap();
    let claim = store.claim(&room("a")).await.unwrap();
    store.commit(&room("a"), claim.epoch, put("k", "4")).await.unwrap();
    assert_eq!(rows(&store, &room("a")).await, [row("k", "4")]);
}

#[tokio::test]
async fn the_log_goes_when_the_tree_has_what_it_held() {
    let disk = Disk::new();
    let store = disk.open();
    let claim = store.claim(&room("a")).await.unwrap();
    for n in 0..24_u8 {
        let batch = put("k", vec![n; 1 << 20]);
        store.commit(&room("a"), claim.epoch, batch).await.unwrap();
        // Those of four parts of memory, and one that was made ahead.
        assert!(disk.log_files().len() <= 5, "{:?}", disk.log_files());
    }
    store.close().await;
    assert!(disk.log_files().last() >= Some(&4), "{:?}", disk.log_files());
    let store = disk.open();
    assert_eq!(disk.log_files(), [0; 0]);
    assert_eq!(rows(&store, &room("a")).await, [row("k", vec![23; 1 << 20])]);
}

#[tokio::test]
async fn batches_at_the_limit_of_a_file_of_the_log() {
    let disk = Disk::new();
    let store = disk.open();
    let claim = store.claim(&room("a")).await.unwrap();
    let length = StoreOptions::default().part() as usize;
    for size in (length - 100..length).step_by(19) {
        let value = Bytes::from(vec![size as u8; size]);
        store.commit(&room("a"), claim.epoch, put("k", value.clone())).await.unwrap();
        assert_eq!(rows(&store, &room("a")).await, [row("k", value)]);
    }
    drop(store);
    let store = disk.open();
    assert_eq!(rows(&store, &room("a")).await[0].1.len(), length - 100 + 19 * 5);
}

#[tokio::test]
async fn removed_wake_ups_are_not_stepped_over_for_ever() {
    let disk = Disk::new();
    let store = disk.open();
    let wakes =
        |at| Batch { wake_up: Some(WakeUp::At(Timestamp::from_millis(at))), ..Batch::default() };
    let (early, late) = (room("early"), room("late"));
    let of_early = store.claim(&early).await.unwrap().epoch;
    let of_late = store.claim(&late).await.unwrap().epoch;
    store.commit(&late, of_late, wakes(1 << 40)).await.unwrap();
    for at in 0..100 {
        store.commit(&early, of_early, wakes(at)).await.unwrap();
        let first = store.wake_ups(None, 1).await.unwrap();
        assert_eq!(first, [(Timestamp::from_millis(at), early.clone())]);
    }
    store.commit(&early, of_early, wakes(3)).await.unwrap();
    let all = store.wake_ups(None, 9).await.unwrap();
    let times: Vec<_> = all.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [3, 1 << 40], "one that comes before all others is found");
    let never = Batch { wake_up: Some(WakeUp::Never), ..Batch::default() };
    store.commit(&early, of_early, never.clone()).await.unwrap();
    store.commit(&late, of_late, never).await.unwrap();
    for _ in 0..3 {
        assert_eq!(store.wake_ups(None, 9).await.unwrap(), []);
    }
    store.commit(&late, of_late, wakes(7)).await.unwrap();
    assert_eq!(store.wake_ups(None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_room_that_nobody_claims_has_no_entry() {
    let disk = Disk::new();
    let store = disk.open();
    let rooms: Vec<_> = (0..100).map(|n| room(&n.to_string())).collect();
    for room in &rooms {
        let claim = store.claim(room).await.unwrap();
        store.commit(room, claim.epoch, put("k", "v")).await.unwrap();
        store.release(room, claim.epoch);
        // A claim that is dropped on its way does not count.
        drop(store.claim(room));
    }
    assert_eq!(store.0.shared.claims.count(), 0);
}

#[tokio::test]
async fn what_is_asked_of_a_closed_store_fails() {
    let disk = Disk::new();
    let store = disk.open();
    let claim = store.claim(&room("a")).await.unwrap();
    store.commit(&room("a"), claim.epoch, put("k", "1")).await.unwrap();
    store.close().await;
    store.close().await;
    for error in [
        store.claim(&room("a")).await.unwrap_err(),
        store.commit(&room("a"), claim.epoch, put("k", "2")).await.unwrap_err(),
        store.read(&room("a"), &["k".into()]).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("closed"), "{error}");
    }
    let again = disk.open();
    assert_eq!(rows(&again, &room("a")).await, [row("k", "1")]);
    drop(store);
    assert!(matches!(
        DiskBackend::open(disk.path(), Durability::Durable),
        Err(StoreError::InUse { .. })
    ));
}

/// Any call of the engine may panic, on any thread: what was acknowledged is there, no caller waits for
/// ever, and the store goes on without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_engine_reopens_the_store() {
    let disk = Disk::new();
    let store = disk.open();
    let room = room("a");
    let mut acknowledged = Vec::new();
    for place in ["change", "in_memory", "seal", "flush", "show", "merge", "mark", "forget"] {
        disk.faults().panic_at(place);
        if place == "mark" {
            // It is called when the store is opened.
            disk.faults().fail_syncs(1);
        }
        let mut number = 0_u64;
        while disk.faults().is_to_panic() {
            number += 1;
            assert!(number < 100_000, "{place} is never called");
            let Ok(claim) = store.claim(&room).await else { continue };
            let key = format!("{place} {}", number % 32);
            let writes = [(Bytes::from(key.clone()), Some(Bytes::from(vec![1; 200_000])))].into();
            let batch = Batch { writes, ..Batch::default() };
            if store.commit(&room, claim.epoch, batch).await.is_ok() {
                acknowledged.push(key);
            }
            if place == "forget" {
                // It is due once writes pause.
                let rests = std::time::Instant::now();
                while disk.faults().is_to_panic() && rests.elapsed() < super::upkeep::REST * 3 {
                    tokio::task::yield_now().await;
                }
            }
        }
        // It comes back by itself.
        loop {
            let Ok(claim) = store.claim(&room).await else { continue };
            if store.commit(&room, claim.epoch, put("after", place)).await.is_ok() {
                break;
            }
        }
        let found = rows(&store, &room).await;
        let has = |key: &str| found.iter().any(|(found, _)| found == key);
        assert!(acknowledged.iter().all(|key| has(key)), "{place}");
    }
    store.close().await;
    drop(store);
    let found = rows(&disk.open(), &room).await;
    assert!(found.contains(&row("after", "forget")));
    assert!(acknowledged.iter().all(|key| found.iter().any(|(found, _)| found == key)));
}

/// The directory could not be synced after the file `store` was replaced, and then the process dies: once
/// the store opened no more.
#[tokio::test]
async fn a_failed_sync_of_a_directory_and_a_restart_lose_nothing() {
    for failing in 1..12 {
        let disk = Disk::new();
        let store = disk.open();
        disk.faults().fail_directory_sync(failing);
        let mut acknowledged = None;
        for n in 0..30_u8 {
            let Ok(claim) = store.claim(&room("a")).await else { continue };
            let value = vec![n; 600_000];
            if store.commit(&room("a"), claim.epoch, put("k", value)).await.is_ok() {
                acknowledged = Some(n);
            }
        }
        let killed = disk.at_one_moment();
        let again = DiskBackend::open(killed.path(), Durability::Durable);
        let again = again.unwrap_or_else(|error| panic!("sync {failing}: {error}"));
        let found = rows(&again, &room("a")).await;
        assert_eq!(found.first().map(|(_, value)| value[0]), acknowledged, "sync {failing}");
    }
}
