//! A handler that fails leaves nothing half-written, and harms nobody else.

use std::{pin::pin, time::Duration};

use futures_util::FutureExt;
use partykit_core::{Refusal, RoomPhase};

use crate::{
    script::{NOTHING, heard, inside, test, told},
    world::World,
};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_failure_after_a_change_takes_the_instance_and_leaves_the_sockets() {
    let failures = [
        ("panic", "Panic"),
        ("put:k=new panic", "Panic"),
        ("put:k=new fail", "Error"),
        ("delete:k fail", "Error"),
        ("clear fail", "Error"),
        ("state:new fail", "Error"),
        ("stuck", "Timeout"),
        ("put:k=new state:new stuck", "Timeout"),
    ];
    for (failure, kind) in failures {
        for hibernates in [true, false] {
            test(async |stage| {
                let room = stage.builder().options(|options| options.hibernate(hibernates)).build();
                let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
                ada.send("put:k=old state:old").await;
                stage.journal();

                ada.send(failure).await;
                if kind == "Timeout" {
                    room.advance(LIMIT - Duration::from_millis(1)).await;
                    assert_eq!(stage.journal(), NOTHING, "not before its time");
                    room.advance(Duration::from_millis(1)).await;
                }
                let error = format!("error on_message {kind}");
                assert_eq!(stage.journal(), ["start Wake", &error], "{failure}");
                assert!(ada.is_open() && bob.is_open(), "{failure}");

                ada.send("seen get:k state? who all:hello").await;
                let fresh = ["seen 1", "k=old", "state old", "here: ada,bob"];
                assert_eq!(stage.journal(), fresh, "{failure}");
                assert_eq!(
                    (heard(&ada), heard(&bob)),
                    (vec!["hello".into()], vec!["hello".into()])
                );
                assert_eq!(room.stats().account.resets, 1);
            });
        }
    }
}

#[test]
fn an_err_before_any_change_keeps_the_instance() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.send("get:k say:stays fail").await;
        ada.send("try put:k=1 fail end fail").await;
        ada.send("seen").await;
        let errors = ["k=none", "error on_message Error", "tried false", "error on_message Error"];
        assert_eq!(stage.journal(), [&errors[..], &["seen 3"]].concat());
        assert_eq!((stage.made(), stage.dropped()), (1, 0));
        assert_eq!(heard(&ada), ["stays"]);
    });
}

#[test]
fn an_err_after_a_sync_takes_the_instance_and_keeps_what_was_synced() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("put:k=1 state:1 say:one sync say:two put:k=2 state:2 say:three fail").await;
        assert_eq!(heard(&ada), ["one", "two"]);
        stage.journal();
        ada.send("get:k state? seen").await;
        assert_eq!(stage.journal(), ["k=1", "state 1", "seen 1"]);
    });
}

#[test]
fn only_what_was_said_before_the_first_write_stays() {
    for failure in ["fail", "panic"] {
        test(async |stage| {
            let room = stage.room();
            let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
            ada.send(format!(
                "say:before tell:b put:k=1 say:after all:after tell:c spawn:t=x close:4000 {failure}"
            ))
            .await;
            assert_eq!(heard(&ada), ["before"]);
            assert_eq!(heard(&bob), NOTHING);
            let told: Vec<_> = room.told().into_iter().map(|(to, _)| to.to_string()).collect();
            assert_eq!(told, ["other/b"]);
            assert!(!stage.open("x"), "the task never started");
            assert!(room.stats().reasons.is_empty(), "{:?}", room.stats().reasons);
            assert!(ada.is_open());
            stage.journal();
            ada.send("who").await;
            assert_eq!(stage.journal(), ["here: ada,bob"], "the close was taken back");
        });
    }
}

#[test]
fn a_failing_requests_client_learns_an_id_and_nothing_else() {
    test(async |stage| {
        let room = stage.room();
        for failure in ["fail", "put:k=1 panic"] {
            let refusal = room.request(told(failure)).await.unwrap_err();
            assert!(matches!(refusal, Refusal::Failed(_)));
            let response = refusal.response();
            assert_eq!(response.status(), 500);
            let body = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
            assert!(!body.contains("secret"), "{body}");
            let id = body.trim().rsplit(' ').next().unwrap();
            assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{body}");
        }
    });
}

