//! A check of a store finds every flipped bit and missing byte that means something, and writes nothing.

use std::fs;

use partykit_core::{Batch, Timestamp, WakeUp};
use partykit_runtime_tokio::store::{self, CopyError, StoreError};

use super::{
    damage::{Files, put, read},
    support::{address, open, puts, quick_directory as directory, write},
};

/// A small store with files of the tree and a log that the tree does not have yet.
pub(crate) async fn sample() -> Files {
    let directory = directory();
    let path = directory.path().join("store");
    for life in 0..3 {
        let store = open(&path);
        for n in 0..4 {
            let room = address(format!("room {n}"));
            let wake_up = Some(WakeUp::At(Timestamp::from_millis(n * 7 % 5)));
            let batch =
                puts([(format!("{life}"), vec![b'a' + life; 30]), ("k".into(), vec![life; 9])]);
            write(&store, &room, Batch { wake_up, ..batch }).await.unwrap();
        }
        if life == 1 {
            write(&store, &address("room 3"), Batch { clear: true, ..puts([("new", "1")]) })
                .await
                .unwrap();
        }
        store.close().await;
    }
    read(&path)
}

#[tokio::test]
async fn every_flipped_bit_is_found() {
    let sample = sample().await;
    let directory = directory();
    let path = directory.path().join("store");
    put(&path, &sample);
    let report = store::verify(&path, |_| ()).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.rooms, report.wake_ups), (4, 4));
    assert_eq!(report.rows, 3 * 4 + 3);
    assert!(report.files >= 2, "{report:?}");
    for (name, (bytes, length)) in &sample {
        let mut missed = 0;
        // All of them take minutes; these are others for each file.
        for position in (name.as_os_str().len() % 3..bytes.len()).step_by(3) {
            let mut bytes = bytes.clone();
            bytes[position] ^= 1 << (position % 8);
            let files = [(name.clone(), (bytes, *length))].into();
            put(&path, &files);
            missed += usize::from(match store::verify(&path, |_| ()) {
                Ok(report) => report.is_sound(),
                Err(CopyError::Store(
                    StoreError::NewerFormat { .. } | StoreError::OlderFormat { .. },
                )) => false,
                Err(error) => panic!("{}, byte {position}: {error}", name.display()),
            });
        }
        assert_eq!(missed, 0, "{}", name.display());
        put(&path, &[(name.clone(), (bytes.clone(), *length))].into());
    }
    assert!(store::verify(&path, |_| ()).unwrap().is_sound());
}

#[tokio::test]
async fn every_missing_end_and_file_is_found() {
    let sample = sample().await;
    let directory = directory();
    let path = directory.path().join("store");
    put(&path, &sample);
    for (name, (bytes, length)) in sample.iter().filter(|(_, (bytes, _))| !bytes.is_empty()) {
        for cut in (0..bytes.len()).step_by(17) {
            put(&path, &[(name.clone(), (bytes[..cut].to_vec(), cut as u64))].into());
            let report = store::verify(&path, |_| ()).unwrap();
            assert!(!report.is_sound(), "{} of {cut} bytes", name.display());
        }
        fs::remove_file(path.join(name)).unwrap();
        let report = store::verify(&path, |_| ()).unwrap();
        assert!(!report.is_sound(), "without {}", name.display());
        put(&path, &[(name.clone(), (bytes.clone(), *length))].into());
    }
}

#[tokio::test]
async fn it_writes_nothing_and_keeps_off_a_store_in_use() {
    let directory = directory();
    let path = directory.path().join("store");
    put(&path, &sample().await);
    // What a crash leaves, and what the next start removes, it leaves alone.
    fs::write(path.join("tree/tables/99"), "begun").unwrap();
    let before = read(&path);
    assert!(store::verify(&path, |_| ()).unwrap().is_sound());
    assert_eq!(read(&path), before);

    let store = open(&path);
    let error = store::verify(&path, |_| ()).unwrap_err();
    assert!(matches!(error, CopyError::Store(StoreError::InUse { .. })), "{error}");
    drop(store);
    assert!(store::verify(&path, |_| ()).unwrap().is_sound());
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for nothing in [empty, directory.path().join("nothing")] {
        let error = store::verify(&nothing, |_| ()).unwrap_err();
        assert!(matches!(error, CopyError::Missing { .. }), "{error}");
    }
}

#[tokio::test]
async fn progress_is_told() {
    let directory = directory();
    let path = directory.path().join("store");
    put(&path, &sample().await);
    let mut told = Vec::new();
    store::verify(&path, |progress| told.push(progress)).unwrap();
    let [first, .., last] = &told[..] else { panic!("{told:?}") };
    assert_eq!(first.done, 0);
    let checked = told.iter().rev().find(|progress| progress.total.is_some()).unwrap();
    assert!(checked.done > 0 && checked.total == Some(checked.done), "{told:?}");
    assert_eq!(checked.to_string(), "checking: 0.0 of 0.0 MiB");
    assert_eq!(last.to_string(), "reading: 0.0 MiB");
}
