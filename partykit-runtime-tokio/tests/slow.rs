//! Clients that read and clients that do not, over real connections and with the heap counted. In a
//! binary of its own, and one after another: it is the whole process's memory that is counted.

mod in_process;

use std::{
    io,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use partykit_core::{Connection, Message, Result, Room, Server};
use partykit_runtime_tokio::{Builder, Handle, Runtime};
use peak_alloc::PeakAlloc;
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::sleep,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message as Frame};

use in_process::Within;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Says as many messages of a size as it is told.
#[derive(Default)]
struct Burst;

impl Server for Burst {
    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        let (count, size) = message.as_text().and_then(|it| it.split_once(' ')).ok_or("numbers")?;
        for n in 0..count.parse::<usize>()? {
            sender.send(numbered(n, size.parse()?));
        }
        Ok(())
    }
}

fn numbered(number: usize, size: usize) -> String {
    format!("{number:0>4}{}", ".".repeat(size - 4))
}

fn builder() -> Builder {
    Runtime::builder().party::<Burst>("main").in_memory().max_handshakes(10_000, 10_000)
}

async fn connect<I: AsyncRead + AsyncWrite + Unpin>(io: I) -> WebSocketStream<I> {
    client_async("ws://localhost/parties/main/room", io).await.unwrap().0
}

fn given_up(handle: &Handle) -> u64 {
    handle.stats().parties["main"].slow_clients
}

/// What this many clients, which read nothing, let wait of messages of this size, at most.
async fn most_that_waits(clients: usize, size: usize, limit: usize) -> usize {
    let runtime = builder().max_outbound(limit, limit / 4).build().unwrap();
    let handle = runtime.handle();
    let (knock, door) = mpsc::channel(1);
    tokio::spawn(async move { runtime.serve_on(Within(door)).await });
    let mut deaf = Vec::new();
    for _ in 0..clients {
        let (ours, theirs) = duplex(256);
        knock.send(theirs).await.unwrap();
        deaf.push(connect(ours).await);
    }
    let message = "x".repeat(size);
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    // A second's messages are a tenth of the limit, as far as they are copied.
    let of_one = if size > 250 { 32 } else { size + 2 };
    let count = limit / 10 / (clients * of_one) + limit / 10 / (clients * (size + 2)) + 1;
    let mut seconds = 0;
    while given_up(&handle) < clients as u64 {
        for n in 0..count {
            handle.broadcast("main", "room", message.clone()).unwrap();
            if n % 8 == 0 {
                tokio::task::yield_now().await;
            }
        }
        sleep(Duration::from_secs(1)).await;
        seconds += 1;
        assert!(seconds < 30, "{} of {clients} were given up", given_up(&handle));
    }
    let grown = HEAP.peak_usage().saturating_sub(before);
    println!("{clients} clients, {size} bytes: {} KiB, {seconds} s", grown / 1024);
    drop(deaf);
    handle.shutdown().await;
    grown
}

#[tokio::test(start_paused = true)]
async fn threat_06_deaf_clients_take_no_more_memory_than_they_may() {
    for (clients, limit) in [(250, 2 << 20), (2000, 6 << 20)] {
        for size in [1, 100, 10_000] {
            let grown = most_that_waits(clients, size, limit).await;
            assert!(grown <= limit / 2 * 3, "{clients} clients, {size}: {grown} of {limit}");
        }
    }
    readers_get_all_of_every_burst().await;
    threat_06_who_is_given_up_is_reset().await;
}

/// A listener whose connections have a send buffer as on their way over a wide area.
async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    #[cfg(unix)]
    socket2::SockRef::from(&listener).set_send_buffer_size(64 << 10).unwrap();
    listener
}

/// In time that is real.
async fn readers_get_all_of_every_burst() {
    tokio::time::resume();
    let runtime = builder().build().unwrap();
    let handle = runtime.handle();
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { runtime.serve_on(listener).await });
    let mut client = connect(TcpStream::connect(address).await.unwrap()).await;
    for (count, size) in [(2000, 1000), (20, 100_000), (8, 1_000_000), (3, 8_000_000)] {
        client.send(Frame::text(format!("{count} {size}"))).await.unwrap();
        for n in 0..count {
            let message = client.next().await.unwrap().unwrap();
            assert!(message == Frame::text(numbered(n, size)), "{n} of {size}");
        }
    }
    assert_eq!(given_up(&handle), 0);
}

/// Nothing is kept in the kernel for who does not even take its Close.
async fn threat_06_who_is_given_up_is_reset() {
    let runtime = builder().max_outbound(256 << 20, 1 << 20).build().unwrap();
    let handle = runtime.handle();
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { runtime.serve_on(listener).await });
    let deaf = connect(TcpStream::connect(address).await.unwrap()).await;
    while given_up(&handle) == 0 {
        handle.broadcast("main", "room", "x".repeat(100_000)).unwrap();
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let error = loop {
        if let Some(error) = deaf.get_ref().take_error().unwrap() {
            break error;
        }
        assert!(begun.elapsed().as_secs() < 60, "it was never reset");
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