#[test]
fn a_transaction_undoes_its_own_and_no_more() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.send(
            "put:a=1 state:kept say:1 try say:2 put:a=2 put:b=2 say:3 state:lost tell:b spawn:t=x \
             close:4000 fail end say:4 get:a get:b state? who put:c=1",
        )
        .await;
        assert_eq!(heard(&ada), ["1", "2", "4"], "2 was said before the transaction's first write");
        assert_eq!(stage.journal(), ["tried false", "a=1", "b=none", "state kept", "here: ada"]);
        assert!(room.told().is_empty() && !stage.open("x"));
        ada.send("list state? seen").await;
        assert_eq!(stage.journal(), ["a=1 c=1", "state kept", "seen 2"]);
    });
}

#[test]
fn transactions_nest() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.send("try put:a=1 try put:b=1 say:lost fail end put:c=1 say:kept end list").await;
        assert_eq!(stage.journal(), ["tried false", "tried true", "a=1 c=1"]);
        ada.send("clear try put:a=1 try put:b=1 say:lost end fail end put:d=1 list").await;
        assert_eq!(stage.journal(), ["tried true", "tried false", "d=1"]);
        assert_eq!(heard(&ada), ["kept"]);
    });
}

#[test]
fn a_transaction_that_is_dropped_half_way_is_undone() {
    test(async |stage| {
        let room = stage.room();
        let seen = inside(&room, |room| {
            Box::pin(async move {
                let storage = room.storage();
                storage.put("a", &1).unwrap();
                let never = storage.transaction(async |tx| {
                    tx.put("a", &2)?;
                    tx.put("b", &2)?;
                    std::future::pending::<partykit_core::Result>().await
                });
                assert!(never.now_or_never().is_none());
                storage.put("c", &3).unwrap();
                storage.list::<u32>(partykit_core::List::new()).await.unwrap()
            })
        });
        assert_eq!(seen.await, [("a".to_owned(), 1), ("c".to_owned(), 3)]);
        assert_eq!(room.stored("a").await, Some(1));
        assert_eq!(room.stored::<u32>("b").await, None);
    });
}

#[test]
fn a_panic_inside_of_a_transaction_undoes_the_handler() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("put:a=1 try put:b=1 panic end").await;
        stage.journal();
        ada.send("list").await;
        assert_eq!(stage.journal(), [""]);
    });
}

#[test]
fn on_error_comes_before_the_next_event_and_on_the_instance_that_then_exists() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.on("error", "seen say:sorry put:errors=1");
        stage.journal();
        for program in ["seen", "panic", "seen", "fail", "seen"] {
            ada.push(program);
        }
        room.settle().await;
        assert_eq!(
            stage.journal(),
            [
                "seen 1",
                "start Wake",
                "error on_message Panic",
                "seen 0",
                "seen 1",
                "error on_message Error",
                "seen 2",
                "seen 3"
            ]
        );
        assert_eq!(heard(&ada), ["sorry", "sorry"], "it is told whose event it was");
        assert_eq!(room.stored::<String>("errors").await.as_deref(), Some("1"));
    });
}

#[test]
fn a_failing_on_error_is_only_logged() {
    for failure in ["fail", "panic", "put:k=1 fail"] {
        test(async |stage| {
            let room = stage.room();
            let ada = room.connect("ada").await;
            stage.on("error", failure);
            stage.journal();
            ada.send("fail").await;
            assert_eq!(stage.journal(), ["error on_message Error"]);
            ada.send("note:works").await;
            assert_eq!(stage.journal().last().unwrap(), "works");
        });
    }
}

#[test]
fn a_failing_commit_of_on_error_is_only_logged() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        stage.on("error", "put:errors=1");
        stage.journal();
        store.fail_next_commit();
        ada.send("fail").await;
        assert_eq!(stage.journal(), ["error on_message Error"]);
        ada.send("note:works").await;
        assert_eq!(stage.journal(), ["start Wake", "works"]);
    });
}

#[test]
fn a_store_that_is_broken_for_long_does_not_make_a_room_turn_in_circles() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        stage.on("start", "put:started=1");
        stage.on("error", "put:errors=1");
        let store = store.fail_commits(1.0);
        stage.journal();
        ada.send("put:k=1 say:never").await;
        // It comes to rest, which a circle would not.
        assert_eq!(stage.journal(), ["start Wake", "error on_message Commit"]);
        drop(store.fail_commits(0.0));
        ada.send("put:k=1 say:works").await;
        assert_eq!(heard(&ada), ["works"]);
    });
}

