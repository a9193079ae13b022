//! Nobody meets a room that has not finished starting, and one that cannot start says so.

use std::time::Duration;

use partykit_core::{CloseCode, Refusal, testing::NotConnected};

use crate::script::{NOTHING, heard, test, told, wish};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_hundred_who_come_at_once_see_one_finished_start() {
    test(async |stage| {
        let room = stage.room();
        stage.on("start", "wait:start put:started=yes note:started");
        stage.on("connect", "get:started");
        let clients: Vec<_> =
            (0..50).map(|n| room.begin_connect(&n.to_string(), wish("")).unwrap()).collect();
        let requests = (0..50).map(|_| room.request(told("get:started")));
        let requests = futures_util::future::join_all(requests);
        let opener = async {
            assert_eq!(stage.journal(), ["start First"]);
            assert!(stage.open("start"));
            room.settle().await;
        };
        let (answers, ()) = futures_util::future::join(requests, opener).await;
        assert!(answers.iter().all(Result::is_ok));
        assert!(clients.iter().all(|client| client.is_open()));
        let journal = stage.journal();
        assert_eq!(journal[0], "started");
        assert_eq!(journal.iter().filter(|line| *line == "started=yes").count(), 100);
        assert_eq!(journal.len(), 1 + 100 + 50, "one start, and nobody twice");
        assert_eq!(stage.made(), 1);
    });
}

#[test]
fn a_failing_start_fails_its_event_and_the_next_tries_again() {
    for failure in ["fail", "panic", "put:k=1 fail"] {
        test(async |stage| {
            let room = stage.room();
            stage.on("start", failure);
            let refused = room.request(told("")).await;
            assert!(matches!(refused, Err(Refusal::Failed(_))), "{failure}");
            let ada = room.connect("ada").await;
            assert_eq!(ada.closed().unwrap().code(), CloseCode::INTERNAL, "{failure}");
            assert_eq!(room.stats().connections, 0);

            stage.on("start", "");
            stage.journal();
            let bob = room.connect("bob").await;
            assert!(bob.is_open());
            assert_eq!(stage.journal(), ["start First", "connect bob"], "nothing was stored");
        });
    }
}

#[test]
fn a_message_whose_start_fails_is_dropped_and_counted() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        room.hibernate().await.unwrap();
        stage.on("start", "fail");
        ada.send("note:lost").await;
        assert_eq!(room.stats().account.dropped_messages, 1);
        assert!(ada.is_open());
        stage.on("start", "");
        stage.journal();
        ada.send("note:heard").await;
        assert_eq!(stage.journal(), ["start Wake", "heard"]);
        assert_eq!(room.stats().account.dropped_messages, 1);
    });
}

#[test]
fn only_the_event_that_started_the_room_fails_with_the_start() {
    test(async |stage| {
        let room = stage.room();
        stage.on("start", "wait:start fail");
        let first = room.begin_connect("first", wish("")).unwrap();
        let second = room.begin_connect("second", wish("")).unwrap();
        room.settle().await;
        assert!(stage.open("start"));
        stage.on("start", "");
        room.settle().await;
        assert!(first.closed().is_some());
        assert!(second.is_open());
    });
}

#[test]
fn after_three_failures_in_a_row_a_room_rests_for_longer_and_longer() {
    test(async |stage| {
        let room = stage.room();
        stage.on("start", "fail");
        for _ in 0..2 {
            assert!(matches!(room.request(told("")).await, Err(Refusal::Failed(_))));
        }
        for seconds in [1, 2, 4, 8, 16, 30, 30, 30] {
            stage.journal();
            assert!(matches!(room.request(told("")).await, Err(Refusal::Failed(_))));
            assert_eq!(stage.journal(), ["start First"], "one attempt");

            room.advance(SECOND * seconds - Duration::from_millis(1)).await;
            let refusal = room.request(told("")).await.unwrap_err();
            assert_eq!(refusal, Refusal::Unavailable(Duration::from_millis(1)), "{seconds}");
            let refused = room.try_connect("ada", wish("")).await.unwrap_err();
            assert!(matches!(refused, NotConnected::Refused(refusal) if refusal.status() == 503));
            let response = refusal.response();
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["retry-after"], "1");
            assert_eq!(stage.journal(), NOTHING, "no attempt while it rests");
            room.advance(Duration::from_millis(1)).await;
        }
        stage.on("start", "");
        assert!(room.request(told("")).await.is_ok());

        // Success forgets the failures.
        room.advance(SECOND * 10).await;
        stage.on("start", "fail");
        for _ in 0..3 {
            assert!(matches!(room.request(told("")).await, Err(Refusal::Failed(_))));
        }
        let refused = room.request(told("")).await;
        assert_eq!(refused.unwrap_err(), Refusal::Unavailable(SECOND));
    });
}

