//! What is stored is stored whole, within its limits, and reads find what was written.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_executor::block_on;
use partykit_core::{List, StorageError};
use proptest::prelude::*;

use crate::script::{Stage, heard, inside, test};

const KEY: usize = 2048;
const ROW: usize = 2_000_000;
const BATCH: usize = 32 << 20;

#[test]
fn keys_have_1_to_2048_bytes_whatever_is_done_with_them() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async {
                let storage = room.storage();
                for (length, fits) in [(0, false), (1, true), (KEY, true), (KEY + 1, false)] {
                    let key = &"k".repeat(length);
                    let results = [
                        storage.put(key, &1),
                        storage.put_bytes(key, "v"),
                        storage.put_many([(key, 1)]),
                        storage.get::<u32>(key).await.map(drop),
                        storage.get_many::<u32>(&[key, key]).await.map(drop),
                        storage.delete(key),
                    ];
                    for result in results {
                        match result {
                            Ok(()) => assert!(fits, "{length}"),
                            Err(StorageError::InvalidKey(said)) => assert!(!fits && said == length),
                            Err(error) => panic!("{length}: {error}"),
                        }
                    }
                }
                // The limit counts bytes, not characters.
                assert!(storage.put(&"é".repeat(KEY / 2), &1).is_ok());
                assert!(storage.put(&"é".repeat(KEY / 2 + 1), &1).is_err());
                // The bounds of a list may be empty.
                assert!(
                    storage.list::<u32>(List::new().prefix("").start("").end("")).await.is_ok()
                );
                assert!(storage.list::<u32>(List::new().prefix("k".repeat(KEY))).await.is_ok());
                let long = "k".repeat(KEY + 1);
                for list in [
                    List::new().prefix(&long),
                    List::new().start(&long),
                    List::new().start_after(&long),
                    List::new().end(&long),
                ] {
                    let listed = storage.list::<u32>(list).await;
                    assert!(matches!(listed, Err(StorageError::InvalidKey(2049))));
                }
            })
        })
        .await;
    });
}

#[test]
fn a_key_and_its_value_have_two_million_bytes_together() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async {
                let storage = room.storage();
                for (size, fits) in [(ROW - 1, true), (ROW, true), (ROW + 1, false)] {
                    let value = vec![0; size - "key".len()];
                    match storage.put_bytes("key", value) {
                        Ok(()) => assert!(fits, "{size}"),
                        Err(StorageError::RowTooLarge { key, size: said }) => {
                            assert!(!fits && key == "key" && said == size);
                        }
                        Err(error) => panic!("{error}"),
                    }
                    // JSON text has two quotes.
                    let text = "x".repeat(size - "key".len() - 2);
                    assert_eq!(storage.put("key", &text).is_ok(), fits, "{size}");
                }
            })
        })
        .await;
        assert_eq!(room.stored::<String>("key").await.unwrap().len(), ROW - 5, "the last that fit");
    });
}

#[test]
fn a_call_takes_128_keys() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async {
                let storage = room.storage();
                for (count, fits) in [(0, true), (127, true), (128, true), (129, false)] {
                    let keys: Vec<String> = (0..count).map(|n| n.to_string()).collect();
                    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
                    let results = [
                        storage.put_many(keys.iter().map(|key| (key, 1))),
                        storage.get_many::<u32>(&names).await.map(drop),
                        storage.delete_many(&keys),
                    ];
                    for result in results {
                        match result {
                            Ok(()) => assert!(fits, "{count}"),
                            Err(StorageError::TooManyKeys(said)) => assert!(!fits && said == count),
                            Err(error) => panic!("{count}: {error}"),
                        }
                    }
                }
                assert_eq!(storage.list::<u32>(List::new()).await.unwrap(), []);
            })
        })
        .await;
    });
}

