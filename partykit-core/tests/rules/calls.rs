//! Rooms that call each other neither wait for ever nor learn of what may be rolled back.

use std::time::Duration;

use futures_util::FutureExt;
use partykit_core::{CallError, Request};

use crate::{script::told, world::World};

const LIMIT: Duration = Duration::from_secs(10);

fn world() -> World {
    let world = World::new();
    for party in ["main", "other"] {
        world.party(party, |options| options.hibernate(true));
    }
    world
}

/// What a call from `main/a` comes to.
fn call(world: &World, party: &'static str, id: &'static str, program: &'static str) -> String {
    let answer = world.inside("main", "a", move |room| {
        Box::pin(async move { text(room.party(party).room(id).request(told(program)).await) })
    });
    answer.now_or_never().expect("an answer").expect("the handler ran")
}

fn text(answer: Result<partykit_core::Response, CallError>) -> String {
    match answer {
        Ok(response) => format!("{} {:?}", response.status(), response.body().bytes().unwrap()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_call_brings_the_answer_of_another_room() {
    let world = world();
    assert_eq!(call(&world, "other", "b", "put:k=1 say:hello"), "200 OK b\"hello\"");
    let ada = world.connect("other", "b", "ada");
    ada.say("get:k");
    assert_eq!(world.stage().journal().last().unwrap(), "k=1");
}

#[test]
fn a_call_that_fails_there_says_so_here_and_no_more() {
    let world = world();
    let answer = call(&world, "other", "b", "fail");
    assert!(answer.starts_with("other/b: the room failed, error "), "{answer}");
    assert!(!answer.contains("secret"));
}

#[test]
fn a_call_with_uncommitted_writes_is_refused_and_one_after_a_sync_is_not() {
    let world = world();
    let answer = world.inside("main", "a", |room| {
        Box::pin(async {
            let other = room.party("other").room("b");
            room.storage().put("k", "1").unwrap();
            let early = other.request(told("")).await.unwrap_err();
            assert!(matches!(early, CallError::UncommittedWrites(_)), "{early}");
            room.storage().sync().await.unwrap();
            text(other.request(told("say:fine")).await)
        })
    });
    assert_eq!(answer.now_or_never().unwrap().unwrap(), "200 OK b\"fine\"");
}

#[test]
fn a_call_after_a_transaction_that_was_undone_is_not_refused() {
    let world = world();
    let answer = world.inside("main", "a", |room| {
        Box::pin(async {
            let undone = room.storage().transaction(async |storage| {
                storage.put("k", "1")?;
                Err::<(), partykit_core::BoxError>("undone".into())
            });
            assert!(undone.await.is_err());
            text(room.party("other").room("b").request(told("say:fine")).await)
        })
    });
    assert_eq!(answer.now_or_never().unwrap().unwrap(), "200 OK b\"fine\"");
}

#[test]
fn a_room_cannot_call_itself() {
    let world = world();
    assert_eq!(
        call(&world, "main", "a", ""),
        "the call to main/a was refused: that room already waits for this one"
    );
    assert_eq!(call(&world, "main", "b", "say:ok"), "200 OK b\"ok\"", "another room of its party");
}

#[test]
fn a_room_cannot_call_one_that_waits_for_it() {
    let world = world();
    let answer = world.inside("main", "a", |room| {
        Box::pin(async {
            let (request, back) = crate::script::act(|b| {
                Box::pin(async {
                    let fine = text(b.party("other").room("c").request(told("say:c")).await);
                    let cycle = b.party("main").room("a").request(Request::default()).await;
                    (fine, cycle.unwrap_err())
                })
            });
            room.party("other").room("b").request(request).await.unwrap();
            back.await.unwrap()
        })
    });
    let (fine, cycle) = answer.now_or_never().expect("nobody waits for ever").unwrap();
    assert_eq!(fine, "200 OK b\"c\"");
    assert!(matches!(cycle, CallError::Cycle(_)), "{cycle}");
}

#[test]
fn unknown_parties_and_impossible_rooms_are_errors() {
    let world = world();
    let errors = world.inside("main", "a", |room| {
        Box::pin(async {
            let unknown = room.party("nobody").room("b");
            let empty = room.party("other").room("");
            let long = "x".repeat(1025);
            let long = room.party("other").room(&long);
            for room in [&empty, &long] {
                let called = room.request(Request::default()).await;
                assert!(matches!(called, Err(CallError::InvalidRoom(_))), "{called:?}");
                assert!(matches!(room.tell(Request::default()), Err(CallError::InvalidRoom(_))));
            }
            assert!(matches!(unknown.tell(Request::default()), Err(CallError::UnknownParty(_))));
            unknown.request(Request::default()).await.unwrap_err().to_string()
        })
    });
    assert_eq!(errors.now_or_never().unwrap().unwrap(), "no party has the name \"nobody\"");
}

#[test]
fn a_call_is_given_up_after_ten_seconds() {
    let world = world();
    let mut answer = world.inside("main", "a", |room| {
        Box::pin(async {
            let answer = room.party("other").room("b").request(told("wait:never")).await;
            (answer.unwrap_err(), room.now())
        })
    });
    world.advance(LIMIT - Duration::from_millis(1));
    assert!((&mut answer).now_or_never().is_none());
    world.advance(Duration::from_millis(1));
    let (error, now) = answer.now_or_never().unwrap().unwrap();
    assert!(matches!(error, CallError::Timeout(_, LIMIT)), "{error}");
    assert_eq!(now, partykit_core::Timestamp::default() + LIMIT);
    assert!(world.stage().open("never"), "which says nothing about the other room: it goes on");
}

#[test]
fn a_tell_arrives_when_its_handler_has_ended_and_not_if_it_fails_after_a_write() {
    let world = world();
    for (end, arrives) in [("sync", true), ("fail", false)] {
        world.stage().journal();
        let told = world.inside("main", "a", move |room| {
            Box::pin(async move {
                room.storage().put("k", end).unwrap();
                room.party("other").room("b").tell(told("note:arrived")).unwrap();
                assert_eq!(end, "sync", "a panic, if it is to fail");
            })
        });
        assert_eq!(told.now_or_never().unwrap().is_ok(), arrives);
        let journal = world.stage().journal();
        assert_eq!(journal.contains(&"arrived".to_owned()), arrives, "{journal:?}");
    }
}

#[test]
fn a_room_may_tell_itself() {
    let world = world();
    let ada = world.connect("main", "b", "ada");
    world.stage().journal();
    let answer = world.inside("main", "b", |room| {
        Box::pin(async { room.party("main").room("b").tell(told("note:later")).unwrap() })
    });
    answer.now_or_never().unwrap().unwrap();
    ada.say("note:last");
    assert_eq!(world.stage().journal(), ["later", "last"]);
}

#[test]
fn a_request_from_outside_is_answered_or_not_yet() {
    let world = world();
    assert!(world.request("main", "a", "say:x").unwrap().is_ok());
    assert!(world.request("main", "a", "wait:end").is_none());
}
