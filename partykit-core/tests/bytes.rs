//! What sleeping rooms and their connections take of the heap, counted by the allocator.

use std::sync::Arc;

use futures_util::FutureExt;
use partykit_core::{
    Connection, Message, Options, Request, Result, Room, RoomAddress, RoomId, Server,
    runtime::{ConnectionKey, RoomCell, RoomKind},
    testing::bare::{Bare, Still, Wire},
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

#[derive(Default)]
struct Relay;

impl Server for Relay {
    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        room.broadcast(message).except(sender).send();
        Ok(())
    }
}

/// A socket, and the two counts of its `Arc`.
const WIRE: usize = 24;

fn room(kind: &Arc<RoomKind>, party: &Arc<str>, n: usize) -> Arc<RoomCell> {
    let address = RoomAddress::new(party.clone(), RoomId::new(format!("room-{n:05}")).unwrap());
    RoomCell::new(address, kind.clone())
}

/// As PartySocket connects to a server on this machine.
fn connect(room: &Arc<RoomCell>, n: usize) -> ConnectionKey {
    let id = format!("{n:021}");
    let uri = format!("http://127.0.0.1:1999/parties/main/{}?_pk={id}", room.address().room());
    room.connect(id, uri, Request::default(), Arc::new(Wire::default())).unwrap()
}

fn hibernate(host: &Bare<Still>, room: &Arc<RoomCell>) {
    host.runs.run();
    room.hibernate().now_or_never().expect("nothing keeps it awake").unwrap();
    host.runs.run();
}

/// One test, because all tests of this program share the heap.
#[test]
fn sleeping_rooms_are_bytes() {
    const ROOMS: usize = 2000;
    const CONNECTIONS: usize = 10_000;

    let (host, party) = (Bare::new(Still::of::<Relay>()), Arc::from("main"));
    let kind = RoomKind::new(Options::new().hibernate(true), host.clone());
    // What is made once is made before.
    let first = room(&kind, &party, 0);
    connect(&first, 0);
    hibernate(&host, &first);

    let mut rooms = Vec::with_capacity(ROOMS);
    let before = HEAP.current_usage();
    for n in 0..ROOMS {
        let room = room(&kind, &party, n + 1);
        let key = connect(&room, n);
        host.runs.run();
        room.message(key, "hello".into()).unwrap();
        hibernate(&host, &room);
        rooms.push(room);
    }
    let each = (HEAP.current_usage() - before) / ROOMS - WIRE;
    println!("a sleeping room with one connection: {each} bytes");
    assert!(each <= 275, "{each} bytes for a sleeping room with one connection");

    let hall = room(&kind, &party, 99_999);
    let mut crowd = Vec::with_capacity(CONNECTIONS);
    let before = HEAP.current_usage();
    for n in 0..CONNECTIONS {
        crowd.push(connect(&hall, n));
        if n % 200 == 0 {
            host.runs.run();
        }
    }
    hibernate(&host, &hall);
    let each = (HEAP.current_usage() - before) / CONNECTIONS - WIRE;
    println!("a connection of a sleeping room: {each} bytes");
    assert!(each <= 75, "{each} bytes for a connection of a sleeping room");

    // Awake for one message, and asleep again: nothing has grown.
    let before = HEAP.current_usage();
    hall.message(crowd[7], "hello".into()).unwrap();
    hibernate(&host, &hall);
    let grown = HEAP.current_usage().saturating_sub(before);
    println!("after it was awake for a message: {grown} bytes more");
    assert!(grown <= 1024, "{grown} bytes more after it was awake for a message");
    drop((rooms, first));
}
