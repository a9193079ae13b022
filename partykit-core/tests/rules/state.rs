//! What is kept with a connection lives as long as its socket, and is rolled back like storage.

use partykit_core::StateError;
use serde::{Deserialize, Serialize};

use crate::script::{inside, test, wish};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Player {
    name: String,
    score: u32,
}

#[test]
fn a_state_is_typed_and_survives_sleep_and_failures_but_no_crash() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let connection = ada.connection().clone();
        let player = || Player { name: "Ada".to_owned(), score: 7 };
        inside(&room, move |_| Box::pin(async move { connection.set_state(&player()).unwrap() }))
            .await;
        room.hibernate().await.unwrap();
        assert_eq!(ada.connection().state().unwrap(), Some(player()));
        ada.send("panic").await;
        assert_eq!(ada.connection().state().unwrap(), Some(player()));
        assert!(ada.connection().state::<u32>().is_err(), "it has another shape");

        room.crash().await;
        let ada = room.connect("ada").await;
        assert_eq!(ada.connection().state::<Player>().unwrap(), None);
    });
}

#[test]
fn only_the_handler_that_sets_a_state_sees_it_before_its_end() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("state:old lend").await;
        stage.journal();
        ada.send("state:new state? wait:end").await;
        assert_eq!(stage.journal(), ["state new"]);
        assert_eq!(ada.connection().state::<String>().unwrap().as_deref(), Some("old"));
        assert!(stage.open("end"));
        room.settle().await;
        assert_eq!(ada.connection().state::<String>().unwrap().as_deref(), Some("new"));
    });
}

#[test]
fn a_state_may_be_set_and_forgotten_from_anywhere() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.journal();
        ada.connection().set_state("outside").unwrap();
        ada.send("state?").await;
        assert_eq!(stage.journal(), ["state outside"]);
        // The end of a turn that runs meanwhile does not touch it.
        ada.send("put:k=1 wait:end fail").await;
        ada.connection().set_state("meanwhile").unwrap();
        assert!(stage.open("end"));
        room.settle().await;
        assert_eq!(ada.connection().state::<String>().unwrap().as_deref(), Some("meanwhile"));

        let connection = ada.connection().clone();
        inside(&room, move |_| Box::pin(async move { connection.clear_state() })).await;
        assert_eq!(ada.connection().state::<String>().unwrap(), None);
    });
}

#[test]
fn a_state_set_in_on_connect_is_there_after_it_or_not_at_all() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect_with("ada", wish("do=state:x+state?")).await;
        assert_eq!(stage.journal().last().unwrap(), "state x");
        assert_eq!(ada.connection().state::<String>().unwrap().as_deref(), Some("x"));
        let failed = room.connect_with("eve", wish("do=state:x+fail")).await;
        assert_eq!(failed.connection().state::<String>().unwrap(), None);
    });
}

#[test]
fn a_state_falls_back_when_the_commit_of_its_handler_fails() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        ada.send("state:zero").await;
        store.hold_commits();
        store.fail_next_commit();
        ada.send("put:k=1 state:one").await;
        ada.send("state:two").await;
        ada.send("put:k=3 state:three").await;
        store.release_commits();
        room.settle().await;
        assert_eq!(ada.connection().state::<String>().unwrap().as_deref(), Some("zero"));
        ada.send("state:four").await;
        assert_eq!(ada.connection().state::<String>().unwrap().as_deref(), Some("four"));
    });
}

#[test]
fn id_uri_tags_and_state_have_16320_bytes_together() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect_with("ada", wish("tags=red,blue")).await;
        let connection = ada.connection().clone();
        let fixed = connection.uri().len() + "ada".len() + "red".len() + "blue".len();
        let fits = inside(&room, move |_| {
            Box::pin(async move {
                // A JSON text has two quotes.
                [16_319, 16_320, 16_321].map(|size| {
                    let set = connection.set_state(&"x".repeat(size - fixed - 2));
                    assert!(matches!(set, Ok(()) | Err(StateError::TooLarge(16_321))));
                    set.is_ok()
                })
            })
        });
        assert_eq!(fits.await, [true, true, false]);
        let kept = ada.connection().state::<String>().unwrap().unwrap();
        assert_eq!(kept.len(), 16_320 - fixed - 2, "what did not fit changed nothing");
    });
}

#[test]
fn the_connections_of_a_room_have_64_mib_attached() {
    const EACH: usize = 16_000;
    test(async |stage| {
        let room = stage.room();
        let mut crowd = Vec::new();
        let state = "x".repeat(EACH - 2);
        let full = loop {
            let client = room.connect(&format!("{}", crowd.len())).await;
            let result = client.connection().set_state(&state);
            crowd.push(client);
            if let Err(error) = result {
                break error;
            }
        };
        assert!(matches!(full, StateError::RoomTooLarge(_)), "{full}");
        let most = (64 << 20) / EACH;
        assert!((most - 50..=most).contains(&crowd.len()), "{} connections", crowd.len());
        let last = crowd.last().unwrap().connection().clone();
        assert_eq!(last.state::<String>().unwrap(), None);

        // A handler's own states count too, and are forgotten with it.
        let late = last.clone();
        inside(&room, move |_| {
            Box::pin(async move {
                let result = late.set_state(&"x".repeat(EACH - 2));
                assert!(matches!(result, Err(StateError::RoomTooLarge(_))));
            })
        })
        .await;

        // A client that needs less, or goes, leaves space.
        crowd[0].connection().set_state("less").unwrap();
        last.set_state(&state).unwrap();
        assert!(crowd[0].connection().set_state(&state).is_err());
        crowd.swap_remove(1).vanish().await;
        crowd[0].connection().set_state(&state).unwrap();
    });
}