#[test]
fn no_event_is_tried_twice() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.send("note:tried put:k=1 panic").await;
        room.advance(Duration::from_secs(3600)).await;
        ada.send("note:next").await;
        let tried = stage.journal().into_iter().filter(|line| line == "tried").count();
        assert_eq!(tried, 1);
    });
}

#[test]
fn a_panic_in_drop_is_survived() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.panic_in_drop();
        room.hibernate().await.unwrap();
        assert_eq!((stage.dropped(), room.stats().phase), (1, RoomPhase::Asleep));
        ada.send("say:fine").await;
        stage.panic_in_drop();
        ada.send("panic").await;
        ada.send("say:still-fine").await;
        assert_eq!(heard(&ada), ["fine", "still-fine"]);
        assert_eq!((stage.made(), stage.dropped()), (3, 2));
    });
}

#[test]
fn a_failure_does_not_harm_the_commit_of_another_handler() {
    test(async |stage| {
        // Without connections, so that each start looks whether the room is empty.
        let (room, store) = stage.faulty();
        store.hold_commits();
        let mut written = pin!(room.request(told("put:k=1 say:written")));
        assert!(written.as_mut().now_or_never().is_none());
        let mut failed = pin!(room.request(told("panic")));
        assert!(failed.as_mut().now_or_never().is_none());
        store.release_commits();
        room.settle().await;
        assert!(failed.await.is_err());
        assert_eq!(written.await.unwrap().body().bytes().unwrap(), "written");
        assert_eq!(room.stored::<String>("k").await.as_deref(), Some("1"));
        let journal = stage.journal();
        assert_eq!(journal, ["start First", "start Restart", "error on_request Panic"]);
    });
}

#[test]
fn on_error_is_told_of_a_commit_that_fails_while_a_new_instance_starts() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        store.fail_next_commit();
        ada.send("put:k=1").await;
        stage.on("start", "wait:start");
        ada.send("panic").await;
        ada.push("note:next");
        stage.journal();
        store.release_commits();
        room.settle().await;
        stage.on("start", "");
        assert!(stage.open("start"), "another start has begun");
        room.settle().await;
        let journal = stage.journal();
        let lines = |what: &str| journal.iter().filter(|line| **line == what).count();
        assert_eq!(lines("error on_message Commit"), 1, "{journal:?}");
        assert_eq!(lines("error on_message Panic"), 1, "{journal:?}");
        assert_eq!(lines("next"), 1, "{journal:?}");
    });
}

#[test]
fn a_handler_that_never_awaits_past_its_limit_is_counted_and_holds() {
    let world = World::new();
    world.party("main", |options| options);
    let ada = world.connect("main", "room", "ada");
    let clock = world.clone();
    let ran = world.inside("main", "room", move |room| {
        Box::pin(async move {
            room.storage().put("k", "1").unwrap();
            // What a long computation does to a clock.
            clock.set(clock.now() + LIMIT + Duration::from_millis(1));
        })
    });
    assert_eq!(ran.now_or_never(), Some(Ok(())));
    let stats = world.room("main", "room").stats();
    assert_eq!((stats.account.overruns, stats.account.resets), (1, 0));
    ada.say("get:k");
    assert_eq!(
        world.stage().journal().last().unwrap(),
        "k=1",
        "it could not be cancelled: it holds"
    );
    assert_eq!(world.room("main", "room").stats().account.overruns, 1);
}

#[test]
fn other_rooms_do_not_notice() {
    let world = World::new();
    world.party("main", |options| options.hibernate(true));
    let ada = world.connect("main", "a", "ada");
    let bob = world.connect("main", "b", "bob");
    bob.say("seen");
    ada.say("put:k=1 panic");
    world.stage().panic_in_drop();
    ada.say("panic");
    world.stage().journal();
    bob.say("seen get:k say:fine");
    assert_eq!(world.stage().journal(), ["seen 2", "k=none"]);
    assert_eq!(bob.heard(), ["fine"]);
    assert_eq!(world.room("main", "b").stats().account.resets, 0);
}
