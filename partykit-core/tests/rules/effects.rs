//! What anyone was told is durable: nothing that follows a write leaves before that write.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use partykit_core::{CloseCode, MemoryBackend, Message, Refusal, testing::FaultyBackend};

use crate::{
    script::{NOTHING, heard, test, told, wish},
    watched::Watched,
};

#[test]
fn what_follows_a_write_waits_for_its_commit_and_what_precedes_it_does_not() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        ada.send("say:before put:k=1 say:after say:later").await;
        assert_eq!(heard(&ada), ["before"]);
        assert_eq!(room.stored::<String>("k").await, None);

        store.release_commits();
        room.settle().await;
        assert_eq!(heard(&ada), ["after", "later"]);
        assert_eq!(room.stored::<String>("k").await.as_deref(), Some("1"));
    });
}

#[test]
fn a_handler_that_writes_nothing_waits_for_the_writes_of_earlier_ones() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        store.hold_commits();
        ada.send("put:k=1 all:first").await;
        bob.send("get:k all:second").await;
        room.broadcast("from outside").await;
        assert_eq!(stage.journal().last().unwrap(), "k=1", "it ran, and saw the write");
        assert_eq!((heard(&ada), heard(&bob)), (vec![], vec![]));

        store.release_commits();
        room.settle().await;
        assert_eq!(heard(&ada), ["first", "second", "from outside"]);
        assert_eq!(heard(&bob), ["first", "second", "from outside"]);
    });
}

#[test]
fn what_two_commits_hold_leaves_in_order_each_with_its_own() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        ada.send("put:a=1 say:1").await;
        ada.send("say:still-1 put:b=1 say:2").await;
        store.release_commits();
        store.hold_commits();
        room.settle().await;
        assert_eq!(heard(&ada), ["1", "still-1"], "the second commit is in flight");
        store.release_commits();
        room.settle().await;
        assert_eq!(heard(&ada), ["2"]);
    });
}

#[test]
fn a_write_is_gated_whatever_it_is() {
    for write in ["put:k=1", "delete:k", "clear"] {
        test(async |stage| {
            let (room, store) = stage.faulty();
            let ada = room.connect("ada").await;
            store.hold_commits();
            ada.send(format!("{write} say:after")).await;
            assert_eq!(heard(&ada), NOTHING, "{write}");
            store.release_commits();
            room.settle().await;
            assert_eq!(heard(&ada), ["after"], "{write}");
        });
    }
}

#[test]
fn a_connections_state_holds_nothing() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        ada.send("state:x say:after").await;
        assert_eq!(heard(&ada), ["after"]);
    });
}

#[test]
fn answers_tells_tasks_closes_and_handshakes_wait_as_frames_do() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        ada.send("put:k=1 tell:b spawn:t=done close:4000").await;
        let mut answer = pin!(room.request(told("say:hello")));
        assert!(answer.as_mut().now_or_never().is_none());
        let eve = room.connect("eve").await;
        assert!(room.told().is_empty());
        assert!(stage.open("done"), "if the task ran, it would end now");
        room.settle().await;
        assert!(stage.journal().iter().all(|line| !line.contains("task")));
        assert_eq!(ada.closed(), None);
        assert!(!eve.is_answered());

        store.release_commits();
        room.settle().await;
        let answer = answer.await.unwrap();
        assert_eq!(answer.body().bytes(), Some(&Bytes::from("hello")));
        assert_eq!(room.told().len(), 1);
        assert_eq!(ada.closed().unwrap().code(), CloseCode::from(4000));
        assert!(eve.is_open());
        room.settle().await;
        assert_eq!(stage.journal().last().unwrap(), "task spawned done.");
    });
}

#[test]
fn sync_lets_a_running_handler_speak() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        ada.send("put:k=1 say:one sync say:two wait:end put:k=2 say:three").await;
        assert_eq!(heard(&ada), NOTHING);
        store.release_commits();
        room.settle().await;
        assert_eq!(heard(&ada), ["one", "two"], "the handler is still running");
        assert_eq!(room.stored::<String>("k").await.as_deref(), Some("1"));
        assert!(stage.open("end"));
        room.settle().await;
        assert_eq!(heard(&ada), ["three"]);
    });
}

#[test]
fn nobody_hears_of_a_commit_that_failed() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        ada.send("put:k=old state:old").await;
        store.hold_commits();
        store.fail_next_commit();
        ada.send("say:before put:k=new state:new say:never").await;
        let mut answer = pin!(room.request(told("put:r=1 say:never")));
        assert!(answer.as_mut().now_or_never().is_none());
        let eve = room.connect_with("eve", wish("do=say:never")).await;
        stage.journal();

        store.release_commits();
        room.settle().await;
        assert!(matches!(answer.await, Err(Refusal::Failed(_))));
        assert_eq!(heard(&ada), ["before"]);
        assert_eq!(heard(&eve), NOTHING);
        assert_eq!(eve.closed().unwrap().code(), CloseCode::INTERNAL);
        assert!(ada.is_open());
        assert_eq!(stage.journal(), ["start Wake", "error on_message Commit"]);

        ada.send("get:k get:r state? who seen").await;
        assert_eq!(stage.journal(), ["k=old", "r=none", "state old", "here: ada", "seen 1"]);
    });
}

