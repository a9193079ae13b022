//! Where a store is, who may open it, and when it is made.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use partykit_core::{
    Backend, Batch, Body, Request, Response, Result, Room, Server, conformance::storage,
};
use partykit_runtime_tokio::{
    Runtime, ServeError,
    store::{DiskBackend, Durability, StoreError},
};

use super::support::{address, directory, open, puts, rows, write};

#[tokio::test]
async fn the_directory_is_made_when_it_is_opened() {
    let directory = directory();
    let path = directory.path().join("not/yet/there");
    let store = open(&path);
    assert!(path.join("store").exists());
    let room = address("a");
    let claim = store.claim(&room).await.unwrap();
    assert!(claim.empty);
    assert_eq!(store.read(&room, &["k".into()]).await.unwrap(), [None]);
    assert_eq!(rows(&store, &room).await.unwrap(), []);
    assert_eq!(store.wake_ups(None, 9).await.unwrap(), []);
    store.commit(&room, claim.epoch, Batch::default()).await.unwrap();
    store.close().await;

    let store = open(&path);
    write(&store, &room, puts([("k", "v")])).await.unwrap();
    drop(store);
    assert_eq!(rows(&open(&path), &room).await.unwrap(), [("k".into(), "v".into())]);
}

/// Reads nothing and writes once.
#[derive(Default)]
struct Visits;

impl Server for Visits {
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        if request.method() == http::Method::PUT {
            let visits = room.storage().get("visits").await?.unwrap_or(0) + 1;
            room.storage().put("visits", &visits)?;
        }
        let visits: u32 = room.storage().get("visits").await?.unwrap_or(0);
        Ok(Response::new(format!("{visits}").into()))
    }
}

#[tokio::test]
async fn a_runtime_stores_in_its_directory() {
    let directory = directory();
    let path = directory.path().join("data");
    let mut expected = 0;
    for durability in [Durability::Durable, Durability::Relaxed, Durability::Durable] {
        let builder = Runtime::builder().party::<Visits>("visits").data(&path);
        let runtime = builder.durability(durability).build().unwrap();
        let handle = runtime.handle();
        for (method, adds) in [("GET", 0), ("PUT", 1), ("PUT", 1), ("GET", 0)] {
            assert!(path.exists());
            expected += adds;
            let request = http::Request::builder().method(method).body(Body::empty()).unwrap();
            let answer = handle.request("visits", "page", request).await.unwrap();
            assert_eq!(answer.into_body().bytes().unwrap(), &*format!("{expected}"));
        }
        handle.shutdown().await;
    }
}

#[tokio::test]
async fn a_runtime_says_which_directory_it_cannot_use() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let path = file.join("data");
    let builder = || Runtime::builder().party::<Visits>("visits").data(&path);
    let error = builder().build().unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    let error = builder().serve("127.0.0.1:0").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ServeError::Store(StoreError::Io { .. }))));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

/// What can be known at the start is said at the start: the place, what is wrong, and what to do.
#[tokio::test]
async fn a_place_that_cannot_be_used_is_known_at_the_start() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "kept").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = DiskBackend::open(&path, Durability::Durable).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains(".data(..)") && error.contains(".in_memory()"), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

/// As root, permissions hold nobody back: there is nothing to see then, and the directory that is
/// read-only for everybody stands for it in the suite of a user.
#[cfg(unix)]
#[tokio::test]
async fn a_directory_without_permission_is_an_error() {
    use std::os::unix::fs::PermissionsExt;

    let directory = directory();
    let path = directory.path().join("data");
    let store = open(&path);
    write(&store, &address("a"), puts([("k", "1")])).await.unwrap();
    drop(store);
    for part in ["store", "."] {
        let part = path.join(part);
        let before = fs::metadata(&part).unwrap().permissions();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o000)).unwrap();
        let is_barred = if part.is_dir() {
            fs::read_dir(&part).is_err()
        } else {
            fs::OpenOptions::new().write(true).open(&part).is_err()
        };
        let opened = DiskBackend::open(&path, Durability::Durable);
        fs::set_permissions(&part, before).unwrap();
        if is_barred {
            let error = opened.unwrap_err();
            assert!(matches!(error, StoreError::Io { .. }), "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        } else {
            eprintln!("skipped: {} does not keep this user out", part.display());
        }
    }
}

