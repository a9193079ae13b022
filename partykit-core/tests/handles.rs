//! Handles that threads take and drop while their room sleeps and wakes: all of one connection are one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use futures_core::future::BoxFuture;
use futures_executor::block_on;
use partykit_core::{
    Connection, Message, Options, Request, Response, Result, Room, RoomAddress, RoomId, Server,
    runtime::{Chain, ConnectionKey, RoomCell, RoomKind, drive},
    testing::bare::{Bare, Runs, Wire},
};

static INSTANCES: AtomicUsize = AtomicUsize::new(0);

/// Counts what each client says, in the state of its connection.
struct Counter;

impl Counter {
    fn new() -> Self {
        assert_eq!(INSTANCES.fetch_add(1, SeqCst), 0, "two instances");
        Self
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        INSTANCES.fetch_sub(1, SeqCst);
    }
}

impl Server for Counter {
    async fn on_message(&mut self, _: &Room, sender: &Connection, _: Message) -> Result {
        let count: u32 = sender.state()?.unwrap_or(0);
        sender.set_state(&(count + 1))?;
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::default())
    }
}

/// A thread for each task.
struct Threads {
    origin: Instant,
    running: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Runs for Threads {
    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let task = thread::spawn(move || block_on(task));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|task| !task.is_finished());
        running.push(task);
    }

    fn drive(&self, room: Arc<RoomCell>) -> BoxFuture<'static, ()> {
        Box::pin(drive(room, |_| Counter::new()))
    }
}

fn count(connection: &Connection) -> u32 {
    connection.state().unwrap().unwrap_or(0)
}

fn say(room: &Arc<RoomCell>, key: ConnectionKey) {
    let mut message = Message::from("once");
    while let Err(back) = room.message(key, message) {
        message = back;
        thread::yield_now();
    }
}

/// A client that speaks, and other code that takes handles of its connection, now and then puts the room to
/// sleep, and looks whether its handles know what the newest one knows.
fn visit(room: &Arc<RoomCell>, key: ConnectionKey, rounds: u32) {
    let mut held: Option<Connection> = None;
    for round in 0..rounds {
        say(room, key);
        match round % 5 {
            0 | 1 => held = room.connection(key),
            3 => drop(block_on(room.hibernate())),
            4 if round % 2 == 0 => held = None,
            _ => {}
        }
        if let Some(held) = &held {
            let newest = room.connection(key).expect("it is connected");
            assert_eq!(held, &newest);
            let (before, between, after) = (count(held), count(&newest), count(held));
            assert!(before <= between && between <= after, "{before}, {between}, {after}");
        }
    }
}

#[test]
fn handles_of_a_connection_are_one_while_its_room_sleeps_and_wakes() {
    const CLIENTS: usize = 4;
    const ROUNDS: u32 = 300;

    let host = Bare::new(Threads { origin: Instant::now(), running: Mutex::default() });
    let options = Options::new().hibernate(true).hibernate_after(Duration::ZERO);
    let address = RoomAddress::new("counter", RoomId::new("r").unwrap());
    let room = RoomCell::new(address, RoomKind::new(options, host));
    let connect = |n: usize| {
        let socket = Arc::new(Wire::default());
        room.connect(format!("client {n}"), "http://h/", Request::default(), socket).unwrap()
    };
    let keys: Vec<ConnectionKey> = (0..CLIENTS).map(connect).collect();
    block_on(room.request(Request::default(), Chain::new())).unwrap();

    thread::scope(|scope| {
        for key in &keys {
            scope.spawn(|| visit(&room, *key, ROUNDS));
        }
    });
    // All that came before is handled when this is answered.
    block_on(room.request(Request::default(), Chain::new())).unwrap();
    for key in keys {
        assert_eq!(count(&room.connection(key).unwrap()), ROUNDS);
    }
    assert!(room.stats().account.sleeps > 0, "it slept in between");
}
