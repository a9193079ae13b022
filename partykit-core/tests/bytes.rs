//! What sleeping rooms and their connections take of the heap, counted by the allocator.

mod doubles;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use partykit_core::{
    Connection, Message, Options, Request, Result, Room, RoomAddress, RoomId, Server,
    runtime::{ConnectionKey, RoomCell, drive},
};
use peak_alloc::PeakAlloc;

use self::doubles::{Bare, Runs, Wire};

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

/// Tasks run when the test says so, and the clock stands still.
#[derive(Default)]
struct Still(Mutex<Vec<BoxFuture<'static, ()>>>);

impl Runs for Still {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(1000)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.lock().unwrap().push(task);
    }

    fn drive(&self, room: Arc<RoomCell>) -> BoxFuture<'static, ()> {
        Box::pin(drive(room, |_| Relay))
    }
}

impl Still {
    /// Polls all tasks a few times, as often as a driver may yield before it waits for its timer.
    fn run(&self) {
        for _ in 0..16 {
            let tasks = std::mem::take(&mut *self.0.lock().unwrap());
            for mut task in tasks {
                if (&mut task).now_or_never().is_none() {
                    self.0.lock().unwrap().push(task);
                }
            }
        }
    }
}

/// A socket, and the two counts of its `Arc`.
const WIRE: usize = 24;

fn room(
    host: &Arc<Bare<Still>>,
    options: &Arc<Options>,
    party: &Arc<str>,
    n: usize,
) -> Arc<RoomCell> {
    let address = RoomAddress::new(party.clone(), RoomId::new(format!("room-{n:05}")).unwrap());
    RoomCell::new(address, options.clone(), host.clone())
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

    let (host, party) = (Bare::new(Still::default()), Arc::from("main"));
    let options = Arc::new(Options::new().hibernate(true));
    // What is made once is made before.
    let first = room(&host, &options, &party, 0);
    connect(&first, 0);
    hibernate(&host, &first);

    let mut rooms = Vec::with_capacity(ROOMS);
    let before = HEAP.current_usage();
    for n in 0..ROOMS {
        let room = room(&host, &options, &party, n + 1);
        let key = connect(&room, n);
        host.runs.run();
        room.message(key, "hello".into()).unwrap();
        hibernate(&host, &room);
        rooms.push(room);
    }
    let each = (HEAP.current_usage() - before) / ROOMS - WIRE;
    println!("a sleeping room with one connection: {each} bytes");
    assert!(each <= 385, "{each} bytes for a sleeping room with one connection");

    let hall = room(&host, &options, &party, 99_999);
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
