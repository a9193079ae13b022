//! What a handshake and an idle connection take from the allocator. The runtime runs on the test's own thread,
//! whose allocations are counted; the clients are on another thread.
#![cfg(target_os = "linux")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use allocation_counter::{AllocationInfo, measure};
use partykit_core::{Options, Server};
use partykit_runtime_tokio::Runtime;
use tokio::{net::TcpListener, runtime, sync::oneshot};

/// How many handshakes are measured. Tables grow now and then, so one alone says little.
const HANDSHAKES: usize = 200;

#[derive(Default)]
struct Quiet;

impl Server for Quiet {
    fn options() -> Options {
        Options::new().hibernate(true)
    }
}

/// One handshake, as a browser sends it.
fn connect(addr: SocketAddr, room: &str, id: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    let request = format!(
        "GET /parties/main/{room}?_pk=1b9d6bcd-bbfd-4b2d-{id} HTTP/1.1\r\nHost: {addr}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://{addr}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// What `HANDSHAKES` of them take, one after another, after as many that are not counted. `room` names the room
/// of each.
fn handshakes(room: fn(usize) -> String) -> AllocationInfo {
    let tokio = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (addr, _serving) = tokio.block_on(async {
        let runtime = Runtime::builder().party::<Quiet>("main").in_memory().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (addr, tokio::spawn(async move { runtime.serve_on(listener).await }))
    });
    let mut held = Vec::new();
    let mut round = |from: usize| {
        let (done, is_done) = oneshot::channel();
        let clients = thread::spawn(move || {
            let of = |id| connect(addr, &room(id), id);
            let _ = done.send((from..from + HANDSHAKES).map(of).collect::<Vec<_>>());
        });
        let counted = measure(|| held.push(tokio.block_on(is_done).unwrap()));
        clients.join().unwrap();
        counted
    };
    round(0);
    round(HANDSHAKES)
}

fn print(what: &str, counted: AllocationInfo) -> (u64, u64) {
    let handshakes = HANDSHAKES as u64;
    let (count, bytes) = (counted.count_total / handshakes, counted.bytes_total / handshakes);
    let left = counted.bytes_current / HANDSHAKES as i64;
    println!("{what}: {count} allocations, {bytes} bytes; {left} bytes stay");
    (count, bytes)
}

#[test]
fn a_handshake_takes_little() {
    let further = print("a further connection", handshakes(|_| "lobby".into()));
    let first = print("a new room", handshakes(|id| format!("room-{id}")));
    assert!(further.0 <= 46 && further.1 < 11_500, "{further:?}");
    assert!(first.0 <= 62 && first.1 < 17_000, "{first:?}");
}
