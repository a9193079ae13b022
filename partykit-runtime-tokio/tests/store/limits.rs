//! The limits of the public storage API, one below, at and above each, over the disk.

use std::ops::Bound;

use bytes::Bytes;
use partykit_core::{
    Backend, Batch, Body, Request, Response, Result, Room, RoomAddress, RoomId, Server,
    StorageError,
};
use partykit_runtime_tokio::{Handle, Runtime};
use tempfile::TempDir;

use super::support::{address, directory, open, puts, rows, write};

const KEY: usize = 2048;
const ROW: usize = 2_000_000;
const BATCH: usize = 32 << 20;
const KEYS: usize = 128;

/// Does what the path says with sizes of the query: answers `ok` or the error.
#[derive(Default)]
struct Clerk;

impl Server for Clerk {
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let numbers: Vec<usize> =
            request.uri().path().split('/').filter_map(|part| part.parse().ok()).collect();
        let result = match numbers[..] {
            [key, value] => put(room, key, value).await,
            [keys] => many(room, keys).await,
            [rows, size, last] => batch(room, rows, size, last),
            _ => Ok(()),
        };
        Ok(Response::new(match result {
            Ok(()) => "ok".into(),
            Err(error) => format!("{error}").into(),
        }))
    }
}

/// A value that differs from place to place.
fn value(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

async fn put(room: &Room, key: usize, size: usize) -> Result<(), StorageError> {
    let key = "k".repeat(key);
    room.storage().put_bytes(&key, value(size))?;
    room.storage().sync().await?;
    assert!(room.storage().get_bytes(&key).await?.is_some_and(|found| found == value(size)));
    Ok(())
}

async fn many(room: &Room, keys: usize) -> Result<(), StorageError> {
    let names: Vec<String> = (0..keys).map(|n| format!("{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    room.storage().put_many_bytes(names.iter().map(|name| (*name, name.to_string().into())))?;
    room.storage().sync().await?;
    let found = room.storage().get_many_bytes(&names).await?;
    assert!(names.iter().zip(found).all(|(name, found)| found.as_deref() == Some(name.as_bytes())));
    Ok(())
}

fn batch(room: &Room, rows: usize, size: usize, last: usize) -> Result<(), StorageError> {
    (0..rows).try_for_each(|n| room.storage().put_bytes(&format!("{n:04}"), value(size)))?;
    room.storage().put_bytes("last", value(last))
}

async fn ask(handle: &Handle, room: &str, numbers: &[usize]) -> String {
    let path: String = numbers.iter().map(|number| format!("/{number}")).collect();
    let request = http::Request::builder().uri(path).body(Body::empty()).unwrap();
    let answer = handle.request("clerk", room, request).await.unwrap();
    let (head, body) = answer.into_parts();
    assert_eq!(head.status, 200);
    String::from_utf8(body.bytes().unwrap().to_vec()).unwrap()
}

fn runtime(directory: &TempDir) -> Runtime {
    Runtime::builder().party::<Clerk>("clerk").data(directory.path()).build().unwrap()
}

#[tokio::test]
async fn keys_rows_and_calls_at_their_limits() {
    let directory = directory();
    let runtime = runtime(&directory);
    let handle = runtime.handle();
    for (numbers, fits) in [
        (vec![0, 1], false),
        (vec![1, 0], true),
        (vec![KEY - 1, 1], true),
        (vec![KEY, 1], true),
        (vec![KEY + 1, 1], false),
        (vec![1, ROW - 2], true),
        (vec![1, ROW - 1], true),
        (vec![1, ROW], false),
        (vec![KEY, ROW - KEY - 1], true),
        (vec![KEY, ROW - KEY], true),
        (vec![KEY, ROW - KEY + 1], false),
        (vec![KEYS - 1], true),
        (vec![KEYS], true),
        (vec![KEYS + 1], false),
    ] {
        let answer = ask(&handle, "room", &numbers).await;
        assert_eq!(answer == "ok", fits, "{numbers:?}: {answer}");
    }
    let longest = "r".repeat(RoomId::MAX_LEN);
    for room in [&longest[1..], &longest] {
        assert_eq!(ask(&handle, room, &[KEY, ROW - KEY]).await, "ok");
    }
    handle.shutdown().await;

    let store = open(directory.path());
    for room in ["room", &longest[1..], &longest] {
        let address = RoomAddress::new("clerk", RoomId::new(room).unwrap());
        let found = rows(&store, &address).await.unwrap();
        let longest = found.iter().map(|(key, _)| key.len()).max();
        // Core puts a byte in front of a user's key.
        assert_eq!(longest, Some(KEY + 1), "{} rows", found.len());
    }
}

#[tokio::test]
async fn a_batch_at_its_limit() {
    let directory = directory();
    let runtime = runtime(&directory);
    let handle = runtime.handle();
    // Each row has a key of four bytes, and so has the last one.
    let (rows_of, size) = (16, 1_999_996);
    let largest = BATCH - rows_of * 2_000_000 - 4;
    for (last, fits) in [(largest - 1, true), (largest + 1, false), (largest, true)] {
        let answer = ask(&handle, "room", &[rows_of, size, last]).await;
        assert_eq!(answer == "ok", fits, "{last}: {answer}");
    }
    handle.shutdown().await;

    let store = open(directory.path());
    let room = RoomAddress::new("clerk", RoomId::new("room").unwrap());
    let found = rows(&store, &room).await.unwrap();
    assert_eq!(found.len(), rows_of + 1);
    assert!(found[..rows_of].iter().all(|(_, found)| *found == value(size)));
    assert_eq!(found[rows_of].1, value(largest));
}

#[tokio::test]
async fn names_beyond_what_a_key_may_have_are_refused() {
    let directory = directory();
    let store = open(directory.path());
    let cases = [
        (u16::MAX as usize - 1 - 4 - 4 - 8, 0, true),
        (u16::MAX as usize - 4 - 4 - 8, 0, false),
        (u16::MAX as usize - 1 - 4 - 4 - 8 - 100, 100, true),
        (u16::MAX as usize - 1 - 4 - 4 - 8 - 100, 101, false),
        (100_000, 0, false),
    ];
    for (n, (length, key, fits)) in cases.into_iter().enumerate() {
        let room = RoomAddress::new("p".repeat(length), RoomId::new(format!("roo{n}")).unwrap());
        let wake_up = Some(partykit_core::WakeUp::At(partykit_core::Timestamp::from_millis(1)));
        let batch = Batch { wake_up, ..puts([(vec![b'k'; key], "v")]) };
        let result = write(&store, &room, batch).await;
        assert_eq!(result.is_ok(), fits, "{length}, {key}: {result:?}");
        let expected = if fits { vec![(vec![b'k'; key].into(), "v".into())] } else { vec![] };
        assert_eq!(rows(&store, &room).await.unwrap(), expected);
        let after = (partykit_core::Timestamp::from_millis(0), room);
        store.wake_ups(Some(&after), 9).await.unwrap();
    }
    // What cannot be a key can still be asked for.
    let (room, cannot_be) = (address("a"), Bytes::from(vec![b'k'; 70_000]));
    let near: Vec<_> = [60_000, 65_000].map(|length| vec![b'k'; length]).into();
    write(&store, &room, puts(near.iter().map(|key| (key, "v")).chain([(&b"l".to_vec(), "v")])))
        .await
        .unwrap();
    assert_eq!(store.read(&room, std::slice::from_ref(&cannot_be)).await.unwrap(), [None]);
    for bound in [Bound::Included(cannot_be.clone()), Bound::Excluded(cannot_be)] {
        for (range, count) in
            [((bound.clone(), Bound::Unbounded), 1), ((Bound::Unbounded, bound.clone()), 2)]
        {
            assert_eq!(store.scan(&room, &range, false, 9).await.unwrap().len(), count);
        }
    }
}

#[tokio::test]
async fn pages_neither_lose_nor_repeat_a_row_that_stays() {
    let directory = directory();
    let store = open(directory.path());
    let room = address("pages");
    let stays = (0..500).map(|n| (format!("{n:04} stays"), "v"));
    write(&store, &room, puts(stays)).await.unwrap();
    let writing = {
        let (store, room) = (store.clone(), room.clone());
        tokio::spawn(async move {
            let claim = store.claim(&room).await.unwrap();
            for round in 0..200_u32 {
                let changing = |n: u32| format!("{:04} changes", (round * 37 + n * 61) % 500);
                let writes = (0..16)
                    .map(|n| (changing(n).into(), (n % 2 == 0).then(|| "new".into())))
                    .collect();
                let batch = Batch { writes, ..Batch::default() };
                store.commit(&room, claim.epoch, batch).await.unwrap();
            }
        })
    };
    let mut runs = 0;
    while !writing.is_finished() || runs < 3 {
        for reverse in [false, true] {
            let mut found = Vec::new();
            let mut range = super::support::EVERYTHING;
            loop {
                let page = store.scan(&room, &range, reverse, 7).await.unwrap();
                let Some((last, _)) = page.last().cloned() else { break };
                let excluded = std::ops::Bound::Excluded(last);
                if reverse {
                    range.1 = excluded;
                } else {
                    range.0 = excluded;
                }
                found.extend(page.into_iter().map(|(key, _)| key));
            }
            if reverse {
                found.reverse();
            }
            assert!(found.is_sorted_by(|a, b| a < b), "in order, and each once");
            let staying = found.iter().filter(|key| key.ends_with(b"stays")).count();
            assert_eq!(staying, 500);
        }
        runs += 1;
    }
    writing.await.unwrap();
}
