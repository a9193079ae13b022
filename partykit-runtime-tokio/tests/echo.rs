//! What an echo, a wake and a broadcast take from the allocator. The runtime runs on the test's own thread, whose
//! allocations are counted; the clients are on another thread.
#![cfg(target_os = "linux")]

mod upgraded;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use allocation_counter::measure;
use partykit_core::{Connection, Message, Options, Result, Room, Server};
use partykit_runtime_tokio::{Handle, Runtime, bind};
use tokio::{runtime, sync::oneshot};

use upgraded::upgraded;

/// How often each thing is done before it is counted, and then while it is counted.
const ROUNDS: usize = 200;

/// The bytes of each message.
const PAYLOAD: usize = 64;

/// Clients that speak at once, and that hear a broadcast.
const CROWD: usize = 20;

/// Answers a text, and says a binary message to all others.
#[derive(Default)]
struct Talk;

impl Server for Talk {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        if message.is_text() {
            sender.send(message);
        } else {
            room.broadcast(message).except(sender).send();
        }
        Ok(())
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(addr: SocketAddr, room: &str, id: usize) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET /parties/main/{room}?_pk={id} HTTP/1.1\r\nHost: {addr}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Self(upgraded(stream, &request))
    }

    fn say(&mut self, opcode: u8) {
        let mask = [1, 2, 3, 4];
        let mut frame = [b'e'; 6 + PAYLOAD];
        (frame[0], frame[1]) = (0x80 | opcode, 0x80 | PAYLOAD as u8);
        frame[2..6].copy_from_slice(&mask);
        frame[6..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        self.0.write_all(&frame).unwrap();
    }

    fn hear(&mut self, opcode: u8) {
        let mut frame = [0; 2 + PAYLOAD];
        self.0.read_exact(&mut frame).unwrap();
        assert_eq!(frame[..2], [0x80 | opcode, PAYLOAD as u8]);
        assert!(frame[2..].iter().all(|byte| *byte == b'e'));
    }
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// A server on this thread.
struct House {
    tokio: runtime::Runtime,
    addr: SocketAddr,
    handle: Handle,
}

impl House {
    fn open() -> Self {
        let tokio = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (addr, handle) = tokio.block_on(async {
            let runtime = Runtime::builder().party::<Talk>("main").in_memory().build().unwrap();
            let listener = bind("127.0.0.1:0").await.unwrap();
            let (addr, handle) = (listener.local_addr().unwrap(), runtime.handle());
            tokio::spawn(async move { runtime.serve_on(listener).await });
            (addr, handle)
        });
        Self { tokio, addr, handle }
    }

    /// How often the server asks the allocator for memory until the clients, on another thread, are done.
    fn count<R: Send + 'static>(&self, clients: impl FnOnce() -> R + Send + 'static) -> (u64, R) {
        let (done, is_done) = oneshot::channel();
        let speaking = thread::spawn(move || {
            let result = clients();
            let _ = done.send(());
            result
        });
        let counted = measure(|| self.tokio.block_on(is_done).unwrap());
        (counted.count_total, speaking.join().unwrap())
    }
}

/// What a round takes that is done [`ROUNDS`] times.
fn allocations(clients: usize, round: fn(&mut [Client])) -> f64 {
    let house = House::open();
    let addr = house.addr;
    let rounds = move |mut crowd: Vec<Client>| {
        (0..ROUNDS).for_each(|_| round(&mut crowd));
        crowd
    };
    let connect = move || (0..clients).map(|id| Client::connect(addr, "lobby", id)).collect();
    let (_, crowd) = house.count(move || rounds(connect()));
    let (counted, _) = house.count(move || rounds(crowd));
    counted as f64 / ROUNDS as f64
}

/// The message itself is one.
#[test]
fn an_echo_takes_little() {
    let lone = allocations(1, |clients| {
        clients[0].say(TEXT);
        clients[0].hear(TEXT);
    });
    println!("an echo: {lone} allocations");
    assert!(lone < 1.25, "{lone}");
}

/// Its machine, its driver and its handle are made for the message.
#[test]
fn the_first_message_to_a_sleeping_room_takes_little() {
    let house = House::open();
    let addr = house.addr;
    let echoes = |mut rooms: Vec<Client>| {
        for client in &mut rooms {
            client.say(TEXT);
            client.hear(TEXT);
        }
        rooms
    };
    let sleep = || {
        house.tokio.block_on(async {
            for room in 0..CROWD {
                house.handle.evict("main", &format!("room-{room}")).await.unwrap();
            }
            // The rooms' tasks end.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(house.handle.stats().parties["main"].asleep, CROWD);
    };
    let connect = move |room| Client::connect(addr, &format!("room-{room}"), room);
    let (_, rooms) = house.count(move || echoes((0..CROWD).map(connect).collect()));
    sleep();
    let (_, rooms) = house.count(move || echoes(rooms));
    sleep();
    let (counted, _) = house.count(move || echoes(rooms));
    let each = counted as f64 / CROWD as f64;
    println!("the first message to a sleeping room: {each} allocations");
    assert!(each < 11.0, "{each}");
}

#[test]
fn echoes_of_many_at_once_take_as_little_each() {
    let each = allocations(CROWD, |clients| {
        clients.iter_mut().for_each(|client| client.say(TEXT));
        clients.iter_mut().for_each(|client| client.hear(TEXT));
    }) / CROWD as f64;
    println!("an echo of {CROWD} at once: {each} allocations");
    assert!(each < 1.25, "{each}");
}

/// The message, what all sockets share of it, its encoded form, and who is left out.
#[test]
fn a_broadcast_takes_as_little_for_many_as_for_one() {
    let broadcast = allocations(CROWD, |clients| {
        clients[0].say(BINARY);
        clients[1..].iter_mut().for_each(|client| client.hear(BINARY));
    });
    println!("a broadcast to {}: {broadcast} allocations", CROWD - 1);
    assert!(broadcast < 6.5, "{broadcast}");
}
