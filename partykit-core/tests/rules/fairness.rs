//! What one room may take of what all rooms share: the thread, and memory.

use std::time::Duration;

use partykit_core::{Close, RoomPhase, runtime::Chain};

use crate::{
    script::{act, told},
    world::World,
};

/// A room whose handlers need time lets others run after 200 µs of them, however few they are.
#[test]
fn a_busy_room_yields_by_time() {
    let world = World::new();
    world.party("main", |options| options);
    let cell = world.room("main", "room");
    let queue = |handler: Duration, count: usize| {
        for _ in 0..count {
            let world = world.clone();
            let (request, _) =
                act(move |_| Box::pin(async move { world.set(world.now() + handler) }));
            drop(cell.request(request, Chain::new()));
        }
        let before = world.yields();
        world.run();
        world.yields() - before
    };
    assert_eq!(queue(Duration::from_micros(50), 41), 10);
    assert_eq!(queue(Duration::from_millis(5), 11), 10);
    assert_eq!(queue(Duration::ZERO, 193), 3, "a clock may stand still");
}

/// A room that says something to many lets others run in between, and its clients hear all of it in order.
#[test]
fn what_a_room_says_to_many_yields_by_time() {
    let world = World::new();
    world.party("main", |options| options);
    let cell = world.room("main", "room");
    let clients: Vec<_> =
        (0..320).map(|n| world.connect("main", "room", &format!("c{n}"))).collect();
    for client in &clients {
        client.slow_down(Duration::from_micros(50));
    }
    let yields = |say: &dyn Fn()| {
        let before = world.yields();
        say();
        world.run();
        world.yields() - before
    };
    let to_all = |text: &str| cell.broadcast(text.into(), None).unwrap();
    let to_each = |text: &str| clients.iter().for_each(|client| client.connection.send(text));
    // 16 ms each, and the clock is looked at after 32 sockets or less.
    assert_eq!(yields(&|| to_all("a")), 5);
    assert_eq!(yields(&|| to_each("b")), 5);
    let mixed = || {
        to_all("c");
        to_each("d");
        clients[0].connection.close(4000, "").unwrap();
        to_all("e");
    };
    assert!(yields(&mixed) >= 20);
    for (n, client) in clients.iter().enumerate() {
        let last = if n == 0 { "4000" } else { "e" };
        assert_eq!(client.heard(), ["a", "b", "c", "d", last], "{n}");
    }
}

/// What anybody can call into memory with a name does not stay as long as what somebody needs.
#[test]
fn a_room_that_a_request_woke_and_that_holds_nothing_goes_soon() {
    const SECOND: Duration = Duration::from_secs(1);

    let world = World::new();
    world.party("main", |options| options.hibernate(true));
    let phase = |room: &str| world.room("main", room).stats().phase;
    for n in 0..3 {
        world.request("main", "empty", "note:here").unwrap().unwrap();
        world.advance(SECOND);
        assert_eq!(phase("empty"), RoomPhase::Awake, "the next request may follow");
        world.advance(SECOND);
        assert_eq!(phase("empty"), RoomPhase::Asleep);
        assert!(world.room("main", "empty").is_vacant());
        assert_eq!(world.room("main", "empty").stats().account.sleeps, n + 1);
    }

    world.request("main", "stored", "put:a=1").unwrap().unwrap();
    world.advance(9 * SECOND);
    assert_eq!(phase("stored"), RoomPhase::Awake, "it has stored something");
    world.advance(SECOND);
    world.request("main", "stored", "note:again").unwrap().unwrap();
    world.advance(9 * SECOND);
    assert_eq!(phase("stored"), RoomPhase::Awake, "something was stored before it woke");

    let ada = world.connect("main", "visited", "ada");
    ada.end(Close::normal());
    world.advance(9 * SECOND);
    assert_eq!(phase("visited"), RoomPhase::Awake, "she may come back");
    world.advance(SECOND);
    assert_eq!(phase("visited"), RoomPhase::Asleep);

    world.set_crowded();
    assert_eq!(world.room("main", "tell").tell(told("note:here")), Ok(()));
    world.run();
    assert_eq!(phase("tell"), RoomPhase::Asleep, "at once, among many");
}

/// A server that does not hibernate may have something in its fields: it has its time, but not among
/// very many rooms.
#[test]
fn a_room_that_does_not_hibernate_goes_at_once_when_there_are_many() {
    let world = World::new();
    world.party("main", |options| options);
    let phase = |room: &str| world.room("main", room).stats().phase;
    world.request("main", "one", "note:here").unwrap().unwrap();
    assert_eq!(phase("one"), RoomPhase::Awake);
    world.set_crowded();
    world.request("main", "two", "note:here").unwrap().unwrap();
    assert_eq!(phase("two"), RoomPhase::Asleep);
    let ada = world.connect("main", "three", "ada");
    assert_eq!(phase("three"), RoomPhase::Awake);
    ada.end(Close::normal());
    assert_eq!(phase("three"), RoomPhase::Asleep);
    world.request("main", "stored", "put:a=1").unwrap().unwrap();
    assert_eq!(phase("stored"), RoomPhase::Awake);
}
