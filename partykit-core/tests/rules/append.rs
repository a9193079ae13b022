//! `append` gives every value a key of its own, in order, whatever happens to the room.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use partykit_core::{List, StorageError, testing::TestRoom};

use crate::script::{Script, inside, test};

/// Appends within one handler; returns the key.
async fn append(room: &TestRoom<Script>, prefix: &'static str, value: u64) -> String {
    inside(room, move |room| Box::pin(async move { room.storage().append(prefix, &value).await }))
        .await
        .unwrap()
}

async fn values(room: &TestRoom<Script>, prefix: &str) -> Vec<u64> {
    let rows = room.rows(List::new().prefix(prefix)).await;
    rows.iter().map(|(_, value)| serde_json::from_slice(value).unwrap()).collect()
}

#[test]
fn keys_are_in_order_over_sleep_and_crash() {
    test(async |stage| {
        let room = stage.room();
        for n in 0..40 {
            append(&room, "said:", n).await;
            match n % 4 {
                1 => room.hibernate().await.unwrap(),
                2 => room.crash().await,
                _ => {}
            }
        }
        assert_eq!(values(&room, "said:").await, (0..40).collect::<Vec<_>>());
        assert_eq!(append(&room, "said:", 40).await, "said:0000000000000040");
        let all = room.rows(List::new()).await;
        assert_eq!(all.len(), 41, "the counter is hidden: {all:?}");
    });
}

#[test]
fn a_hundred_at_once_in_one_handler_have_keys_of_their_own() {
    test(async |stage| {
        let (room, backend) = stage.faulty();
        drop(backend);
        let keys = inside(&room, |room| {
            Box::pin(async move {
                let storage = room.storage();
                join_all((0..100).map(|n| async move { storage.append("a", &n).await.unwrap() }))
                    .await
            })
        });
        let keys = keys.await;
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 100);
        assert_eq!(values(&room, "a").await.len(), 100);
    });
}

#[test]
fn each_prefix_counts_for_itself() {
    test(async |stage| {
        let room = stage.room();
        assert_eq!(append(&room, "a", 1).await, "a0000000000000000");
        assert_eq!(append(&room, "b", 1).await, "b0000000000000000");
        assert_eq!(append(&room, "", 1).await, "0000000000000000");
        assert_eq!(append(&room, "a", 2).await, "a0000000000000001");
    });
}

#[test]
fn no_key_comes_twice_when_the_newest_rows_are_deleted() {
    test(async |stage| {
        let room = stage.room();
        let first = append(&room, "a", 1).await;
        inside(&room, |room| {
            Box::pin(async move { room.storage().delete("a0000000000000000").unwrap() })
        })
        .await;
        assert_ne!(append(&room, "a", 2).await, first);
        inside(&room, |room| Box::pin(async move { room.storage().delete_all() })).await;
        assert_eq!(append(&room, "a", 3).await, first, "all is forgotten");
    });
}

#[test]
fn it_goes_on_behind_rows_that_somebody_counted_by_hand() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async move { room.storage().put("a0000000000000041", &0).unwrap() })
        })
        .await;
        assert_eq!(append(&room, "a", 1).await, "a0000000000000042");
    });
}

#[test]
fn a_failure_gives_the_number_back() {
    test(async |stage| {
        let room = stage.room();
        let undone = inside(&room, |room| {
            Box::pin(async move {
                let undone = room.storage().transaction(async |storage| {
                    storage.append("a", &1).await?;
                    Err::<(), _>(StorageError::InvalidKey(0))
                });
                undone.await.is_err()
            })
        });
        assert!(undone.await);
        assert_eq!(append(&room, "a", 2).await, "a0000000000000000");
        assert_eq!(values(&room, "a").await, [2]);
    });
}

#[test]
fn what_is_too_large_leaves_nothing() {
    test(async |stage| {
        let room = stage.room();
        let failed = inside(&room, |room| {
            Box::pin(async move {
                let storage = room.storage();
                let large = "x".repeat(2_000_000);
                let long = "p".repeat(2_033);
                (
                    storage.append("a", &large).await.is_err(),
                    storage.append(&long, &1).await.is_err(),
                )
            })
        });
        assert_eq!(failed.await, (true, true));
        assert!(room.rows(List::new()).await.is_empty());
        assert_eq!(append(&room, "a", 1).await, "a0000000000000000");
    });
}
