//! A directory that goes away, or gets other files, while the store in it is open.
#![cfg(unix)]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use partykit_core::{Backend, Batch, Claim};
use partykit_runtime_tokio::store::{DiskBackend, Durability, StoreError};
use tempfile::TempDir;

use super::support::{address, directory, open, puts, rows, write};

/// Removes a file, or a directory in which an open store may make files meanwhile.
fn remove(path: &Path) {
    if path.is_file() {
        return fs::remove_file(path).unwrap();
    }
    while let Err(error) = fs::remove_dir_all(path) {
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty);
    }
}

/// An open store with an acknowledged row.
struct Scene {
    _directory: TempDir,
    data: PathBuf,
    aside: PathBuf,
    store: Arc<DiskBackend>,
    claim: Claim,
}

impl Scene {
    async fn new() -> Self {
        let directory = directory();
        let data = directory.path().join("data");
        let store = open(&data);
        let claim = store.claim(&address("a")).await.unwrap();
        let scene = Self {
            data,
            aside: directory.path().join("aside"),
            store,
            claim,
            _directory: directory,
        };
        scene.put("before").await.unwrap();
        scene
    }

    async fn put(&self, key: &str) -> Result<(), partykit_core::BackendError> {
        self.store.commit(&address("a"), self.claim.epoch, puts([(key, "v")])).await
    }

    /// Nothing is acknowledged any more, and the error says where and what to do.
    async fn is_refused(&self) {
        for _ in 0..3 {
            let error = self.put("refused").await.unwrap_err().to_string();
            assert!(error.contains(self.data.to_str().unwrap()), "{error}");
            assert!(
                error.contains("moved, removed or replaced") || error.contains("damaged"),
                "{error}"
            );
        }
    }
}

fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}

/// A file that the store removes meanwhile is an error of `cp`, which then begins again.
fn copy(from: &Path, to: &Path) {
    let from = from.join(".");
    let copied = || Command::new("cp").arg("-a").arg(&from).arg(to).status().unwrap().success();
    assert!((0..100).any(|_| copied()));
}

#[tokio::test]
async fn a_directory_that_is_removed_is_not_made_again() {
    let scene = Scene::new().await;
    remove(&scene.data);
    scene.is_refused().await;
    scene.store.close().await;
    assert!(!scene.data.exists());
}

#[tokio::test]
async fn nothing_is_written_to_another_directory_in_its_place() {
    let scene = Scene::new().await;
    fs::rename(&scene.data, &scene.aside).unwrap();
    fs::create_dir(&scene.data).unwrap();
    scene.is_refused().await;
    scene.store.close().await;
    assert!(entries(&scene.data).unwrap().is_empty());
    let found = rows(&open(&scene.aside), &address("a")).await.unwrap();
    assert!(found.iter().any(|(key, _)| key == "before"));
}

#[tokio::test]
async fn a_directory_that_comes_back_is_used_again() {
    let scene = Scene::new().await;
    fs::rename(&scene.data, &scene.aside).unwrap();
    scene.is_refused().await;
    fs::rename(&scene.aside, &scene.data).unwrap();
    while scene.put("after").await.is_err() {
        tokio::task::yield_now().await;
    }
    let found = rows(&scene.store, &address("a")).await.unwrap();
    let keys: Vec<_> = found.iter().map(|(key, _)| &key[..]).collect();
    assert!(keys.contains(&&b"before"[..]) && keys.contains(&&b"after"[..]), "{keys:?}");
}

#[tokio::test]
async fn a_restore_over_a_running_server_is_refused() {
    // A copy of an earlier life, or of this one: made when it has less than was acknowledged.
    for is_of_this_life in [false, true] {
        let directory = directory();
        let (data, backup) = (directory.path().join("data"), directory.path().join("backup"));
        fs::create_dir(&backup).unwrap();
        let store = open(&data);
        write(&store, &address("a"), puts([("k", "1")])).await.unwrap();
        if is_of_this_life {
            copy(&data, &backup);
        }
        write(&store, &address("a"), puts([("k", "2")])).await.unwrap();
        store.close().await;
        drop(store);
        if !is_of_this_life {
            copy(&data, &backup);
        }
        let store = open(&data);
        if is_of_this_life {
            fs::remove_dir_all(&backup).unwrap();
            fs::create_dir(&backup).unwrap();
            write(&store, &address("a"), puts([("k", "3")])).await.unwrap();
            copy(&data, &backup);
        }
        write(&store, &address("a"), puts([("k", "4")])).await.unwrap();
        copy(&backup, &data);
        let error = write(&store, &address("a"), puts([("k", "5")])).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("moved, removed or replaced") || error.contains("damaged"),
            "{error}"
        );
        store.close().await;
    }
}

#[tokio::test]
async fn files_that_are_touched_but_the_same_are_no_harm() {
    let scene = Scene::new().await;
    for file in ["log/0000000000000001", "store"] {
        let path = scene.data.join(file);
        let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        fs::File::open(path).unwrap().set_times(times).unwrap();
        while scene.put(file).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    let found = rows(&scene.store, &address("a")).await.unwrap();
    assert!(found.iter().any(|(key, _)| key == "before"));
}

#[tokio::test]
async fn files_that_are_deleted_are_missed_before_anything_is_acknowledged() {
    for file in ["store", "log/0000000000000001", "log"] {
        let scene = Scene::new().await;
        let path = scene.data.join(file);
        remove(&path);
        assert!(scene.put("k").await.is_err(), "{file}");
        scene.store.close().await;
    }
}

/// Whatever is deleted, and however the directory is called: the second one does not start.
#[tokio::test]
async fn a_second_store_on_the_directory_does_not_start() {
    let scene = Scene::new().await;
    let refused = |path: &Path| match DiskBackend::open(path, Durability::Durable) {
        Err(StoreError::InUse { .. }) => {}
        other => panic!("{other:?}"),
    };
    refused(&scene.data);
    let _ = fs::remove_file(scene.data.join("lock"));
    refused(&scene.data);
    std::os::unix::fs::symlink(&scene.data, &scene.aside).unwrap();
    refused(&scene.aside);
    fs::remove_file(&scene.aside).unwrap();
    fs::rename(&scene.data, &scene.aside).unwrap();
    refused(&scene.aside);
    fs::remove_file(scene.aside.join("store")).unwrap();
    refused(&scene.aside);
    for entry in entries(&scene.aside).unwrap() {
        remove(&entry);
    }
    refused(&scene.aside);
    scene.store.close().await;
    drop(scene.store);
    let store = open(&scene.aside);
    let claim = store.claim(&address("a")).await.unwrap();
    store.commit(&address("a"), claim.epoch, Batch::default()).await.unwrap();
}

#[tokio::test]
async fn nobody_has_to_write_for_it_to_be_noticed() {
    let scene = Scene::new().await;
    fs::rename(&scene.data, &scene.aside).unwrap();
    // Reads are refused within a second or so.
    while rows(&scene.store, &address("a")).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
