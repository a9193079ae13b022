//! What a further idle connection takes of the heap, counted at the allocator. In a binary of its own, because
//! it is the whole process's memory that is counted.
#![cfg(target_os = "linux")]

mod at_rest;
mod upgraded;

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use partykit_core::{Connection, Message, Options, Result, Room, Server};
use partykit_runtime_tokio::{Handle, bind};
use peak_alloc::PeakAlloc;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use at_rest::at_rest;
use upgraded::upgraded;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Relay;

impl Server for Relay {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::ZERO)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        room.broadcast(message).except(sender).send();
        Ok(())
    }
}

/// A client takes nothing of the heap.
fn connect(address: SocketAddr, room: &str, number: usize) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(NEVER)).unwrap();
    let request = format!(
        "GET /parties/relay/{room}?_pk=client-number-{number:0>7} HTTP/1.1\r\nhost: h\r\n\
         upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    upgraded(stream, &request)
}

/// Clients of one server.
struct House {
    tokio: Runtime,
    address: SocketAddr,
    handle: Handle,
    clients: Vec<TcpStream>,
}

impl House {
    /// Two loops: each has its own list of sockets.
    fn open() -> Self {
        let tokio = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (address, handle) = tokio.block_on(async {
            let runtime = partykit_runtime_tokio::Runtime::builder().party::<Relay>("relay");
            let runtime = runtime.in_memory().build().unwrap();
            let listener = bind("127.0.0.1:0").await.unwrap();
            let (address, handle) = (listener.local_addr().unwrap(), runtime.handle());
            tokio::spawn(async move { runtime.serve_on(listener).await });
            (address, handle)
        });
        let clients = Vec::with_capacity(FIRST + FURTHER);
        Self { tokio, address, handle, clients }
    }

    /// As many more clients, each in the room that `room` says. Returns the heap's bytes when all rooms sleep and
    /// nothing changes any more.
    fn add(&mut self, count: usize, room: fn(usize) -> String) -> usize {
        let (from, to) = (self.clients.len(), self.clients.len() + count);
        let connected = (from..to).map(|number| connect(self.address, &room(number), number));
        self.clients.extend(connected);
        let is_asleep = || {
            let stats = &self.handle.stats().parties["relay"];
            stats.awake == 0 && stats.connections == to
        };
        let at_rest = at_rest(&HEAP, is_asleep);
        self.tokio.block_on(async { timeout(NEVER, at_rest).await.expect("it comes to rest") })
    }
}

/// What each client of the second group takes.
fn of_a_further_one(room: fn(usize) -> String) -> f64 {
    let mut house = House::open();
    let before = house.add(FIRST, room);
    let after = house.add(FURTHER, room);
    after.saturating_sub(before) as f64 / FURTHER as f64
}

/// The list of each loop has 512 places before and 1,024 after, so that places are counted, too.
const FIRST: usize = 1020;
const FURTHER: usize = 920;

/// One test, because all tests of this program share the heap.
#[test]
fn a_further_idle_connection_takes_little() {
    let each = of_a_further_one(|_| "a".to_owned());
    println!("a further idle connection: {each:.0} bytes of heap");
    assert!(each <= 230.0, "{each} bytes");
    let each = of_a_further_one(|number| format!("room-{number}"));
    println!("a further sleeping room with one connection: {each:.0} bytes of heap");
    assert!(each <= 460.0, "{each} bytes");
}
