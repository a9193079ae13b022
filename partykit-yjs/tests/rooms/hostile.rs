use futures_executor::block_on;
use std::sync::Arc;

use partykit_core::{
    Backend, Batch, Body, Connection, List, MemoryBackend, Request, Response, Result, Room,
    RoomAddress, testing::TestRoom,
};
use partykit_yjs::{Document, YServer, Yjs};
use yrs::{Map, MapPrelim, Text, Transact, encoding::write::Write};

use crate::client::{Client, awareness, sync};

#[derive(Default)]
struct Small;

impl YServer for Small {
    fn max_document() -> usize {
        2_000
    }
}

#[test]
fn a_document_has_an_end() {
    block_on(async {
        let room = TestRoom::<Yjs<Small>>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        let bob = Client::new(&room, "bob", 2).await;
        ada.insert(0, &"x".repeat(1_500)).await;
        ada.insert(0, &"y".repeat(1_500)).await;
        assert_eq!(ada.connection.closed().unwrap().code(), 1009.into());
        assert!(bob.connection.is_open());
        ada.connection.answer_close().await;
        bob.connection.vanish().await;
        let eve = Client::new(&room, "eve", 3).await;
        assert_eq!(eve.text(), "x".repeat(1_500));
    });
}

/// What was deleted does not count for ever.
#[test]
fn a_document_that_is_rewritten_stays_small() {
    block_on(async {
        let room = TestRoom::<Yjs<Small>>::new();
        let ada = Client::new(&room, "ada", 1).await;
        for _ in 0..20 {
            let update = ada.edit(|doc| {
                use yrs::{Text, Transact};
                let text = doc.get_or_insert_text("t");
                let mut txn = doc.transact_mut();
                let len = text.len(&txn);
                text.remove_range(&mut txn, 0, len);
                text.insert(&mut txn, 0, &"z".repeat(900));
                txn.encode_update_v1()
            });
            ada.say_update(&update).await;
        }
        assert!(ada.connection.is_open());
    });
}

/// What a room has stored in all.
async fn stored(room: &TestRoom<Yjs>) -> usize {
    room.rows(List::new().prefix("yjs:")).await.iter().map(|(_, value)| value.len()).sum()
}

/// Memory keeps what was deleted until the document is stored as a snapshot. What is stored does not, and neither
/// does what is sent to one that joins.
#[test]
fn a_text_that_is_typed_and_deleted_again_and_again_does_not_grow() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        for round in 0..30 {
            ada.insert(0, &"0123456789".repeat(10_000)).await;
            let typed = stored(&room).await;
            let deletes = ada.edit(|doc| {
                let text = doc.get_or_insert_text("t");
                let mut txn = doc.transact_mut();
                text.remove_range(&mut txn, 0, 100_000);
                txn.encode_update_v1()
            });
            ada.say_update(&deletes).await;
            let bob = room.connect("bob").await;
            bob.send(sync(0, &[0])).await;
            let sent: usize = bob.received().iter().map(|frame| frame.as_bytes().len()).sum();
            assert!(sent < 2_000, "{sent} bytes for an empty document after {round} rounds");
            bob.vanish().await;
            // A snapshot, and no more changes than it has bytes. Each text leaves behind where it was.
            let most = 200_200 + 20 * round;
            let sizes = [typed, stored(&room).await];
            assert!(sizes.iter().all(|size| *size <= most), "{sizes:?} bytes after {round} rounds");
        }
    });
}

/// A type that was deleted is no longer one of those that a document may have.
#[test]
fn types_that_are_made_and_deleted_again_and_again_do_not_count() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let ada = Client::new(&room, "ada", 1).await;
        for _ in 0..1_000 {
            let update = ada.edit(|doc| {
                let map = doc.get_or_insert_map("m");
                let mut txn = doc.transact_mut();
                let inner = map.insert(&mut txn, "k", MapPrelim::from([("a", "some value")]));
                inner.insert(&mut txn, "b", MapPrelim::from([("c", "another")]));
                txn.encode_update_v1()
            });
            ada.say_update(&update).await;
        }
        ada.connection.vanish().await;
        let meta = room.rows(List::new().prefix("yjs:m")).await.remove(0).1;
        let types = u32::from_le_bytes(meta[8..12].try_into().unwrap());
        assert_eq!(types, 2, "of 2,000 that were made");
        let bytes = stored(&room).await;
        assert!(bytes < 20_000, "{bytes} bytes for two small maps");
    });
}

