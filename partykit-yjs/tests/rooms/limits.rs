//! The limits of a document and of its cursors, to the last byte where that can be said.

use futures_executor::block_on;
use partykit_core::{List, testing::TestRoom};
use partykit_yjs::{YServer, Yjs};

use crate::client::{Client, awareness, settle};

/// Tabs of one browser tell one another's states over one connection.
#[test]
fn a_connection_speaks_for_32_clients() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = vec![Client::new(&room, "bob", 1_000).await];
        let ada = room.connect("ada").await;
        for number in 1..=33 {
            ada.send(awareness(&[(number, 1, "{}")])).await;
        }
        settle(&mut all).await;
        let seen = |all: &[Client]| -> Vec<u64> {
            all[0].sees().iter().map(|(number, _)| *number).filter(|number| *number < 99).collect()
        };
        assert_eq!(seen(&all), (1..=32).collect::<Vec<_>>());
        // One leaves, and the next has its place.
        ada.send(awareness(&[(7, 2, "null")])).await;
        ada.send(awareness(&[(33, 2, "{}")])).await;
        settle(&mut all).await;
        assert_eq!(seen(&all), (1..=33).filter(|number| *number != 7).collect::<Vec<_>>());
    });
}

#[test]
fn a_state_has_64_kib() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = vec![Client::new(&room, "bob", 1).await, Client::new(&room, "ada", 2).await];
        let of = |length: usize| format!("{:?}", "x".repeat(length - 2));
        all[1].move_to(&of(64 << 10)).await;
        settle(&mut all).await;
        assert_eq!(all[0].sees()[1].1.len(), 64 << 10);
        all[1].move_to(&of((64 << 10) + 1)).await;
        all[1].move_to("{}").await;
        settle(&mut all).await;
        assert_eq!(all[0].sees()[1], (2, "{}"), "only the one that is too long is dropped");
        all[1].move_to(&of((64 << 10) + 1)).await;
        settle(&mut all).await;
        assert_eq!(all[0].sees()[1], (2, "{}"));
    });
}

/// So that a connection of many years does not keep all who were ever there.
#[test]
fn the_32_who_left_last_are_remembered() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = vec![Client::new(&room, "bob", 1_000).await];
        for number in 1..=33 {
            let gone = room.connect(&format!("c{number}")).await;
            gone.send(awareness(&[(number, 1, "{}")])).await;
            gone.vanish().await;
            settle(&mut all).await;
        }
        // A repetition of the last state of each.
        let mut late = vec![Client::new(&room, "late", 2_000).await];
        for number in 1..=33 {
            all[0].connection.send(awareness(&[(number, 1, "{}")])).await;
        }
        settle(&mut late).await;
        let back: Vec<u64> = late[0].sees().iter().map(|(number, _)| *number).collect();
        assert_eq!(back, [1, 1_000, 2_000], "only the oldest of 33 was forgotten");
    });
}

async fn rows(room: &TestRoom<Yjs>, prefix: &str) -> usize {
    room.rows(List::new().prefix(prefix)).await.len()
}

#[test]
fn changes_longer_than_the_snapshot_and_64_kib_become_a_snapshot() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        // Without a snapshot, the 64 KiB decide.
        for _ in 0..6 {
            ada.insert(0, &"x".repeat(10 << 10)).await;
        }
        assert_eq!((rows(&room, "yjs:u:").await, rows(&room, "yjs:s:").await), (6, 0));
        ada.insert(0, &"x".repeat(10 << 10)).await;
        assert_eq!((rows(&room, "yjs:u:").await, rows(&room, "yjs:s:").await), (0, 1));
        // Then the snapshot of 70 KiB does.
        ada.insert(0, &"x".repeat(66 << 10)).await;
        assert_eq!(rows(&room, "yjs:u:").await, 1);
        ada.insert(0, &"x".repeat(10 << 10)).await;
        assert_eq!(rows(&room, "yjs:u:").await, 0);
    });
}

/// A quarter of the snapshot, 4,096 bytes or 50 changes: what the next client would have to read.
#[test]
fn the_last_one_to_leave_leaves_few_changes_behind() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        for (changes, length, left) in [
            (49, 1, 49),
            (1, 1, 0), // 50
            (1, 4_000, 1),
            (1, 200, 0), // 4,096 bytes
            (1, 40_000, 0),
            (1, 11_000, 1),
            (1, 200, 0), // a quarter of 44,000
        ] {
            let mut ada = Client::new(&room, "ada", 1).await;
            ada.hear().await;
            for _ in 0..changes {
                ada.insert(0, &"x".repeat(length)).await;
            }
            ada.connection.close(1000, "").await.unwrap();
            assert_eq!(rows(&room, "yjs:u:").await, left, "after {changes} of {length}");
        }
    });
}

#[derive(Default)]
struct Huge;

impl YServer for Huge {
    fn max_document() -> usize {
        usize::MAX
    }
}

/// A handler writes at most 32 MiB, and a snapshot is written by one.
#[test]
fn no_document_has_more_than_24_mib() {
    block_on(async {
        let room = TestRoom::<Yjs<Huge>>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        let eight = "x".repeat(8 << 20);
        for _ in 0..2 {
            ada.insert(0, &eight).await;
            assert!(ada.connection.is_open());
        }
        ada.insert(0, &eight).await;
        assert_eq!(ada.connection.closed().unwrap().code(), 1009.into());
    });
}
