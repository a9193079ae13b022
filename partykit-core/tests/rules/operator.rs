//! What an operator does to a room: nothing is half erased, nothing comes back, and a client that is to go
//! goes.

use std::time::Duration;

use futures_util::future::join;
use partykit_core::{CloseCode, List, Refusal};

use crate::script::{NOTHING, heard, test, told, wish};

#[test]
fn an_erased_room_that_sleeps_is_not_started_and_begins_as_a_new_one() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("put:a=1 alarm:60")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.journal();
        room.erase().await.unwrap();
        assert_eq!(stage.journal(), NOTHING);
        assert!(room.rows(List::new()).await.is_empty());
        assert_eq!(room.alarm().await, None);
        room.advance(Duration::from_secs(100)).await;
        assert_eq!(stage.journal(), NOTHING, "its alarm does not ring");
        room.request(told("get:a")).await.unwrap();
        assert_eq!(stage.journal(), ["start First", "a=none"]);
    });
}

#[test]
fn what_came_before_an_erasure_is_handled_before_it_and_what_came_after_meets_a_new_instance() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("put:a=1 state:Ada").await;
        stage.journal();
        ada.push("wait:latch put:b=2 note:before");
        room.settle().await;
        ada.push("put:c=3 note:waited");
        let erased = room.erase();
        let rest = async {
            ada.push("seen list state? put:d=4");
            assert!(stage.open("latch"));
            room.settle().await;
        };
        let (erased, ()) = join(erased, rest).await;
        erased.unwrap();
        let after = ["before", "waited", "start Wake", "seen 1", "", "state Ada"];
        assert_eq!(stage.journal(), after, "the connection stays, with its state");
        let rows = room.rows(List::new()).await;
        assert_eq!(rows, [("d".to_owned(), b"\"4\"".to_vec())]);
        assert!(ada.is_open());
    });
}

#[test]
fn an_erasure_ends_tasks_whose_values_would_bring_something_back() {
    test(async |stage| {
        let room = stage.room();
        stage.on("task", "put:late=1");
        room.request(told("spawn:x=latch")).await.unwrap();
        room.erase().await.unwrap();
        stage.journal();
        assert!(!stage.open("latch"), "nobody waits there any more");
        room.settle().await;
        assert_eq!(stage.journal(), NOTHING);
        assert!(room.rows(List::new()).await.is_empty());
        assert_eq!(room.stats().account.resets, 0, "nothing has failed");
    });
}

#[test]
fn an_erasure_waits_for_the_store_and_fails_with_it() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        room.request(told("put:a=1")).await.unwrap();
        store.fail_next_commit();
        assert!(matches!(room.erase().await, Err(Refusal::Failed(_))));
        stage.journal();
        room.request(told("get:a")).await.unwrap();
        assert_eq!(stage.journal().last().unwrap(), "a=1", "all or nothing");
        room.erase().await.unwrap();
        assert!(room.rows(List::new()).await.is_empty());
    });
}

#[test]
fn a_room_that_cannot_start_because_of_its_rows_can_be_erased_and_starts_at_once() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("put:a=1")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "fail");
        for _ in 0..4 {
            room.request(told("")).await.unwrap_err();
        }
        assert!(matches!(room.request(told("")).await, Err(Refusal::Unavailable(_))));
        room.erase().await.unwrap();
        stage.on("start", "");
        stage.journal();
        room.request(told("get:a")).await.unwrap();
        assert_eq!(stage.journal(), ["start First", "a=none"]);
    });
}

#[test]
fn an_erasure_behind_a_commit_in_flight_takes_its_rows_and_what_follows_meets_a_new_room() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        store.hold_commits();
        let first = room.request(told("put:a=1 alarm:60"));
        let rest = async {
            let erased = room.erase();
            let after = room.request(told("get:a alarm? put:b=2"));
            let look = async {
                assert_eq!(store.held_commits(), 1);
                assert_eq!(
                    stage.journal(),
                    ["start First", "start First", "a=none", "alarm=none"],
                    "what waits for the disk is erased as well"
                );
                store.release_commits();
                room.settle().await;
            };
            let (erased, after, ()) = futures_util::future::join3(erased, after, look).await;
            erased.unwrap();
            after.unwrap();
        };
        let (first, ()) = join(first, rest).await;
        first.unwrap();
        assert_eq!(room.rows(List::new()).await, [("b".to_owned(), b"\"2\"".to_vec())]);
        assert_eq!(room.alarm().await, None);
    });
}

#[test]
fn disconnect_closes_every_tab_of_an_id_and_nobody_else() {
    test(async |stage| {
        let room = stage.room();
        let (ada, again) = (room.connect("ada").await, room.connect("ada").await);
        let bob = room.connect_with("bob", wish("tags=ada")).await;
        room.hibernate().await.unwrap();
        stage.journal();
        assert_eq!(room.disconnect("ada", 4001, "kicked").await, Ok(2));
        for tab in [&ada, &again] {
            let close = tab.closed().unwrap();
            assert_eq!((close.code(), close.reason()), (CloseCode::from(4001), "kicked"));
        }
        assert!(bob.is_open(), "his tag is only called like her");
        assert_eq!((stage.journal(), room.stats().connections), (Vec::new(), 1), "it sleeps on");
        ada.push("note:too late");
        ada.answer_close().await;
        assert_eq!(stage.journal(), ["start Wake", "close ada 4001 clean"]);
        assert_eq!(room.disconnect("ada", 4001, "").await, Ok(0));
        assert!(room.disconnect("bob", 1006, "").await.is_err() && bob.is_open());
    });
}

#[test]
fn a_client_that_connects_just_now_is_let_in_and_then_closed() {
    test(async |stage| {
        let room = stage.room();
        stage.on("connect", "say:hello wait:latch say:more");
        let ada = room.begin_connect("ada", wish("")).unwrap();
        room.settle().await;
        assert_eq!(room.disconnect("ada", 4001, "").await, Ok(1));
        assert!(!ada.is_answered());
        assert!(stage.open("latch"));
        room.settle().await;
        assert_eq!(heard(&ada), ["hello"]);
        assert_eq!(ada.closed().unwrap().code(), CloseCode::from(4001));
    });
}

#[test]
fn a_client_goes_also_when_what_the_room_wrote_cannot_be_stored() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        store.fail_next_commit();
        ada.send("put:a=1 say:stored").await;
        assert_eq!(room.disconnect("ada", 4001, "").await, Ok(1));
        assert!(ada.closed().is_none(), "behind what she was told");
        store.release_commits();
        room.settle().await;
        assert_eq!(ada.closed().unwrap().code(), CloseCode::from(4001));
        assert_eq!(heard(&ada), NOTHING);
    });
}
