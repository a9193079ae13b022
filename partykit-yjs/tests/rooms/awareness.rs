use futures_executor::block_on;
use partykit_core::testing::TestRoom;
use partykit_yjs::Yjs;

use crate::client::{Client, awareness, settle};

async fn crowd(room: &TestRoom<Yjs>, size: u64) -> Vec<Client> {
    let mut all = Vec::new();
    for n in 1..=size {
        all.push(Client::new(room, &format!("c{n}"), n).await);
        settle(&mut all).await;
    }
    all
}

fn heard(all: &[Client]) -> usize {
    all.iter().map(|client| client.heard).sum()
}

/// One to each other, and one back, by which y-websocket knows that its connection is alive.
#[test]
fn a_move_is_one_frame_for_each() {
    block_on(async {
        for size in [5, 20, 50] {
            let room = TestRoom::<Yjs>::new();
            let mut all = crowd(&room, size).await;
            let before = heard(&all);
            all[0].move_to(r#"{"at":7}"#).await;
            settle(&mut all).await;
            assert_eq!(heard(&all) - before, size as usize);
            assert!(all.iter().all(|client| client.sees()[0] == (1, r#"{"at":7}"#)));
        }
    });
}

#[test]
fn fifty_joins_are_at_most_fifteen_hundred_frames() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let all = crowd(&room, 50).await;
        assert!(heard(&all) <= 1_500, "{}", heard(&all));
    });
}

#[test]
fn one_that_vanishes_is_one_frame_for_each() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = crowd(&room, 20).await;
        let before = heard(&all[1..]);
        all[0].connection.vanish().await;
        let mut all = all.split_off(1);
        settle(&mut all).await;
        assert_eq!(heard(&all) - before, 19);
        assert!(all.iter().all(|client| client.sees().len() == 19));
    });
}

#[test]
fn who_joins_after_a_sleep_sees_all_and_no_ghost() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = crowd(&room, 3).await;
        all[0].move_to(r#"{"at":1}"#).await;
        settle(&mut all).await;
        room.hibernate().await.unwrap();
        let gone = all.remove(1);
        gone.connection.vanish().await;
        room.hibernate().await.unwrap();
        all.push(Client::new(&room, "late", 9).await);
        settle(&mut all).await;
        for client in &all {
            assert_eq!(client.sees(), [(1, r#"{"at":1}"#), (3, "{}"), (9, "{}")]);
        }
        all.push(gone.again(&room, "c2").await);
        settle(&mut all).await;
        assert!(all.iter().all(|client| client.sees().len() == 4), "it is seen again");
    });
}

/// The old connection of a client that came back may end much later.
#[test]
fn who_comes_back_stays_when_the_old_connection_ends() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = crowd(&room, 2).await;
        let stale = all.remove(0).connection;
        // A second socket of the same document, while the first is still there.
        let again = room.connect("c1").await;
        again.send(awareness(&[(1, 2, r#"{"back":true}"#)])).await;
        settle(&mut all).await;
        stale.vanish().await;
        settle(&mut all).await;
        assert!(all[0].sees().contains(&(1, r#"{"back":true}"#)), "{:?}", all[0].sees());
        again.vanish().await;
        settle(&mut all).await;
        assert_eq!(all[0].sees(), [(2, "{}")]);
    });
}

/// What others repeat of one that has left does not bring it back, also not after a sleep.
#[test]
fn a_late_repetition_brings_nobody_back() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = crowd(&room, 3).await;
        all[0].move_to(r#"{"at":1}"#).await;
        settle(&mut all).await;
        all.remove(0).connection.vanish().await;
        for _ in 0..2 {
            all[0].connection.send(awareness(&[(1, 2, r#"{"at":1}"#)])).await;
            settle(&mut all).await;
            assert_eq!(all[1].sees().len(), 2, "{:?}", all[1].sees());
            room.hibernate().await.unwrap();
        }
        // Who remembered it leaves, and another one does.
        all.remove(0).connection.vanish().await;
        room.hibernate().await.unwrap();
        all[0].connection.send(awareness(&[(1, 2, r#"{"at":1}"#)])).await;
        settle(&mut all).await;
        assert_eq!(all[0].sees().len(), 1);
    });
}

/// Tabs of one browser tell one another, and the wrong one may be the first to tell the room.
#[test]
fn a_client_belongs_to_its_own_connection_whoever_speaks_for_it() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = crowd(&room, 3).await;
        all[1].connection.send(awareness(&[(1, 5, r#"{"by":"bob"}"#)])).await;
        settle(&mut all).await;
        all.remove(1).connection.vanish().await;
        settle(&mut all).await;
        assert!(all[1].sees().contains(&(1, r#"{"by":"bob"}"#)), "it is still here");
        all.remove(0).connection.vanish().await;
        settle(&mut all).await;
        assert_eq!(all[0].sees(), [(3, "{}")]);
    });
}

/// A state that does not fit into what is kept with a connection.
#[test]
fn a_long_state_is_asked_for_after_a_sleep() {
    block_on(async {
        let room = TestRoom::<Yjs>::new();
        let mut all = crowd(&room, 2).await;
        let long = format!("{{\"selection\":\"{}\"}}", "x".repeat(30_000));
        all[0].move_to(&long).await;
        settle(&mut all).await;
        all.push(Client::new(&room, "c3", 3).await);
        settle(&mut all).await;
        assert!(all[2].sees().contains(&(1, &long)));
        room.hibernate().await.unwrap();
        all.push(Client::new(&room, "c4", 4).await);
        settle(&mut all).await;
        assert!(all[3].sees().contains(&(1, &long)), "{:?}", all[3].sees().len());
    });
}
