//! Who is here, in which order, who hears what, and that everybody's end is told once.

use partykit_core::{Close, CloseCode};

use crate::{
    script::{NOTHING, heard, inside, test, wish},
    world::World,
};

#[test]
fn connections_are_listed_in_the_order_in_which_they_came() {
    test(async |stage| {
        let room = stage.room();
        let mut clients = Vec::new();
        for id in ["zoe", "ada", "mia", "bob"] {
            clients.push(room.connect(id).await);
        }
        stage.journal();
        clients[0].send("who").await;
        assert_eq!(stage.journal(), ["here: zoe,ada,mia,bob"]);
        room.hibernate().await.unwrap();
        clients[2].vanish().await;
        clients.push(room.connect("mia").await);
        stage.journal();
        clients[0].send("who").await;
        assert_eq!(stage.journal(), ["here: zoe,ada,bob,mia"]);
        room.hibernate().await.unwrap();
        clients[0].send("who").await;
        assert_eq!(stage.journal(), ["start Wake", "here: zoe,ada,bob,mia"]);
    });
}

#[test]
fn a_broadcast_may_go_to_a_tag_or_leave_some_out() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect_with("ada", wish("tags=admin,red")).await;
        let bob = room.connect_with("bob", wish("tags=red")).await;
        let eve = room.connect_with("eve", wish("tags=blue")).await;
        eve.send("tagged:red=1 tagged:admin=2 tagged:eve=3 tagged:none=4").await;
        assert_eq!((heard(&ada), heard(&bob)), (vec!["1".into(), "2".into()], vec!["1".into()]));
        assert_eq!(heard(&eve), ["3"], "an id is a tag");

        let (first, second) = (ada.connection().clone(), bob.connection().clone());
        let listed = inside(&room, |room| {
            Box::pin(async move {
                room.broadcast("5").except(&first).except_all([&second]).send();
                room.broadcast("6").tag("red").except(&first).send();
                let tagged: Vec<_> = room.tagged("red").map(|c| c.id().to_owned()).collect();
                (tagged, room.tagged("nobody").len(), room.count(), room.connections().len())
            })
        });
        assert_eq!(listed.await, (vec!["ada".into(), "bob".into()], 0, 3, 3));
        assert_eq!(
            (heard(&ada), heard(&bob), heard(&eve)),
            (vec![], vec!["6".into()], vec!["5".into()])
        );
    });
}

#[test]
fn tags_are_found_after_a_sleep_and_forgotten_with_their_connection() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect_with("ada", wish("tags=red")).await;
        let bob = room.connect_with("bob", wish("tags=red")).await;
        room.hibernate().await.unwrap();
        ada.send("tagged:red=x").await;
        assert_eq!((heard(&ada), heard(&bob)), (vec!["x".into()], vec!["x".into()]));
        ada.vanish().await;
        bob.send("tagged:red=y").await;
        assert_eq!((heard(&ada), heard(&bob)), (vec![], vec!["y".into()]));
    });
}

#[test]
fn every_way_to_go_is_told_once_with_its_code() {
    test(async |stage| {
        let room = stage.room();
        stage.on("close", "who");
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        let eve = room.connect("eve").await;
        stage.journal();
        ada.close(1000, "").await.unwrap();
        bob.close(4321, "tired").await.unwrap();
        assert_eq!(
            stage.journal(),
            ["close ada 1000 clean", "here: bob,eve", "close bob 4321 clean", "here: eve"]
        );
        eve.vanish().await;
        assert_eq!(stage.journal(), ["close eve 1006 unclean", "here: "]);
        for client in [&ada, &bob, &eve] {
            client.vanish().await;
        }
        assert_eq!(stage.journal(), NOTHING, "a second end counts for nothing");
    });
}

#[test]
fn a_close_without_a_code_is_seen_as_1005_and_is_clean() {
    let world = World::new();
    world.party("main", |options| options.hibernate(true));
    let ada = world.connect("main", "room", "ada");
    world.stage().journal();
    ada.end(Close::no_status());
    assert_eq!(world.stage().journal(), ["close ada 1005 clean"]);
}

#[test]
fn a_close_wakes_the_room_and_is_told_once() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        stage.on("close", "who all:gone");
        room.hibernate().await.unwrap();
        stage.journal();
        ada.close(1000, "").await.unwrap();
        assert_eq!(stage.journal(), ["start Wake", "close ada 1000 clean", "here: bob"]);
        assert_eq!(heard(&bob), ["gone"]);
        // The last one: nobody is left when the room starts.
        room.hibernate().await.unwrap();
        bob.vanish().await;
        assert_eq!(stage.journal(), ["start First", "close bob 1006 unclean", "here: "]);
    });
}