#[test]
fn a_failed_commit_cancels_the_handler_that_runs() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        store.fail_next_commit();
        ada.send("put:k=1").await;
        ada.send("get:k wait:end note:went-on put:k=2").await;
        stage.journal();
        store.release_commits();
        room.settle().await;
        assert!(!stage.open("end"), "the handler is gone");
        assert_eq!(
            stage.journal(),
            ["start Wake", "error on_message Commit", "error on_message Commit"],
            "first the one that waited for its commit, then the one that ran"
        );
        assert_eq!(room.stored::<String>("k").await, None);
    });
}

#[test]
fn a_commit_that_failed_after_all_was_stored_is_read_anew() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.fail_next_commit_applied();
        ada.send("put:k=1 say:never").await;
        stage.journal();
        ada.send("get:k").await;
        assert_eq!(stage.journal(), ["k=1"], "the truth is what the store says");
        assert_eq!(heard(&ada), NOTHING);
    });
}

#[test]
fn handlers_that_end_while_a_commit_is_in_flight_share_the_next() {
    test(async |stage| {
        let watched = Watched::default();
        let store = FaultyBackend::new(watched.clone(), 1);
        let room = stage.on_backend(store.clone());
        let ada = room.connect("ada").await;
        store.hold_commits();
        for n in 0..10 {
            ada.send(format!("put:{n}=1 say:{n}")).await;
        }
        assert_eq!(store.held_commits(), 1, "one commit in flight");
        store.release_commits();
        room.settle().await;
        assert_eq!(watched.commits(), 2);
        assert_eq!(heard(&ada), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert_eq!(room.rows(partykit_core::List::new()).await.len(), 10);
    });
}

#[test]
fn reads_see_the_handlers_own_writes_then_what_waits_then_what_is_in_flight_then_the_store() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        ada.send("put:a=store put:b=store put:c=store put:d=store put:e=store").await;
        store.hold_commits();
        ada.send("put:b=flight put:c=flight put:d=flight delete:e put:f=flight").await;
        ada.send("put:c=waiting put:d=waiting put:e=waiting").await;
        stage.journal();
        ada.send("put:d=own delete:f get:a get:b get:c get:d get:e get:f list").await;
        let all = ["a=store", "b=flight", "c=waiting", "d=own", "e=waiting"];
        let mut expected: Vec<String> = all.map(str::to_owned).to_vec();
        expected.extend(["f=none".to_owned(), all.join(" ")]);
        assert_eq!(stage.journal(), expected);

        store.release_commits();
        room.settle().await;
        ada.send("list").await;
        assert_eq!(stage.journal(), [all.join(" ")]);
    });
}

#[test]
fn a_delete_all_hides_every_layer_below_it() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        ada.send("put:a=store").await;
        store.hold_commits();
        ada.send("put:b=flight").await;
        ada.send("put:c=waiting clear put:d=waiting").await;
        stage.journal();
        ada.send("get:a get:b get:c get:d list").await;
        assert_eq!(stage.journal(), ["a=none", "b=none", "c=none", "d=waiting", "d=waiting"]);
        store.release_commits();
        room.settle().await;
        assert_eq!(room.rows(partykit_core::List::new()).await.len(), 1);
    });
}

#[test]
fn a_room_that_holds_too_much_takes_no_further_event() {
    test(async |stage| {
        let store = FaultyBackend::new(MemoryBackend::default(), 1);
        let builder = stage.builder().backend(Arc::new(store.clone()));
        let room = builder.options(|options| options.max_held(522)).build();
        let ada = room.connect("ada").await;
        stage.journal();
        store.hold_commits();
        ada.send("put:k=1 say:0123456789").await;
        // Each takes 256 bytes beside its own.
        ada.send("note:266-are-allowed say:x").await;
        ada.send("note:523-are-not").await;
        assert_eq!(stage.journal(), ["266-are-allowed"]);
        store.release_commits();
        room.settle().await;
        assert_eq!(stage.journal(), ["523-are-not"]);
        assert_eq!(heard(&ada), ["0123456789", "x"]);
    });
}

#[test]
fn a_broadcast_is_one_message_for_all() {
    test(async |stage| {
        let room = stage.room();
        let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
        ada.send("all:hello").await;
        let (one, other) = (ada.received().remove(0), bob.received().remove(0));
        assert_eq!(one, Message::from("hello"));
        assert_eq!(one.as_bytes().as_ptr(), other.as_bytes().as_ptr());
    });
}
