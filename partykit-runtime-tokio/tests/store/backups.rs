//! Copies of a store that is in use: whole, of one moment, and nobody waits for them.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use partykit_core::{Backend, Batch, Timestamp, WakeUp};
use partykit_runtime_tokio::store::{
    self, BackupOptions, CopyError, DiskBackend, Durability, StoreError,
};

use super::support::{address, directory, open, puts, rows, write};

/// What every room writes in one commit: two rows that have to agree, and how often it did.
async fn step(store: &DiskBackend, room: &str, n: u64) {
    let value = format!("{n}{}", "x".repeat(2000));
    let wake_up = Some(WakeUp::At(Timestamp::from_millis(n)));
    let batch = Batch { wake_up, ..puts([("left", &value), ("right", &value)]) };
    write(store, &address(room), batch).await.unwrap();
}

async fn number(store: &DiskBackend, room: &str) -> Option<u64> {
    let rows = rows(store, &address(room)).await.unwrap();
    let [left, right] = &rows[..] else {
        assert_eq!(rows, [], "half a transaction");
        return None;
    };
    assert_eq!(left.1, right.1, "half a transaction");
    let text = std::str::from_utf8(&left.1).unwrap();
    Some(text.trim_end_matches('x').parse().unwrap())
}

#[tokio::test]
async fn a_backup_is_a_store_of_its_own() {
    let directory = directory();
    let path = directory.path().join("store");
    let store = open(&path);
    for n in 0..20 {
        step(&store, &format!("{}", n % 3), n).await;
    }
    let to = directory.path().join("backup");
    let backup = store.backup(&to, BackupOptions::new()).await.unwrap();
    assert_eq!(backup.path, to);
    assert!(backup.commit >= 20, "{backup:?}");
    assert_eq!(
        backup.verification.as_ref().map(|it| (it.rooms, it.rows, it.wake_ups)),
        Some((3, 6, 3))
    );

    // Both go their way.
    let copy = open(&to);
    step(&copy, "0", 100).await;
    step(&store, "0", 200).await;
    assert_eq!(number(&copy, "0").await, Some(100));
    assert_eq!(number(&store, "0").await, Some(200));
    assert_eq!(number(&copy, "1").await, Some(19));
    drop((copy, store));
    for (path, number_of_0) in [(&path, 200), (&to, 100)] {
        assert!(store::verify(path, |_| ()).unwrap().is_sound());
        let store = open(path);
        assert_eq!(number(&store, "0").await, Some(number_of_0));
        assert_eq!(store.wake_ups(None, 9).await.unwrap().len(), 3);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
}

#[tokio::test]
async fn a_store_that_was_never_written_has_a_backup() {
    let directory = directory();
    let store = open(directory.path().join("store"));
    let to = directory.path().join("backup");
    let backup = store.backup(&to, BackupOptions::new()).await.unwrap();
    assert_eq!((backup.commit, backup.linked), (0, 0));
    let copy = open(&to);
    step(&copy, "a", 1).await;
    assert_eq!(number(&copy, "a").await, Some(1));
}

/// Under load: every word that was acknowledged before the backup began is in it, and no half transaction;
/// while the log rotates and files are merged.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_under_load_has_every_acknowledged_word() {
    const ROOMS: usize = 256;
    let directory = directory();
    let store = open(directory.path().join("store"));
    let acknowledged: Arc<Vec<AtomicU64>> =
        Arc::new((0..ROOMS).map(|_| AtomicU64::new(0)).collect());
    let writers: Vec<_> = (0..ROOMS)
        .map(|room| {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            tokio::spawn(async move {
                for n in 1.. {
                    step(&store, &format!("{room}"), n).await;
                    acknowledged[room].store(n, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 0..4 {
        // So that files come and go: about 20 MiB.
        let words = || acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).sum::<u64>();
        let begin = words();
        while words() < begin + 3000 {
            tokio::task::yield_now().await;
        }
        let before: Vec<_> = acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        let to = directory.path().join(format!("backup {round}"));
        let options = BackupOptions::new().hard_links(round % 2 == 0);
        let backup = store.backup(&to, options).await.unwrap();
        let after: Vec<_> = acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        let found = backup.verification.unwrap();
        assert_eq!((found.rooms as usize, found.rows as usize), (ROOMS, 2 * ROOMS));
        let copy = open(&to);
        for room in 0..ROOMS {
            let n = number(&copy, &format!("{room}")).await.unwrap();
            // One more may have been written that was not answered yet.
            assert!((before[room]..=after[room] + 1).contains(&n), "{n} of {before:?} {after:?}");
        }
        assert!(backup.linked > 0 || round % 2 == 1, "files are shared");
    }
    for writer in writers {
        writer.abort();
    }
}

#[tokio::test]
async fn a_place_that_is_taken_or_inside_the_store_is_refused() {
    let directory = directory();
    let path = directory.path().join("store");
    let store = open(&path);
    step(&store, "a", 1).await;
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for taken in [&file, &empty, &path] {
        let error = store.backup(taken, BackupOptions::new()).await.unwrap_err();
        let is_inside = matches!(error, CopyError::Exists { .. });
        assert!(is_inside && error.to_string().contains(taken.to_str().unwrap()), "{error}");
    }
    for inside in [path.join("backup"), path.join("tree/backup"), path.join("tree/../backup")] {
        let error = store.backup(&inside, BackupOptions::new()).await.unwrap_err();
        assert!(matches!(error, CopyError::Inside { .. }), "{error}");
    }
    #[cfg(unix)]
    {
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let error = store.backup(link.join("backup"), BackupOptions::new()).await.unwrap_err();
        assert!(matches!(error, CopyError::Inside { .. }), "{error}");
    }
    let nowhere = directory.path().join("no/such/place");
    let error = store.backup(&nowhere, BackupOptions::new()).await.unwrap_err();
    assert!(matches!(error, CopyError::Io { .. }), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    store.close().await;
    assert!(store::verify(&path, |_| ()).unwrap().is_sound());
    let error =
        store.backup(directory.path().join("late"), BackupOptions::new()).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
}

#[tokio::test]
async fn two_at_once_are_both_whole_or_one_is_refused() {
    let directory = directory();
    let store = open(directory.path().join("store"));
    step(&store, "a", 7).await;
    let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
    let (first, second) = tokio::join!(
        store.backup(&a, BackupOptions::new()),
        store.backup(&b, BackupOptions::new())
    );
    assert_eq!(first.unwrap().commit, second.unwrap().commit);
    let c = directory.path().join("c");
    let (first, second) = tokio::join!(
        store.backup(&c, BackupOptions::new()),
        store.backup(&c, BackupOptions::new())
    );
    let refused = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(&refused[..], [CopyError::Exists { .. }]), "{refused:?}");
    for path in [a, b, c] {
        assert_eq!(number(&open(path), "a").await, Some(7));
    }
}

/// A backup stands still in its callback of progress when its future is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_dropped_leaves_nothing() {
    let directory = directory();
    let store = open(directory.path().join("store"));
    step(&store, "a", 1).await;
    let to = directory.path().join("backup");
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let (begun, goes_on) = (Mutex::new(Some(begun)), Mutex::new(goes_on));
    let options = BackupOptions::new().progress(move |_| {
        if let Some(begun) = begun.lock().unwrap().take() {
            begun.send(()).unwrap();
            let _ = goes_on.lock().unwrap().recv();
        }
    });
    let backup = tokio::spawn({
        let (store, to) = (store.clone(), to.clone());
        async move { store.backup(to, options).await }
    });
    begins.await.unwrap();
    assert!(directory.path().join("backup.partial").is_dir());
    backup.abort();
    assert!(backup.await.unwrap_err().is_cancelled());
    drop(go_on);
    while directory.path().join("backup.partial").exists() {
        tokio::task::yield_now().await;
    }
    assert!(!to.exists());
    store.backup(&to, BackupOptions::new()).await.unwrap();
}

/// What a process leaves that was killed in the middle: it is no store, and the next backup removes it.
#[tokio::test]
async fn what_a_killed_backup_leaves_is_removed_by_the_next() {
    let directory = directory();
    let store = open(directory.path().join("store"));
    step(&store, "a", 1).await;
    let to = directory.path().join("backup");
    let partial = directory.path().join("backup.partial");
    fs::create_dir_all(partial.join("tree/tables")).unwrap();
    fs::write(partial.join("tree/tables/0"), "half").unwrap();
    fs::write(partial.join("unfinished"), "").unwrap();
    let error = DiskBackend::open(&partial, Durability::Durable).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    store.backup(&to, BackupOptions::new()).await.unwrap();
    assert!(!partial.exists());

    // What somebody else has put there is not.
    fs::create_dir_all(partial.join("mine")).unwrap();
    let error = store.backup(directory.path().join("backup"), BackupOptions::new()).await;
    assert!(matches!(error, Err(CopyError::Exists { .. })));
    fs::remove_dir_all(&to).unwrap();
    let error = store.backup(&to, BackupOptions::new()).await.unwrap_err();
    assert!(matches!(&error, CopyError::Exists { path } if *path == partial), "{error}");
    assert!(partial.join("mine").is_dir());
}

#[tokio::test]
async fn a_runtime_in_memory_has_nothing_to_copy() {
    #[derive(Default)]
    struct Nothing;
    impl partykit_core::Server for Nothing {}
    let builder = partykit_runtime_tokio::Runtime::builder().party::<Nothing>("n").in_memory();
    let runtime = builder.build().unwrap();
    let directory = directory();
    let to = directory.path().join("backup");
    let error = runtime.handle().backup(&to).await.unwrap_err();
    assert!(matches!(error, CopyError::NoStore), "{error}");
    assert!(error.to_string().contains("in_memory()"), "{error}");
    let selection = store::Selection::All;
    let error = runtime.handle().dump(selection, Vec::new(), |_| ()).await.map(drop).unwrap_err();
    assert!(matches!(error, CopyError::NoStore), "{error}");
    assert!(!to.exists());
}

/// A store that is damaged, which nobody has noticed, gives no backup.
#[tokio::test]
async fn a_damaged_store_gives_no_backup() {
    let directory = directory();
    let path = directory.path().join("store");
    for n in 0..2 {
        let store = open(&path);
        step(&store, "a", n).await;
        store.close().await;
    }
    let store = open(&path);
    let table = fs::read_dir(path.join("tree/tables")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&table).unwrap();
    bytes[40] ^= 1;
    fs::write(&table, bytes).unwrap();
    let to = directory.path().join("backup");
    let error = store.backup(&to, BackupOptions::new()).await.unwrap_err();
    assert!(error.to_string().contains("tables"), "{error}");
    assert_eq!(names(directory.path()), ["store"]);
}

#[cfg(target_os = "linux")]
mod disks {
    use super::{super::full_disk::SmallDisk, *};

    #[tokio::test]
    async fn onto_another_file_system_it_is_copied() {
        let Some(disk) = SmallDisk::mount(48) else { return };
        let directory = directory();
        let path = directory.path().join("store");
        for n in 0..3 {
            let store = open(&path);
            step(&store, "a", n).await;
            store.close().await;
        }
        let store = open(&path);
        let backup = store.backup(disk.path("backup"), BackupOptions::new()).await.unwrap();
        assert_eq!(backup.linked, 0);
        assert!(backup.copied > 2, "{backup:?}");
        assert_eq!(number(&open(disk.path("backup")), "a").await, Some(2));
    }

    #[tokio::test]
    async fn a_full_disk_fails_it_and_nothing_is_left() {
        let Some(disk) = SmallDisk::mount(8) else { return };
        let directory = directory();
        let store = open(directory.path().join("store"));
        for n in 0..40 {
            let batch = puts([(
                format!("{n}"),
                (0..300_000).map(|at| (at * n % 251) as u8).collect::<Vec<_>>(),
            )]);
            write(&store, &address("a"), batch).await.unwrap();
        }
        let to = disk.path("backup");
        let error = store.backup(&to, BackupOptions::new()).await.unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(!to.exists() && !disk.path("backup.partial").exists());
        assert_eq!(rows(&store, &address("a")).await.unwrap().len(), 40, "the store goes on");
    }
}

fn names(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}