#[tokio::test]
async fn a_relative_path_stays_where_it_was() {
    let directory = directory();
    let here = std::env::current_dir().unwrap();
    let up = here.components().skip(1).map(|_| "..").collect::<Vec<_>>().join("/");
    let relative = format!("{up}{}", directory.path().join("data").display());
    let store = DiskBackend::open(&relative, Durability::Durable).unwrap();
    assert!(store.path().is_absolute());
    write(&store, &address("a"), puts([("k", "1")])).await.unwrap();
    assert!(directory.path().join("data/store").exists());
}

#[test]
fn a_newer_format_is_named() {
    let directory = directory();
    fs::write(directory.path().join("store"), "partykit store, format 7\nwith much news\n")
        .unwrap();
    let error = DiskBackend::open(directory.path(), Durability::Durable).unwrap_err();
    assert!(matches!(error, StoreError::NewerFormat { found: 7, known: 2, .. }), "{error:?}");
    let text = error.to_string();
    let path = directory.path().to_str().unwrap();
    assert!(text.contains("format 7") && text.contains("up to 2") && text.contains(path), "{text}");
}

#[test]
fn an_older_format_is_refused_and_nothing_is_changed() {
    let directory = directory();
    let file = directory.path().join("store");
    fs::write(&file, "partykit store, format 1\nwith rows of old\n").unwrap();
    let error = DiskBackend::open(directory.path(), Durability::Durable).unwrap_err();
    assert!(matches!(error, StoreError::OlderFormat { found: 1, known: 2, .. }), "{error:?}");
    let text = error.to_string();
    let path = directory.path().to_str().unwrap();
    assert!(
        text.contains("format 1") && text.contains("format 2") && text.contains(path),
        "{text}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"partykit store, format 1\nwith rows of old\n");
}

#[test]
fn one_store_is_open_once() {
    let directory = directory();
    let store = open(directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(write(&store, &address("a"), puts([("k", "1")]))).unwrap();
    let error = DiskBackend::open(directory.path(), Durability::Durable).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(store);
    open(directory.path());
}

/// Two that begin before there is a directory: one makes it, the other one does not start.
#[tokio::test]
async fn one_of_two_makes_the_store() {
    let directory = directory();
    let path = directory.path().join("data");
    let one = open(&path);
    let error = DiskBackend::open(&path, Durability::Durable).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    write(&one, &address("a"), puts([("k", "one")])).await.unwrap();
    drop(one);
    let other = open(&path);
    write(&other, &address("b"), puts([("k", "other")])).await.unwrap();
    assert_eq!(rows(&other, &address("a")).await.unwrap(), [("k".into(), "one".into())]);
}

/// Many at once, none of which finds a directory: exactly one gets it.
#[test]
fn one_of_many_at_once_makes_the_store() {
    for _ in 0..10 {
        let directory = directory();
        let path = directory.path().join("data");
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = || DiskBackend::open(&path, Durability::Durable);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(opened.iter().filter(|it| it.is_ok()).count(), 1, "{opened:?}");
        let in_use = |it: &&Result<_, _>| matches!(it, Err(StoreError::InUse { .. }));
        assert_eq!(opened.iter().filter(in_use).count(), 7, "{opened:?}");
    }
}

const CHILD: &str = "STORE_OF_THE_OTHER_PROCESS";

/// The other process of the next test: not a test by itself.
#[test]
fn holds_a_store_for_the_test_below() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = open(path);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(write(&store, &address("a"), puts([("k", "theirs")]))).unwrap();
    println!("\nHOLDING");
    // Until it is killed, or the test's end of this pipe is gone.
    std::io::stdin().lines().for_each(drop);
}

#[tokio::test]
async fn a_second_process_is_told_and_the_first_ones_death_is_no_obstacle() {
    let directory = directory();
    let path = directory.path().join("data");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "beginnings::holds_a_store_for_the_test_below", "--nocapture"])
        .env(CHILD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "HOLDING"), "the other process has the store");

    let error = DiskBackend::open(&path, Durability::Durable).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");

    child.kill().unwrap();
    child.wait().unwrap();
    let store = open(&path);
    assert_eq!(rows(&store, &address("a")).await.unwrap(), [("k".into(), "theirs".into())]);
    storage::order(&*store).await;
}
