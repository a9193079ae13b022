//! Rows that are loaded while they are asked for: the same rows as in a list, a little at a time.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use partykit_core::{List, Room, StorageError, testing::TestRoom};

use crate::{
    script::{Script, inside, test},
    watched::Watched,
};

/// A room with rows `key:000` to `key:599`, stored but for a few that its last handler writes.
async fn filled(room: &TestRoom<Script>) {
    for hundred in 0..6 {
        inside(room, move |room| {
            Box::pin(async move {
                let rows = (0..100).map(|n| (key(hundred * 100 + n), hundred * 100 + n));
                for (key, value) in rows {
                    room.storage().put(&key, &value).unwrap();
                }
            })
        })
        .await;
    }
}

fn key(number: u32) -> String {
    format!("key:{number:03}")
}

#[test]
fn gives_what_a_list_gives() {
    test(async |stage| {
        let room = stage.room();
        filled(&room).await;
        inside(&room, |room| {
            Box::pin(async move {
                let storage = room.storage();
                storage.put(&key(7), &"not stored yet").unwrap();
                storage.delete_many((300..420).map(key).collect::<Vec<_>>()).unwrap();
                storage.put("later", &1).unwrap();
                let lists = [
                    List::new(),
                    List::new().reverse(),
                    List::new().prefix("key:1"),
                    List::new().start("key:250").end("key:500"),
                    List::new().start_after("key:250").end("key:500").reverse(),
                    List::new().limit(0),
                    List::new().limit(1),
                    List::new().limit(9).reverse(),
                    List::new().limit(300),
                    List::new().start("z").end("a"),
                ];
                for list in lists {
                    let expected = storage.list_bytes(list.clone()).await.unwrap();
                    let streamed = storage.stream_bytes(list.clone());
                    let found: Vec<(String, Bytes)> = streamed.try_collect().await.unwrap();
                    assert_eq!(found, expected, "{list:?}");
                }
            })
        })
        .await;
    });
}

#[test]
fn loads_no_more_than_a_mebibyte_at_a_time() {
    test(async |stage| {
        let backend = Watched::default();
        let room = stage.builder().backend(Arc::new(backend.clone())).build();
        for n in 0..40_u32 {
            inside(&room, move |room| {
                Box::pin(async move {
                    let large = vec![0; 400_000];
                    room.storage().put_bytes(&key(n), large).unwrap();
                })
            })
            .await;
        }
        backend.take_scans();
        inside(&room, |room| {
            Box::pin(async move {
                let mut rows = room.storage().stream_bytes(List::new());
                for n in 0..40 {
                    assert_eq!(rows.next().await.unwrap().unwrap().0, key(n));
                }
                assert!(rows.next().await.unwrap().is_none());
                assert!(rows.next().await.unwrap().is_none(), "the end stays the end");
            })
        })
        .await;
        let scans = backend.take_scans();
        // The first page cannot know how large rows are.
        assert_eq!(scans[0], 8);
        assert!(scans[1..].iter().all(|rows| *rows == 2), "{scans:?}");

        inside(&room, |room| {
            Box::pin(async move {
                let mut rows = room.storage().stream_bytes(List::new().limit(3));
                rows.next().await.unwrap().unwrap();
            })
        })
        .await;
        assert_eq!(backend.take_scans(), [3], "nothing is loaded before it is asked for");
    });
}

#[test]
fn sees_what_is_written_meanwhile_to_rows_that_are_not_loaded() {
    test(async |stage| {
        let room = stage.room();
        filled(&room).await;
        inside(&room, |room| {
            Box::pin(async move {
                let storage = room.storage();
                let mut rows = storage.stream::<u32>(List::new());
                assert_eq!(rows.next().await.unwrap(), Some((key(0), 0)));
                storage.delete(&key(598)).unwrap();
                storage.put(&key(599), &1).unwrap();
                storage.put("key:600", &2).unwrap();
                storage.put("a", &3).unwrap();
                let mut last = Vec::new();
                let mut count = 1;
                while let Some((key, value)) = rows.next().await.unwrap() {
                    count += 1;
                    last.push((key, value));
                }
                assert_eq!(count, 600);
                let expected = [(key(597), 597), (key(599), 1), (key(600), 2)];
                assert_eq!(last[last.len() - 3..], expected);
            })
        })
        .await;
    });
}

#[test]
fn says_what_is_wrong_and_then_nothing_more() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async move {
                let storage = room.storage();
                let mut rows = storage.stream_bytes(List::new().prefix("x".repeat(2049)));
                let error = rows.next().await.unwrap_err();
                assert!(matches!(error, StorageError::InvalidKey(2049)), "{error}");
                assert!(rows.next().await.unwrap().is_none());
                storage.put("text", "no number").unwrap();
                assert_is_json(room, "text").await;
            })
        })
        .await;
    });
}

async fn assert_is_json(room: &Room, name: &str) {
    let error = room.storage().stream::<u32>(List::new()).next().await.unwrap_err();
    match error {
        StorageError::Json { key, .. } => assert_eq!(key, name),
        error => panic!("{error}"),
    }
}
