//! A room that is behind says so, and loses nothing that it has taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use partykit_core::{Close, Message, Refusal, runtime::Chain};

use crate::{
    script::{told, wish},
    world::{Client, World},
};

/// A room of two messages that is busy.
fn busy() -> (World, Client) {
    busy_with(2, 10_000)
}

/// A room that is busy until `end`, and this many messages and bytes of whose mailbox are free.
fn busy_with(events: usize, bytes: usize) -> (World, Client) {
    let world = World::new();
    world.party("main", |options| options.hibernate(true).mailbox(events, bytes));
    let ada = world.connect("main", "room", "ada");
    ada.say("wait:end");
    world.stage().journal();
    (world, ada)
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A socket with a message that the room did not take.
struct Stalled {
    client: Client,
    message: Option<Message>,
    wakes: Arc<Count>,
    seen: usize,
}

impl Stalled {
    /// Says something, and waits if there is no space.
    fn new(client: Client, program: &str) -> Self {
        let mut stalled =
            Self { client, message: Some(program.into()), wakes: Arc::default(), seen: 0 };
        stalled.go_on();
        stalled
    }

    fn go_on(&mut self) {
        let waker = Waker::from(self.wakes.clone());
        while let Some(message) = self.message.take() {
            let (cell, key) = (&self.client.cell, self.client.key);
            let Err(message) = cell.message(key, message) else { return };
            let space = cell.poll_space(key, &message, &mut Context::from_waker(&waker));
            self.message = Some(message);
            if space.is_pending() {
                return;
            }
        }
    }

    fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    /// Whether it was woken since the last time somebody asked.
    fn is_woken(&mut self) -> bool {
        let wakes = self.wakes();
        std::mem::replace(&mut self.seen, wakes) < wakes
    }
}

/// This many sockets with a message each, connected one after another.
fn crowd(world: &World, count: usize) -> Vec<Stalled> {
    let clients: Vec<_> =
        (0..count).map(|n| (n, world.connect("main", "room", &format!("c{n}")))).collect();
    world.connect("main", "room", "busy").say("wait:end");
    world.stage().journal();
    clients.into_iter().map(|(n, client)| Stalled::new(client, &format!("note:{n}"))).collect()
}

/// Lets those go on that are woken, until nobody is. Returns how often somebody was woken.
fn settle(world: &World, crowd: &mut [Stalled]) -> usize {
    let before: usize = crowd.iter().map(Stalled::wakes).sum();
    loop {
        world.run();
        let woken = crowd.iter_mut().filter_map(|one| one.is_woken().then_some(one));
        if woken.map(Stalled::go_on).count() == 0 {
            return crowd.iter().map(Stalled::wakes).sum::<usize>() - before;
        }
    }
}

#[test]
fn what_does_not_fit_comes_back_and_what_fits_is_handled_in_order() {
    let (world, ada) = busy();
    let cell = world.room("main", "room");
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(ada.try_say("note:1"), Ok(()));
    assert_eq!(ada.try_say("note:2"), Ok(()));
    let back = ada.try_say("note:3").unwrap_err();
    assert_eq!(back.as_text(), Some("note:3"));
    assert!(cell.poll_space(ada.key, &back, &mut cx).is_pending());
    assert_eq!(cell.stats().mailbox, 2);

    world.stage().open("end");
    world.run();
    assert_eq!(cell.poll_space(ada.key, &back, &mut cx), Poll::Ready(()));
    assert_eq!(ada.try_say("note:3"), Ok(()));
    world.run();
    assert_eq!(world.stage().journal(), ["1", "2", "3"]);
    assert_eq!(cell.stats().account.dropped_messages, 0);
}

/// 500 sockets wait for a room of 4 messages: each of them is woken once. (All of them at every message
/// would be 63,000 times.)
#[test]
fn as_many_are_woken_as_there_are_places_and_in_their_order() {
    let world = World::new();
    world.party("main", |options| options.mailbox(4, 1 << 20));
    let mut crowd = crowd(&world, 500);
    assert_eq!(crowd.iter().filter(|one| one.message.is_some()).count(), 496);
    world.stage().open("end");
    assert_eq!(settle(&world, &mut crowd), 496);
    let order: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(world.stage().journal(), order);
}

/// Somebody who may say something now, and does not, keeps nobody else waiting.
#[test]
fn space_that_is_given_up_is_for_the_next() {
    let world = World::new();
    world.party("main", |options| options.mailbox(1, 1 << 20));
    let mut crowd = crowd(&world, 5);
    world.stage().open("end");
    world.run();
    assert_eq!(crowd.iter().map(Stalled::wakes).collect::<Vec<_>>(), [0, 1, 0, 0, 0]);
    crowd[1].client.cell.forgo_space(crowd[1].client.key);
    assert_eq!(crowd.iter().map(Stalled::wakes).collect::<Vec<_>>(), [0, 1, 1, 0, 0]);
    crowd[2].client.end(Close::normal());
    // One who has gone while it waits.
    crowd[4].client.end(Close::normal());
    crowd.iter_mut().for_each(|one| assert!(one.is_woken() || one.wakes() == 0));
    crowd[3].go_on();
    world.run();
    assert_eq!(world.stage().journal(), ["0", "close c2 1000 clean", "close c4 1000 clean", "3"]);
}

/// Nobody gets in before those who have waited for longer, however small what it says.
#[test]
fn a_large_message_is_not_overtaken_for_ever() {
    let (world, ada) = busy_with(100, 40_000);
    let [bob, eve, large, small] =
        ["bob", "eve", "large", "small"].map(|name| world.connect("main", "room", name));
    world.stage().open("end");
    world.run();
    ada.say("wait:end");
    world.stage().journal();
    let note = |length: usize| format!("note:{}", "x".repeat(length));
    for client in [&ada, &bob, &eve] {
        client.try_say(&note(9_000)).unwrap();
    }
    let mut large = Stalled::new(large, &note(30_000));
    assert!(large.message.is_some());
    let mut small = Stalled::new(small, "note:small");
    assert!(small.message.is_some(), "it fits, and has to wait all the same");
    world.stage().open("end");
    world.run();
    large.go_on();
    small.go_on();
    world.run();
    let lengths: Vec<_> = world.stage().journal().iter().map(String::len).collect();
    assert_eq!(lengths, [9_000, 9_000, 9_000, 30_000, 5]);
}

/// An eighth of the mailbox is as much as one connection gets of it; others go on.
#[test]
fn one_connection_does_not_fill_it() {
    let (world, ada) = busy_with(256, 1 << 20);
    let bob = world.connect("main", "room", "bob");
    world.stage().open("end");
    world.run();
    ada.say("wait:end");
    world.stage().journal();
    for _ in 0..32 {
        ada.try_say("note:ada").unwrap();
    }
    let mut flooder = Stalled::new(ada, "note:ada");
    assert!(flooder.message.is_some(), "a thirty-third");
    for _ in 0..32 {
        bob.try_say("note:bob").unwrap();
    }
    assert_eq!(flooder.wakes(), 0, "there is space, but not for it");
    world.stage().open("end");
    world.run();
    assert_eq!(flooder.wakes(), 1);
    flooder.go_on();
    world.run();
    assert_eq!(world.stage().journal().iter().filter(|said| *said == "ada").count(), 33);
}

#[test]
fn one_connection_does_not_fill_it_with_bytes() {
    let (world, ada) = busy_with(256, 40_000);
    ada.try_say(&format!("note:{}", "x".repeat(9_000))).unwrap();
    let mut flooder = Stalled::new(ada, &format!("note:{}", "y".repeat(9_000)));
    assert!(flooder.message.is_some());
    world.stage().open("end");
    world.run();
    assert_eq!(flooder.wakes(), 1);
    flooder.go_on();
    world.run();
    assert_eq!(world.stage().journal().len(), 2);
}

/// A room that is flooded lets others in: messages never take the places of requests, and neither takes
/// those of connects.
#[test]
fn places_are_kept_for_requests_and_for_connects() {
    let (world, ada) = busy_with(16, 1 << 20);
    let cell = world.room("main", "room");
    for _ in 0..16 {
        ada.try_say("note:message").unwrap();
    }
    assert!(ada.try_say("note:message").is_err());
    assert_eq!(cell.tell(told("note:request")), Ok(()));
    assert_eq!(cell.tell(told("note:request")), Ok(()));
    assert_eq!(cell.tell(told("note:request")), Err(Refusal::Overloaded));
    let answer = world.request("main", "room", "note:request").expect("a refusal, at once");
    assert_eq!(answer.unwrap_err(), Refusal::Overloaded);
    let connect = |name: &str| {
        cell.connect(name, "http://test/", wish(""), cell.sockets().remove(0)).map(drop)
    };
    assert_eq!((connect("bob"), connect("eve")), (Ok(()), Ok(())));
    assert_eq!(Refusal::Overloaded.response().status(), 503);
    world.stage().open("end");
    world.run();
    assert_eq!(cell.stats().connections, 3);
    let journal = world.stage().journal();
    assert_eq!(journal.iter().filter(|said| *said == "message").count(), 16);
    assert_eq!(journal.iter().filter(|said| *said == "request").count(), 2);
}

/// After a restart all clients come at one moment: as many wait as there may be connections, and they take
/// no place of messages and requests.
#[test]
fn all_clients_of_a_room_may_come_back_at_one_moment() {
    let (world, ada) = busy_with(16, 1 << 20);
    let cell = world.room("main", "room");
    let connect = |n: usize| {
        let socket = cell.sockets().remove(0);
        cell.connect(format!("client{n}"), "http://test/", wish(""), socket).map(drop)
    };
    for n in 0..2000 {
        assert_eq!(connect(n), Ok(()), "{n}");
    }
    for _ in 0..16 {
        ada.try_say("note:message").unwrap();
    }
    assert!(ada.try_say("note:message").is_err());
    assert_eq!(cell.tell(told("note:request")), Ok(()));
    world.stage().open("end");
    world.run();
    assert_eq!(cell.stats().connections, 2001);
    assert_eq!(world.stage().journal().iter().filter(|said| *said == "message").count(), 16);
}

/// Those who come are bounded by the memory of their heads: four times what messages may take.
#[test]
fn connects_that_wait_have_their_own_memory() {
    let (world, ada) = busy_with(1000, 40_000);
    let cell = world.room("main", "room");
    let connect = |n: usize| {
        let mut request = wish("");
        request.headers_mut().insert("x-long", "v".repeat(8_000).parse().unwrap());
        let socket = cell.sockets().remove(0);
        cell.connect(format!("client{n}"), "http://test/", request, socket).map(drop)
    };
    let taken = (0..100).take_while(|n| connect(*n).is_ok()).count();
    assert!((5..=10).contains(&taken), "{taken} heads of 8 KB in 160 KB");
    assert_eq!(connect(100), Err(Refusal::Overloaded));
    ada.try_say("note:message").unwrap();
    assert_eq!(cell.tell(told("note:request")), Ok(()));
}

/// Heads of requests are memory too.
#[test]
fn a_request_counts_with_its_head() {
    let (world, _ada) = busy_with(1000, 160_000);
    let cell = world.room("main", "room");
    let request = || {
        let mut request = told("note:request");
        let value = "v".repeat(8_000).parse().unwrap();
        request.headers_mut().insert("x-long", value);
        request
    };
    let taken = (0..100).take_while(|_| cell.tell(request()).is_ok()).count();
    assert!((5..=11).contains(&taken), "{taken} heads of 8 KB in 180 KB");
    assert!(cell.stats().mailbox_bytes <= 180_000);
}

#[test]
fn closes_always_enter() {
    let (world, ada) = busy();
    let bob = world.connect("main", "room", "bob");
    let eve = world.connect("main", "room", "eve");
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
    let drained = world.spawn(async move { cell.drain(Duration::MAX).await });
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