#[test]
fn whoever_waits_when_a_room_gives_up_is_refused_too() {
    test(async |stage| {
        let room = stage.room();
        stage.on("start", "fail");
        for _ in 0..2 {
            assert!(room.request(told("")).await.is_err());
        }
        stage.on("start", "wait:start fail");
        let first = room.begin_connect("first", wish("")).unwrap();
        let second = room.begin_connect("second", wish("")).unwrap();
        room.settle().await;
        assert!(stage.open("start"));
        room.settle().await;
        assert_eq!(first.closed().unwrap().code(), CloseCode::INTERNAL);
        assert_eq!(second.closed().unwrap().code(), CloseCode::TRY_AGAIN);
    });
}

#[test]
fn a_close_is_kept_for_the_next_start_that_succeeds() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        let eve = room.connect("eve").await;
        room.hibernate().await.unwrap();
        stage.on("start", "fail");
        ada.close(1000, "").await.unwrap();
        bob.vanish().await;
        stage.on("start", "");
        stage.journal();
        eve.send("note:heard").await;
        assert_eq!(
            stage.journal(),
            ["start Wake", "close ada 1000 clean", "close bob 1006 unclean", "heard"]
        );
    });
}

#[test]
fn closes_do_not_make_a_room_start_that_rests_after_failures() {
    test(async |stage| {
        let room = stage.room();
        let mut clients = Vec::new();
        for n in 0..10 {
            clients.push(room.connect(&n.to_string()).await);
        }
        room.hibernate().await.unwrap();
        stage.on("start", "fail");
        for _ in 0..3 {
            assert!(room.request(told("")).await.is_err());
        }
        stage.journal();
        for client in &clients[1..] {
            client.vanish().await;
        }
        assert_eq!(stage.journal(), NOTHING, "no attempt while it rests");
        stage.on("start", "");
        room.advance(SECOND).await;
        clients[0].send("note:heard").await;
        let journal = stage.journal();
        assert_eq!(journal.len(), 1 + 9 + 1, "{journal:?}");
        assert_eq!(journal.last().unwrap(), "heard");
    });
}

#[test]
fn on_start_knows_why_it_runs() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        assert_eq!(stage.journal()[0], "start First");
        room.hibernate().await.unwrap();
        ada.send("put:k=1").await;
        assert_eq!(stage.journal(), ["start Wake"]);
        ada.send("panic").await;
        assert_eq!(stage.journal()[0], "start Wake", "a failure took the instance");

        room.crash().await;
        let bob = room.connect("bob").await;
        assert_eq!(stage.journal()[0], "start Restart", "nobody survived, but the storage did");
        bob.vanish().await;
        room.hibernate().await.unwrap();
        stage.journal();
        room.request(told("clear")).await.unwrap();
        assert_eq!(stage.journal(), ["start Restart"]);
        room.hibernate().await.unwrap();
        room.request(told("")).await.unwrap();
        assert_eq!(stage.journal(), ["start First"], "nothing is left");
    });
}

#[test]
fn on_start_is_a_transaction_of_its_own() {
    test(async |stage| {
        let room = stage.room();
        stage.on("start", "put:started=yes");
        let ada = room.connect_with("ada", wish("do=put:connected=yes+fail")).await;
        assert!(ada.closed().is_some());
        assert_eq!(room.stored::<String>("started").await.as_deref(), Some("yes"));
        assert_eq!(room.stored::<String>("connected").await, None);
    });
}

#[test]
fn what_an_event_says_waits_for_the_writes_of_on_start() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        room.hibernate().await.unwrap();
        stage.on("start", "put:started=yes");
        store.hold_commits();
        ada.send("say:hello").await;
        assert_eq!(heard(&ada), NOTHING);
        store.release_commits();
        room.settle().await;
        assert_eq!(heard(&ada), ["hello"]);
    });
}

#[test]
fn a_store_that_cannot_be_reached_fails_the_start() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        store.fail_next_read();
        let ada = room.connect("ada").await;
        assert_eq!(ada.closed().unwrap().code(), CloseCode::INTERNAL);
        assert_eq!(stage.journal(), NOTHING);
        assert!(room.connect("ada").await.is_open());
    });
}
