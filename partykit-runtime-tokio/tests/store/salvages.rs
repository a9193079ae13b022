//! What is left of a damaged store: never a wrong value, and who lacks something is named.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use partykit_core::{Backend, Batch, RoomAddress, Timestamp, WakeUp};
use partykit_runtime_tokio::store::{
    self, CopyError, DiskBackend, Durability, Salvage, SalvageOptions, StoreError,
};

use super::{
    damage::{Files, put, read},
    support::{address, open, puts, quick_directory as directory, rows, write},
};

const ROOMS: usize = 5;

/// All rooms that have something.
type State = BTreeMap<RoomAddress, BTreeMap<Bytes, Bytes>>;

/// A store with several files of the tree and a log, and what it had after each commit.
struct Sample {
    files: Files,
    /// The first is the one before the first commit.
    states: Vec<State>,
}

impl Sample {
    async fn make() -> Self {
        let directory = directory();
        let path = directory.path().join("store");
        let mut states = vec![State::new()];
        for life in 0..4 {
            let store = open(&path);
            for n in 0..ROOMS {
                let room = address(format!("room {n}"));
                let at = WakeUp::At(Timestamp::from_millis(n as u64));
                // Large enough that files have several blocks.
                let value = |k: usize| format!("{life} {k} {}", "x".repeat(400 + 7 * k));
                let batch = puts((0..9).map(|k| (format!("{}", (k + life) % 12), value(k))));
                let batch = Batch { wake_up: Some(at), clear: life == 2 && n == 1, ..batch };
                let mut batch = batch;
                if life == 3 {
                    batch.writes.insert("5".into(), None);
                }
                let mut state = states.last().unwrap().clone();
                let rows = state.entry(room.clone()).or_default();
                if batch.clear {
                    rows.clear();
                }
                for (key, value) in batch.writes.clone() {
                    match value {
                        Some(value) => drop(rows.insert(key, value)),
                        None => drop(rows.remove(&key)),
                    }
                }
                states.push(state);
                write(&store, &room, batch).await.unwrap();
            }
            store.close().await;
        }
        Self { files: read(&path), states }
    }

    /// Salvages these files and looks whether what is saved is right.
    async fn judge(&self, files: &Files, what: &str) -> Option<Salvage> {
        let directory = directory();
        let [path, into] = ["store", "into"].map(|name| directory.path().join(name));
        put(&path, files);
        let before = read(&path);
        let saved = match store::salvage(&path, Some(&into), SalvageOptions::new(), |_| ()) {
            Ok(saved) => saved,
            Err(
                CopyError::Doubtful { .. }
                | CopyError::Store(StoreError::NewerFormat { .. } | StoreError::OlderFormat { .. }),
            ) => {
                assert!(!into.exists());
                return None;
            }
            // Without the file `store` and without anything that was written there is no store.
            Err(CopyError::Missing { .. }) => return None,
            Err(error) => panic!("{what}: {error}"),
        };
        assert!(read(&path) == before, "{what}: it was changed");
        let only_look = store::salvage(&path, None, SalvageOptions::new(), |_| ()).unwrap();
        assert_eq!(saved, only_look, "{what}");
        let state = &self.states[usize::try_from(saved.commit).unwrap()];
        let found = content(&into).await;
        for (room, rows) in &found {
            for (key, value) in rows {
                let right = state.get(room).and_then(|rows| rows.get(key));
                assert!(right == Some(value), "{what}: a wrong value of {key:?} in {room}");
            }
        }
        for (room, rows) in state {
            let is_whole = found.get(room) == Some(rows);
            let is_named = saved.incomplete.contains(room);
            // Of a room that is lost altogether, nobody may know the name.
            let is_unknown = !found.contains_key(room);
            assert!(
                is_whole || is_named || is_unknown,
                "{what}: {room} lacks rows and is not named"
            );
            assert!(is_whole || !saved.findings.is_empty(), "{what}: nothing is told");
        }
        let is_last = saved.commit as usize + 1 == self.states.len();
        assert!(is_last || saved.lost_commits.is_some(), "{what}: the last commits are lost");
        Some(saved)
    }
}

async fn content(path: &Path) -> State {
    let mut state = State::new();
    if !path.join("store").exists() {
        return state;
    }
    let store = DiskBackend::open(path, Durability::Relaxed).unwrap();
    for n in 0..ROOMS {
        let room = address(format!("room {n}"));
        let rows = rows(&store, &room).await.unwrap();
        if !rows.is_empty() {
            state.insert(room, rows.into_iter().collect());
        }
    }
    for (at, room) in store.wake_ups(None, usize::MAX).await.unwrap() {
        assert_eq!(room, address(format!("room {}", at.as_millis())), "a wrong wake-up");
    }
    state
}