#[test]
fn junk_changes_nothing_and_closes_nobody() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        ada.insert(0, "sound").await;
        let before = room.rows(List::new()).await;
        let mut junk: Vec<Vec<u8>> = vec![vec![], vec![9], vec![0], vec![0, 2, 5], vec![0, 2, 255]];
        junk.push(sync(2, &[1, 1, 1, 0, 8, 1, 1, b'a', 1, 117, 0xff, 0xff, 0xff, 0x7f]));
        junk.push(sync(1, &[0xff, 0xff, 0xff, 0xff, 0x0f]));
        junk.push(sync(0, &[0xff, 0xff, 0xff, 0xff, 0x0f]));
        junk.push(awareness(&[(1, 9, "no json")]));
        junk.push(
            [&[1, 1, 1, 0, 8, 1, 1, b'a', 1][..], &[117, 1].repeat(300_000), &[126, 0]].concat(),
        );
        for frame in junk {
            ada.connection.send(frame).await;
        }
        ada.connection.send("text").await;
        assert!(ada.connection.is_open());
        assert_eq!(room.rows(List::new()).await, before);
        ada.insert(5, "!").await;
        assert_eq!(Client::new(&room, "bob", 2).await.text(), "sound!");
    });
}

/// An update of client 7 with one letter at a clock.
fn letter(clock: u8, letter: u8) -> Vec<u8> {
    vec![1, 1, 7, clock, 4, 1, 1, b't', 1, letter, 0]
}

/// yrs finds only in decoding that a name is not UTF-8.
#[test]
fn what_cannot_be_read_is_not_stored_by_a_room_that_sleeps() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let ada = Client::new(&room, "ada", 1).await;
        let bob = Client::new(&room, "bob", 2).await;
        room.hibernate().await.unwrap();
        bob.connection.received();
        let mut update = letter(0, b'a');
        *update.iter_mut().find(|byte| **byte == b't').unwrap() = 0xff;
        ada.say_update(&update).await;
        assert!(room.rows(List::new()).await.is_empty());
        assert_eq!(bob.connection.received(), []);
    });
}

/// It came in an answer to the server's question, of which only what is new is stored.
#[test]
fn what_waits_is_stored() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let ada = Client::new(&room, "ada", 1).await;
        ada.connection.send(sync(1, &letter(1, b'b'))).await;
        room.crash().await;
        let bob = Client::new(&room, "bob", 2).await;
        bob.connection.send(sync(1, &letter(0, b'a'))).await;
        assert_eq!(Client::new(&room, "eve", 3).await.text().len(), 2);
    });
}

#[derive(Default)]
struct Gallery;

impl YServer for Gallery {
    fn max_document() -> usize {
        2_000
    }

    fn is_read_only(&self, _: &Room, connection: &Connection) -> bool {
        connection.id() == "guest"
    }
}

#[test]
fn one_that_may_only_read_writes_nothing_whatever_it_sends() {
    block_on(async {
        let room = TestRoom::<Yjs<Gallery>>::new();
        let mut ada = Client::new(&room, "ada", 1).await;
        ada.insert(0, "sound").await;
        let mut guest = Client::new(&room, "guest", 2).await;
        let before = room.rows(List::new()).await;
        ada.hear().await;
        let long = [&[1, 1, 7, 0, 4, 1, 1, b't', 0xff, 0x7f][..], &[b'x'; 0x3fff], &[0]].concat();
        let updates = [&letter(0, b'x')[..], &letter(3, b'x'), &letter(0, 0xff), &long, &[7], &[]];
        for update in updates.into_iter().flat_map(|update| [sync(1, update), sync(2, update)]) {
            guest.connection.send(update).await;
        }
        for frame in [
            vec![],
            vec![0],
            vec![0, 7, 0],
            vec![1, 9, 1],
            vec![2],
            vec![3],
            vec![9],
            sync(0, &[1]),
        ] {
            guest.connection.send(frame).await;
        }
        assert!(guest.connection.is_open() && room.errors().is_empty());
        assert_eq!(room.rows(List::new()).await, before);
        assert_eq!(ada.connection.received(), []);
        // It still reads, and its cursor is seen.
        guest.hear().await;
        assert_eq!(guest.text(), "sound");
        guest.move_to("{\"at\":1}").await;
        ada.hear().await;
        assert!(ada.sees().contains(&(2, "{\"at\":1}")));
    });
}