#[test]
fn whom_the_server_closes_is_gone_at_once_and_told_when_the_client_has_answered() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        stage.journal();
        ada.send("close:4000 who say:lost all:hello").await;
        assert_eq!(ada.closed().unwrap().code(), CloseCode::from(4000));
        assert_eq!(stage.journal(), ["here: bob"]);
        assert_eq!((heard(&ada), heard(&bob)), (vec![], vec!["hello".into()]));
        assert_eq!(room.stats().connections, 1);

        ada.send("note:not-heard").await;
        assert_eq!(stage.journal(), NOTHING, "what a closed connection says is dropped");
        ada.answer_close().await;
        assert_eq!(stage.journal(), ["close ada 4000 clean"]);
        ada.answer_close().await;
        assert_eq!(stage.journal(), NOTHING);
    });
}

#[test]
fn closing_twice_sends_one_close() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("close:4000 close:4001").await;
        assert_eq!(ada.closed().unwrap().code(), CloseCode::from(4000));
        ada.answer_close().await;
        let closes = stage.journal().into_iter().filter(|line| line.starts_with("close")).count();
        assert_eq!(closes, 1);
    });
}

#[test]
fn to_speak_to_somebody_who_is_gone_does_nothing() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("lend").await;
        stage.on("close", "say:bye close:4000 state:x");
        ada.close(1000, "").await.unwrap();
        stage.lent()[0].send("from outside");
        room.settle().await;
        assert_eq!((heard(&ada), ada.closed()), (vec![], None));
    });
}

#[test]
fn messages_that_arrived_before_a_close_are_heard_before_it() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.push("note:one");
        ada.push("note:two");
        ada.close(1000, "").await.unwrap();
        assert_eq!(stage.journal(), ["one", "two", "close ada 1000 clean"]);
    });
}

#[test]
fn a_close_that_an_invalid_code_asks_for_is_an_error_and_changes_nothing() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let connection = ada.connection().clone();
        let refused = inside(&room, |_| {
            Box::pin(async move {
                let reason = "x".repeat(124);
                [connection.close(1005, "").is_err(), connection.close(1000, reason).is_err()]
            })
        });
        assert_eq!(refused.await, [true, true]);
        assert!(ada.is_open());
        assert_eq!(room.stats().connections, 1);
    });
}

#[test]
fn frames_of_a_clone_survive_the_rollback_of_the_turn_that_runs_meanwhile() {
    for end in ["fail", "panic"] {
        test(async |stage| {
            let room = stage.room();
            let ada = room.connect("ada").await;
            ada.send("lend").await;
            ada.send(format!("say:before put:k=1 say:lost wait:end {end}")).await;
            let clone = stage.lent()[0].clone();
            clone.send("from this thread");
            std::thread::scope(|scope| {
                let sent = scope.spawn(|| clone.send("from another thread")).join();
                sent.expect("the other thread does not panic");
            });
            room.settle().await;
            assert_eq!(heard(&ada), ["before"], "it is behind a write that is not durable");
            assert!(stage.open("end"));
            room.settle().await;
            assert_eq!(heard(&ada), ["from this thread", "from another thread"], "{end}");
        });
    }
}

#[test]
fn frames_of_a_task_survive_the_rollback_of_the_turn_that_runs_meanwhile() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let (connection, latch) = (ada.connection().clone(), stage.wait("task"));
        inside(&room, |room| {
            Box::pin(async move {
                room.spawn("speaker", async move {
                    latch.await;
                    connection.send("from a task");
                    String::from("done")
                });
            })
        })
        .await;
        ada.send("put:k=1 say:lost wait:end fail").await;
        assert!(stage.open("task"));
        room.settle().await;
        assert_eq!(heard(&ada), NOTHING);
        assert!(stage.open("end"));
        room.settle().await;
        assert_eq!(heard(&ada), ["from a task"]);
    });
}

#[test]
fn a_clone_may_close_from_outside() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("lend").await;
        room.hibernate().await.unwrap();
        stage.lent()[0].close(4002, "").unwrap();
        room.settle().await;
        assert_eq!(ada.closed().unwrap().code(), CloseCode::from(4002));
        assert_eq!(room.stats().connections, 0);
    });
}
