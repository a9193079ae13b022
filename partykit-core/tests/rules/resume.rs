//! A room whose platform has dropped it with its cell, and kept its sockets: it comes back as one that slept.

use std::time::Duration;

use partykit_core::{Close, RoomPhase, WakeCause};

use crate::{
    script::NOTHING,
    world::{Client, World},
};

/// A room that sleeps, with these clients.
fn asleep(names: &[&str]) -> (World, Vec<Client>) {
    let world = World::new();
    world.party("main", |options| options.hibernate(true));
    let clients: Vec<_> = names.iter().map(|name| world.connect("main", "room", name)).collect();
    for client in &clients {
        client.say(&format!("state:{}-state", client.connection.id()));
    }
    world.advance(Duration::from_secs(10));
    assert_eq!(world.room("main", "room").stats().phase, RoomPhase::Asleep);
    world.stage().journal();
    (world, clients)
}

#[test]
fn it_sleeps_until_something_happens_and_wakes_for_that() {
    let (world, clients) = asleep(&["ada", "bob"]);
    let made = world.stage().made();
    let clients = world.resume(clients, &[]);
    let stats = world.room("main", "room").stats();
    assert_eq!((stats.phase, stats.connections), (RoomPhase::Asleep, 2));
    assert_eq!((world.stage().journal(), world.stage().made()), (vec![], made), "nothing has run");

    clients[1].say("all:hello who state? seen");
    assert_eq!(
        world.stage().journal(),
        ["start Wake", "here: ada,bob", "state bob-state", "seen 1"]
    );
    for client in &clients {
        assert_eq!(client.heard(), ["hello"]);
    }
    let account = world.room("main", "room").stats().account;
    assert_eq!(account.last_wake.map(|(cause, _)| cause), Some(WakeCause::Message));
}

#[test]
fn connections_have_all_that_they_had() {
    let (world, clients) = asleep(&["ada", "bob"]);
    let before: Vec<_> = clients.iter().map(Client::attachment).collect();
    let clients = world.resume(clients, &[]);
    for (client, before) in clients.iter().zip(&before) {
        let (id, connection) = (&before.id, &client.connection);
        assert_eq!((connection.id(), connection.uri()), (id.as_str(), before.uri.as_str()));
        let tags: Vec<_> = connection.tags().collect();
        assert_eq!(tags, [id, "all", &format!("{id}s")]);
        assert_eq!(connection.state::<String>().unwrap(), Some(format!("{id}-state")));
    }
    clients[0].say("tagged:bobs=for-bob tagged:all=for-all");
    assert_eq!(clients[0].heard(), ["for-all"]);
    assert_eq!(clients[1].heard(), ["for-bob", "for-all"]);
    // What is changed afterwards is kept, too.
    clients[0].say("state:other");
    world.advance(Duration::from_secs(10));
    world.stage().journal();
    let clients = world.resume(clients, &[]);
    clients[0].say("state?");
    assert_eq!(world.stage().journal(), ["start Wake", "state other"]);
}

#[test]
fn they_are_in_the_order_in_which_they_came_whatever_order_the_platform_has() {
    let (world, mut clients) = asleep(&["ada", "bob", "cleo"]);
    clients.reverse();
    let clients = world.resume(clients, &[]);
    let dan = world.connect("main", "room", "dan");
    let greatest = clients.iter().map(|client| client.attachment().order).max();
    assert!(Some(dan.attachment().order) > greatest, "no number is given twice");
    world.stage().journal();
    dan.say("who");
    assert_eq!(world.stage().journal(), ["here: ada,bob,cleo,dan"]);
}

#[test]
fn whom_the_room_had_closed_is_not_listed_and_its_end_is_told_once() {
    let (world, clients) = asleep(&["ada", "bob"]);
    world.stage().on("close", "who");
    let clients = world.resume(clients, &["bob"]);
    assert_eq!(world.room("main", "room").stats().connections, 1);
    clients[0].say("all:hello");
    assert_eq!(clients[1].heard(), NOTHING);
    world.stage().journal();
    clients[1].end(Close::normal());
    clients[1].end(Close::normal());
    assert_eq!(world.stage().journal(), ["close bob 1000 clean", "here: ada"]);
}

#[test]
fn the_close_of_the_last_one_wakes_it() {
    let (world, clients) = asleep(&["ada"]);
    world.stage().on("close", "who");
    let clients = world.resume(clients, &[]);
    clients[0].end(Close::abnormal("gone"));
    assert_eq!(world.stage().journal(), ["start First", "close ada 1006 unclean", "here: "]);
}