/// One frame with an id that JavaScript cannot hold would hide all cursors from who comes later.
#[test]
fn a_cursor_with_an_id_out_of_range_is_not_kept() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let ada = room.connect("ada").await;
        ada.send(awareness(&[(1 << 53, 1, "{}")])).await;
        let bob = room.connect("bob").await;
        assert_eq!(bob.received().len(), 1, "what the room has, and no cursors");
    });
}

#[derive(Default)]
struct Reader;

impl YServer for Reader {
    async fn on_request(
        &mut self,
        _: &Room,
        mut document: Document<'_>,
        _: Request,
    ) -> Result<Response> {
        let read = document.map::<serde_json::Value>("m").await;
        let text = read.map_or_else(|error| error.to_string(), |value| value.to_string());
        Ok(Response::new(Body::from(text)))
    }
}

/// A row that cannot be read, whatever has made it so.
#[test]
fn what_cannot_be_read_is_kept_and_keeps_nothing_else_from_being_read() {
    block_on(async {
        let backend = Arc::new(MemoryBackend::default());
        let room = TestRoom::<Yjs<Reader>>::builder().backend(backend.clone()).build();
        let mut ada = Client::new(&room, "ada", 1).await;
        for at in 0..60 {
            ada.insert(at, "x").await;
        }
        let rows = room.rows(List::new().prefix("yjs:u:")).await;
        room.crash().await;
        spoil(&backend, room.address(), &rows[59]).await;
        let bob = Client::new(&room, "bob", 2).await;
        assert_eq!(bob.text(), "x".repeat(59));
        bob.connection.close(1000, "").await.unwrap();
        assert!(room.rows(List::new().prefix("yjs:u:")).await.is_empty(), "there is a snapshot");
        let kept = room.rows(List::new().prefix("yjs:bad:")).await;
        assert_eq!(kept.len(), 1);
        // A snapshot that cannot be read is not replaced by an empty one.
        let snapshot = room.rows(List::new().prefix("yjs:s:")).await;
        room.crash().await;
        spoil(&backend, room.address(), &snapshot[0]).await;
        let eve = room.connect("eve").await;
        assert_eq!(eve.closed().unwrap().code(), 1011.into());
        let found = room.rows(List::new().prefix("yjs:s:")).await;
        assert_eq!(found[0].1.len(), snapshot[0].1.len());
    });
}

/// Replaces the last half of a row behind the room's back.
async fn spoil(backend: &MemoryBackend, room: &RoomAddress, (key, value): &(String, Vec<u8>)) {
    let mut value = value.clone();
    let half = value.len() / 2;
    value[half..].fill(0xff);
    let stored = [&[1][..], key.as_bytes()].concat();
    let claim = backend.claim(room).await.unwrap();
    let writes = [(stored.into(), Some(value.into()))].into();
    let batch = Batch { writes, ..Batch::default() };
    backend.commit(room, claim.epoch, batch).await.unwrap();
}

/// Maps in maps, each a few bytes: deleting the outermost calls itself for each. Without a stack for it,
/// the process ends, and so it would at each load of the document.
#[test]
fn deeply_nested_types_do_not_end_the_process() {
    const LEVELS: u32 = 100_000;
    block_on(async {
        let room = TestRoom::<Yjs<Reader>>::new();
        let ada = Client::new(&room, "ada", 1).await;
        let mut update = Vec::new();
        for number in [1_u32, LEVELS, 555, 0] {
            update.write_var(number);
        }
        for level in 0..LEVELS {
            update.write_u8(7 | 0x20);
            if level == 0 {
                update.write_var(1_u32);
                update.write_string("m");
            } else {
                update.write_var(0_u32);
                update.write_var(555_u64);
                update.write_var(level - 1);
            }
            update.write_string("k");
            update.write_u8(1);
        }
        update.write_var(0_u32);
        ada.say_update(&update).await;
        assert_eq!(room.get("").await.unwrap(), "a value is nested deeper than 128 levels");
        let mut delete = vec![0, 1];
        for number in [555_u32, 1, 0, 1] {
            delete.write_var(number);
        }
        ada.say_update(&delete).await;
        room.crash().await;
        let mut bob = Client::new(&room, "bob", 2).await;
        bob.insert(0, "alive").await;
        room.crash().await;
        // A client of yrs would need as much stack to delete it; the room need not care.
        let eve = room.connect("eve").await;
        eve.send(sync(0, &[0])).await;
        assert!(eve.received().len() >= 2 && eve.is_open());
    });
}
