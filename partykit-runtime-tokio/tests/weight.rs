//! What a further idle connection takes of the heap, counted at the allocator. In a binary of its own, because
//! it is the whole process's memory that is counted.
#![cfg(target_os = "linux")]

mod upgraded;

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use partykit_core::{Connection, Message, Options, Result, Room, RoomPhase, Server};
use partykit_runtime_tokio::{Handle, Runtime, bind};
use peak_alloc::PeakAlloc;
use tokio::{task::yield_now, time::timeout};

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
fn connect(address: SocketAddr, number: usize) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(NEVER)).unwrap();
    let request = format!(
        "GET /parties/relay/a?_pk=client-number-{number:0>7} HTTP/1.1\r\nhost: h\r\n\
         upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    upgraded(stream, &request)
}

/// The heap's bytes when the room sleeps with this many connections, and nothing changes any more.
async fn at_rest(handle: &Handle, connections: usize) -> usize {
    let settled = async {
        let is_asleep = || {
            let stats = handle.room_stats("relay", "a").unwrap();
            stats.phase == RoomPhase::Asleep && stats.connections == connections
        };
        let (mut before, mut same) = (0, 0);
        while same < 2000 {
            yield_now().await;
            let now = HEAP.current_usage();
            same = if now == before && is_asleep() { same + 1 } else { 0 };
            before = now;
        }
        before
    };
    timeout(NEVER, settled).await.expect("the heap comes to rest")
}

#[test]
fn a_further_idle_connection_takes_little() {
    // Two loops: the list of each has 512 places before and 1,024 after, so that places are counted, too.
    const FIRST: usize = 1020;
    const FURTHER: usize = 920;
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (address, handle) = tokio.block_on(async {
        let runtime = Runtime::builder().party::<Relay>("relay").in_memory().build().unwrap();
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handle = runtime.handle();
        tokio::spawn(async move { runtime.serve_on(listener).await });
        (address, handle)
    });
    let mut clients: Vec<_> = (0..FIRST).map(|number| connect(address, number)).collect();
    clients.reserve_exact(FURTHER);
    let before = tokio.block_on(at_rest(&handle, FIRST));
    clients.extend((FIRST..FIRST + FURTHER).map(|number| connect(address, number)));
    let after = tokio.block_on(at_rest(&handle, FIRST + FURTHER));
    let each = after.saturating_sub(before) as f64 / FURTHER as f64;
    println!("a further idle connection: {each:.0} bytes of heap");
    assert!(each <= 230.0, "{each} bytes");
    drop(clients);
}