#[tokio::test]
async fn of_a_whole_store_everything_is_left() {
    let sample = Sample::make().await;
    let saved = sample.judge(&sample.files, "whole").await.unwrap();
    assert_eq!((saved.rooms, saved.wake_ups), (5, 5));
    assert_eq!((saved.findings, saved.incomplete, saved.lost_commits), (vec![], vec![], None));
}

#[tokio::test]
async fn a_flipped_bit_costs_a_block_at_most_or_the_commits_behind_it() {
    let sample = Sample::make().await;
    let mut kept = BTreeMap::<String, (usize, usize)>::new();
    for (name, (bytes, length)) in &sample.files {
        let step = (bytes.len() / 14).max(1) | 1;
        for position in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << (position % 8);
            let mut files = sample.files.clone();
            files.insert(name.clone(), (flipped, *length));
            let what = format!("{}, byte {position}", name.display());
            let saved = sample.judge(&files, &what).await;
            let kind = name.iter().take(2).collect::<std::path::PathBuf>().display().to_string();
            let count = kept.entry(kind).or_default();
            count.0 += 1;
            count.1 += usize::from(saved.is_some_and(|saved| saved.rows > 0));
        }
    }
    // In nearly all cases something is left.
    let (all, with_rows) = kept.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    assert!(with_rows * 10 > all * 8, "{kept:?}");
}

#[tokio::test]
async fn a_missing_end_or_file_costs_what_it_had() {
    let sample = Sample::make().await;
    for (name, (bytes, _)) in &sample.files {
        for length in (0..bytes.len()).step_by((bytes.len() / 6).max(1)) {
            let mut files = sample.files.clone();
            files.insert(name.clone(), (bytes[..length].to_vec(), length as u64));
            sample.judge(&files, &format!("{length} bytes of {}", name.display())).await;
        }
        let mut files = sample.files.clone();
        files.remove(name);
        sample.judge(&files, &format!("without {}", name.display())).await;
    }
}

/// Several parts at once.
#[tokio::test]
async fn much_damage_is_no_wrong_value_either() {
    let sample = Sample::make().await;
    let mut random = 0x1234_5678_9ABC_DEF0_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % below
    };
    for round in 0..40 {
        let mut files = sample.files.clone();
        for _ in 0..1 + next(3) {
            let name = files.keys().nth(next(files.len())).unwrap().clone();
            let (bytes, length) = files.get_mut(&name).unwrap();
            match (bytes.is_empty(), next(8)) {
                (true, _) => {}
                (_, 0) => drop(files.remove(&name)),
                (_, 1) => {
                    bytes.truncate(next(bytes.len()));
                    *length = bytes.len() as u64;
                }
                _ => {
                    let at = next(bytes.len());
                    bytes[at] ^= 1 << next(8);
                }
            }
        }
        sample.judge(&files, &format!("round {round}")).await;
    }
}

/// Where a newer value can have been, an older one is not saved, unless that is wanted; it is named then.
#[tokio::test]
async fn doubtful_rows_are_saved_when_they_are_wanted() {
    let sample = Sample::make().await;
    let directory = directory();
    let path = directory.path().join("store");
    put(&path, &sample.files);
    fs::remove_file(path.join("tree/current")).unwrap();
    for entry in fs::read_dir(path.join("tree")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with('v') {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let into = directory.path().join("into");
    let error = store::salvage(&path, Some(&into), SalvageOptions::new(), |_| ()).unwrap_err();
    assert!(matches!(error, CopyError::Doubtful { .. }), "{error}");
    assert!(error.to_string().contains("tree/current"), "{error}");
    let options = SalvageOptions::new().doubtful(true);
    let saved = store::salvage(&path, Some(&into), options, |_| ()).unwrap();
    assert_eq!(saved.incomplete.len(), ROOMS, "{saved:?}");
    assert!(content(&into).await == *sample.states.last().unwrap());
}

#[tokio::test]
async fn a_store_in_use_and_a_place_that_is_taken_are_refused() {
    let directory = directory();
    let path = directory.path().join("store");
    let store = open(&path);
    write(&store, &address("room 0"), puts([("k", "v")])).await.unwrap();
    let into = directory.path().join("into");
    let error = store::salvage(&path, Some(&into), SalvageOptions::new(), |_| ()).unwrap_err();
    assert!(matches!(error, CopyError::Store(StoreError::InUse { .. })), "{error}");
    drop(store);
    fs::create_dir(&into).unwrap();
    for (into, is_inside) in [(&into, false), (&path.join("into"), true)] {
        let error = store::salvage(&path, Some(into), SalvageOptions::new(), |_| ()).unwrap_err();
        let is_right = match error {
            CopyError::Exists { .. } => !is_inside,
            CopyError::Inside { .. } => is_inside,
            _ => false,
        };
        assert!(is_right, "{error}");
    }
}