#[test]
fn a_handler_writes_32_mebibytes_until_it_syncs() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async {
                let storage = room.storage();
                let row = Bytes::from(vec![0; ROW - 1]);
                let fill = |rest: usize| {
                    for key in "abcdefghijklmnop".chars() {
                        storage.put_bytes(key.encode_utf8(&mut [0; 4]), row.clone()).unwrap();
                    }
                    storage.put_bytes("z", vec![0; BATCH - 16 * ROW - 1 - rest])
                };
                fill(1).unwrap();
                fill(0).unwrap();
                let over = storage.put_many_bytes([("y", Bytes::new()), ("x", Bytes::new())]);
                assert!(
                    matches!(over, Err(StorageError::BatchTooLarge(size)) if size == BATCH + 2)
                );
                assert_eq!(
                    storage.get_bytes("y").await.unwrap(),
                    None,
                    "nothing of it was written"
                );
                assert!(storage.delete("y").is_err(), "a delete is written, too");
                // What replaces a row of the same handler takes its place.
                storage.put_bytes("z", "").unwrap();
                storage.put_bytes("y", "").unwrap();
                fill(1).unwrap();
                storage.sync().await.unwrap();
                storage.put_bytes("x", row.clone()).unwrap();
                storage.delete_all();
                fill(0).unwrap();
            })
        })
        .await;
        assert_eq!(room.rows(List::new()).await.len(), 17);
    });
}

#[test]
fn a_rolled_back_transaction_gives_its_bytes_back() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async {
                let storage = room.storage();
                for _ in 0..3 {
                    let undone = storage.transaction(async |storage| {
                        for key in 0..16 {
                            storage.put_bytes(&key.to_string(), vec![0; ROW - 2])?;
                        }
                        Err::<(), partykit_core::BoxError>("undone".into())
                    });
                    assert_eq!(undone.await.unwrap_err().to_string(), "undone");
                }
            })
        })
        .await;
    });
}

#[test]
fn values_are_json_or_bytes() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async {
                let storage = room.storage();
                storage.put("json", &BTreeMap::from([("a", vec![1, 2])])).unwrap();
                storage.put_bytes("bytes", vec![0xFF, 0x00]).unwrap();
                storage.put_bytes("empty", "").unwrap();
                storage.put("null", &None::<u32>).unwrap();
                assert_eq!(storage.get_bytes("json").await.unwrap().unwrap(), r#"{"a":[1,2]}"#);
                assert_eq!(storage.get_bytes("bytes").await.unwrap().unwrap()[..], [0xFF, 0x00]);
                assert_eq!(storage.get_bytes("empty").await.unwrap(), Some(Bytes::new()));
                assert_eq!(storage.get_bytes("none").await.unwrap(), None);
                assert_eq!(storage.get::<Option<u32>>("null").await.unwrap(), Some(None));
                let many = storage.get_many_bytes(&["bytes", "none", "empty", "bytes"]).await;
                let lengths: Vec<_> =
                    many.unwrap().into_iter().map(|value| value.map(|value| value.len())).collect();
                assert_eq!(lengths, [Some(2), None, Some(0), Some(2)]);
                let unspeakable = BTreeMap::from([((1, 2), 3)]);
                let error = storage.put("map", &unspeakable).unwrap_err();
                assert!(matches!(error, StorageError::Json { key, .. } if key == "map"));
            })
        })
        .await;
    });
}

#[test]
fn a_value_of_another_shape_is_an_error_that_names_its_key() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("put:name=Ada").await;
        let errors = inside(&room, |room| {
            Box::pin(async {
                let storage = room.storage();
                [
                    storage.get::<u32>("name").await.unwrap_err().to_string(),
                    storage.get_many::<u32>(&["none", "name"]).await.unwrap_err().to_string(),
                    storage.list::<u32>(List::new()).await.unwrap_err().to_string(),
                ]
            })
        });
        for error in errors.await {
            assert!(error.starts_with("the value of \"name\": invalid type"), "{error}");
        }
    });
}

#[test]
fn a_store_that_fails_a_read_fails_it_for_the_handler_only() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        ada.send("put:k=1").await;
        let failed = inside(&room, move |room| {
            Box::pin(async move {
                let storage = room.storage();
                store.fail_next_read();
                let get = storage.get::<String>("k").await.is_err();
                store.fail_next_read();
                let list = storage.list::<String>(List::new()).await.is_err();
                (get, list, storage.get::<String>("k").await.unwrap())
            })
        });
        assert_eq!(failed.await, (true, true, Some("1".to_owned())));
        assert_eq!(room.stats().account.resets, 0);
    });
}

#[test]
fn a_sync_inside_of_a_transaction_is_refused() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.send("try put:k=1 sync end list").await;
        assert_eq!(stage.journal(), ["tried false", ""]);
    });
}

