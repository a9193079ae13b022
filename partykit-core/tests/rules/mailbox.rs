//! A room that is behind says so, and loses nothing that it has taken.

use std::task::{Context, Poll, Waker};

use partykit_core::{Close, Refusal, runtime::Chain};

use crate::{
    script::{told, wish},
    world::World,
};

/// A room of two events or a hundred bytes that is busy.
fn busy() -> (World, crate::world::Client) {
    let world = World::new();
    world.party("main", |options| options.hibernate(true).mailbox(2, 100));
    let ada = world.connect("main", "room", "ada");
    ada.say("wait:end");
    world.stage().journal();
    (world, ada)
}

#[test]
fn what_does_not_fit_comes_back_and_what_fits_is_handled_in_order() {
    let (world, ada) = busy();
    let cell = world.room("main", "room");
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(ada.try_say("note:1"), Ok(()));
    assert!(cell.poll_space(&mut cx).is_ready());
    assert_eq!(ada.try_say("note:2"), Ok(()));
    assert!(cell.poll_space(&mut cx).is_pending());
    let back = ada.try_say("note:3").unwrap_err();
    assert_eq!(back.as_text(), Some("note:3"));
    assert_eq!(cell.stats().mailbox, 2);

    world.stage().open("end");
    world.run();
    assert_eq!(cell.poll_space(&mut cx), Poll::Ready(()));
    assert_eq!(ada.try_say("note:3"), Ok(()));
    world.run();
    assert_eq!(world.stage().journal(), ["1", "2", "3"]);
    assert_eq!(cell.stats().account.dropped_messages, 0);
}

#[test]
fn whoever_waits_for_space_is_woken() {
    let (world, ada) = busy();
    ada.try_say("note:1").unwrap();
    ada.try_say("note:2").unwrap();
    let cell = world.room("main", "room");
    let waiting = world.spawn(std::future::poll_fn(move |cx| cell.poll_space(cx)));
    assert!(!waiting.is_over());
    world.stage().open("end");
    world.run();
    assert!(waiting.is_over());
}

#[test]
fn bytes_fill_it_as_events_do() {
    let (world, ada) = busy();
    ada.try_say(&format!("note:{}", "x".repeat(95))).unwrap();
    assert!(ada.try_say("note:more").is_err(), "one event of a hundred bytes");
    world.stage().open("end");
    world.run();
    // The first one is taken however large it is.
    ada.say("wait:end");
    ada.try_say(&format!("note:{}", "x".repeat(1000))).unwrap();
    assert!(ada.try_say("note:more").is_err());
}

#[test]
fn requests_tells_and_connects_are_refused_while_it_is_full() {
    let (world, ada) = busy();
    ada.try_say("note:1").unwrap();
    ada.try_say("note:2").unwrap();
    let cell = world.room("main", "room");
    let answer = world.request("main", "room", "note:request").expect("a refusal, at once");
    assert_eq!(answer.unwrap_err(), Refusal::Overloaded);
    assert_eq!(cell.tell(told("note:tell")), Err(Refusal::Overloaded));
    let refused = cell.connect("bob", "http://test/", wish(""), ada.connection.socket().clone());
    assert_eq!(refused.unwrap_err(), Refusal::Overloaded);
    assert_eq!(Refusal::Overloaded.response().status(), 503);
    world.stage().open("end");
    world.run();
    assert_eq!(world.stage().journal(), ["1", "2"]);
}

#[test]
fn closes_always_enter() {
    let (world, ada) = busy();
    // Two wait for their turn to come in, and fill the mailbox.
    let bob = world.connect("main", "room", "bob");
    let eve = world.connect("main", "room", "eve");
    assert!(ada.try_say("note:1").is_err());
    world.stage().open("end");
    world.run();
    ada.say("wait:end");
    ada.try_say("note:1").unwrap();
    ada.try_say("note:2").unwrap();
    world.stage().journal();
    bob.end(Close::normal());
    eve.end(Close::normal());
    world.stage().open("end");
    world.run();
    assert_eq!(world.stage().journal(), ["1", "2", "close bob 1000 clean", "close eve 1000 clean"]);
}

#[test]
fn a_room_that_shuts_down_refuses_what_waits_and_ends_what_runs() {
    let (world, ada) = busy();
    ada.try_say("note:lost").unwrap();
    let cell = world.room("main", "room");
    let answer = cell.request(told("note:lost"), Chain::new());
    let drained = world.spawn(async move { cell.drain().await });
    assert!(!drained.is_over(), "a handler runs");
    let answer = futures_executor::block_on(answer);
    assert_eq!(answer.unwrap_err(), Refusal::ShuttingDown);
    let later = world.request("main", "room", "").unwrap();
    assert_eq!(later.unwrap_err(), Refusal::ShuttingDown);

    world.stage().open("end");
    world.run();
    assert!(drained.is_over());
    ada.end(Close::normal());
    let journal = world.stage().journal();
    assert!(journal.is_empty(), "no on_close, and nothing wakes: {journal:?}");
}