#[test]
fn delete_all_leaves_nothing_but_what_is_written_after_it() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("put:a=1 put:b=1").await;
        ada.send("put:c=1 clear put:b=2").await;
        let rows = room.rows(List::new()).await;
        assert_eq!(rows, [("b".to_owned(), b"\"2\"".to_vec())]);
        ada.send("clear").await;
        assert!(room.rows(List::new()).await.is_empty());
    });
}

#[test]
fn to_write_nothing_holds_nothing() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let connection = ada.connection().clone();
        inside(&room, |room| {
            Box::pin(async move {
                let nobody: [(&str, u32); 0] = [];
                room.storage().put_many(nobody).unwrap();
                room.storage().delete_many::<&str>([]).unwrap();
                connection.send("hello");
            })
        })
        .await;
        assert_eq!(heard(&ada), ["hello"]);
    });
}

#[test]
fn the_last_prefix_of_all_ends() {
    test(async |stage| {
        let room = stage.room();
        let last = "\u{10FFFF}";
        let listed = inside(&room, move |room| {
            Box::pin(async move {
                let storage = room.storage();
                for key in ["a", "a\u{10FFFF}", "a\u{10FFFF}x", "b", last, "\u{10FFFF}\u{10FFFF}"] {
                    storage.put(key, &1).unwrap();
                }
                storage.sync().await.unwrap();
                let count = async |list| storage.list::<u32>(list).await.unwrap().len();
                [
                    count(List::new().prefix("a\u{10FFFF}")).await,
                    count(List::new().prefix(last)).await,
                    count(List::new().prefix(last).reverse().limit(1)).await,
                    count(List::new()).await,
                ]
            })
        });
        assert_eq!(listed.await, [2, 2, 1, 6]);
    });
}

/// Keys that are few enough to meet bounds and prefixes.
fn key() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!['a', 'b', '\u{10FFFF}']), 1..4)
        .prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_list_gives_what_its_bounds_say_whether_it_is_stored_or_only_written(
        stored in prop::collection::btree_map(key(), any::<u8>(), 0..12),
        written in prop::collection::btree_map(key(), any::<Option<u8>>(), 0..8),
        prefix in prop_oneof![Just(String::new()), key()],
        start in prop::option::of((key(), any::<bool>())),
        end in prop::option::of(key()),
        reverse: bool,
        limit in prop::option::of(0..6_usize),
    ) {
        let mut model = stored.clone();
        for (key, value) in &written {
            match value {
                Some(value) => model.insert(key.clone(), *value),
                None => model.remove(key),
            };
        }
        let in_bounds = |key: &str| {
            key.starts_with(&prefix)
                && start.as_ref().is_none_or(|(start, inclusive)| {
                    key > start.as_str() || *inclusive && key == start
                })
                && end.as_ref().is_none_or(|end| key < end.as_str())
        };
        let mut expected: Vec<(String, u8)> =
            model.into_iter().filter(|(key, _)| in_bounds(key)).collect();
        if reverse {
            expected.reverse();
        }
        expected.truncate(limit.unwrap_or(usize::MAX));

        let mut list = List::new().prefix(&prefix);
        list = match &start {
            Some((start, true)) => list.start(start),
            Some((start, false)) => list.start_after(start),
            None => list,
        };
        list = end.iter().fold(list, |list, end| list.end(end));
        list = limit.iter().fold(list, |list, limit| list.limit(*limit));
        list = if reverse { list.reverse() } else { list };

        let (seen, then) = block_on(async {
            let room = Stage::default().room();
            let again = list.clone();
            inside(&room, |room| Box::pin(async move {
                room.storage().put_many(stored).unwrap();
            })).await;
            let seen = inside(&room, |room| Box::pin(async move {
                for (key, value) in written {
                    match value {
                        Some(value) => room.storage().put(&key, &value).unwrap(),
                        None => room.storage().delete(&key).unwrap(),
                    }
                }
                room.storage().list::<u8>(list).await.unwrap()
            })).await;
            let then = inside(&room, |room| Box::pin(async move {
                room.storage().list::<u8>(again).await.unwrap()
            })).await;
            (seen, then)
        });
        prop_assert_eq!(&seen, &expected);
        prop_assert_eq!(&then, &expected);
    }
}
