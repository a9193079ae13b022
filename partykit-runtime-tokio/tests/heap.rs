//! What clients can fill takes no more memory than its limit says, counted at the allocator. In a binary of
//! its own, and one after another: it is the whole process's memory that is counted.
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "runtime/support.rs"]
mod support;
#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "runtime/transport.rs"]
mod transport;

use std::sync::Arc;

use futures_util::future::join_all;
use partykit_core::{
    Admit, AwakeReason, Connection, Handler, Lobby, Message, Options, Request, Response, Result,
    Room, RoomStats, Server,
};
use partykit_runtime_tokio::Runtime;
use peak_alloc::PeakAlloc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
};

use support::{Site, eventually, parse, read_to_end, serve, within};

const TRANSPORT: transport::Transport = transport::Transport::Tcp;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

/// Lets nobody in, and handles nothing before it may.
struct Closed(Arc<Semaphore>);

impl Server for Closed {
    async fn on_before_request(request: Request, lobby: &Lobby) -> Result<Admit> {
        match lobby.id() {
            "forbidden" => Err("nobody".into()),
            _ => Ok(request.into()),
        }
    }

    async fn on_message(&mut self, _: &Room, _: &Connection, _: Message) -> Result {
        self.0.acquire().await?.forget();
        Ok(())
    }
}

/// Answers a megabyte to each request.
#[derive(Default)]
struct Large;

impl Server for Large {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(vec![b'x'; MIB].into()))
    }
}

#[derive(Default)]
struct Echo;

impl Server for Echo {
    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }
}

/// How much the heap grows at most while something is done, in bytes.
async fn growth(work: impl Future<Output = ()>) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    work.await;
    HEAP.peak_usage().saturating_sub(before)
}

#[tokio::test]
async fn what_clients_fill_stays_within_its_limits() {
    let may = Arc::new(Semaphore::new(0));
    let handled = may.clone();
    let options = Options::new().mailbox(100_000, 4 * MIB);
    let make = move |_: &_| Closed(handled.clone());
    let builder = Runtime::builder()
        .party_with_options("main", options, make)
        .party::<Echo>("echo")
        .party::<Large>("large")
        .max_outbound(16 * MIB, 16 * MIB)
        .max_inbound_memory(16 * MIB);
    let site = serve(builder).await;
    threat_02_a_body_in_small_chunks(&site).await;
    threat_02_bodies_of_many_clients(&site).await;
    threat_17_long_heads_that_wait(&site, &may).await;
    threat_02_half_messages_of_many_clients(&site).await;
    threat_17_messages_that_no_room_takes(&site, &may).await;
    threat_17_mailboxes_of_many_rooms(&site, &may).await;
    threat_07_connects_that_wait(&site, &may).await;
    threat_17_small_messages_that_wait(&site).await;
    threat_08_names_of_rooms_that_hold_nothing(&site).await;
    threat_06_answers_that_nobody_reads(&site).await;
}

/// 60 clients ask for a megabyte each and read nothing, where 16 may wait.
async fn threat_06_answers_that_nobody_reads(site: &Site) {
    const CLIENTS: usize = 60;
    let mut deaf = Vec::new();
    let grown = growth(async {
        for _ in 0..CLIENTS {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut stream = socket.connect(site.addr).await.unwrap();
            let request = "GET /parties/large/a HTTP/1.1\r\nhost: h\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            // The answer is there when its first byte is.
            let mut first = [0];
            within(stream.read_exact(&mut first)).await.unwrap();
            deaf.push(stream);
        }
        let answer = site.get("/parties/large/a").await;
        assert_eq!(answer.body().len(), MIB, "a client that reads gets it");
    })
    .await;
    println!("60 answers of 1 MiB that nobody reads, where 16 MiB may wait: {} KiB", grown / 1024);
    assert!(grown < 24 * MIB + CLIENTS * (24 << 10), "{grown} bytes");
    // The oldest one had to go: a reset, as not all of it was read.
    let mut rest = Vec::new();
    let first = within(deaf[0].read_to_end(&mut rest)).await;
    assert!(first.is_err() && rest.len() < MIB, "{first:?}, {} bytes", rest.len());
}

/// 3,000 names, each 900 bytes long. How many rooms there may be is `Builder::max_rooms`; this is what each
/// takes, and that nothing of it stays.
async fn threat_08_names_of_rooms_that_hold_nothing(site: &Site) {
    const NAMES: usize = 3000;
    let rooms = || site.handle.stats().parties["large"].rooms;
    let before = HEAP.current_usage();
    let grown = growth(async {
        for n in 0..NAMES {
            let name = format!("{n:0>900}");
            let request = format!(
                "HEAD /parties/large/{name} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
            );
            let mut stream = TcpStream::connect(site.addr).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(parse(&read_to_end(&mut stream).await).status(), 200);
        }
    })
    .await;
    eventually(|| rooms() == 0).await;
    let stays = HEAP.current_usage().saturating_sub(before);
    println!("3,000 names of rooms: {} KiB, of which {} stay", grown / 1024, stays / 1024);
    // The answers are of 1 MiB each.
    assert!(grown < 2 * MIB + NAMES * (4 << 10), "{grown} bytes");
    assert!(stays < MIB, "{stays} bytes");
}

/// 700 clients with heads of 14 KB want into a room that handles nothing. All mailboxes together may have
/// 8 MiB.
async fn threat_07_connects_that_wait(site: &Site, may: &Semaphore) {
    const CLIENTS: usize = 700;
    let mut blocker = site.connect("/parties/main/d").await;
    let stats = || site.handle.room_stats("main", "d").unwrap();
    blocker.send("wait").await;
    eventually(|| stats().mailbox == 0 && is_at_work(&stats())).await;
    let head: String =
        (0..90).map(|n| format!("x-header-{n:03}: {}\r\n", "v".repeat(140))).collect();
    let request = format!(
        "GET /parties/main/d HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\n\
         connection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{head}\r\n"
    );
    let mut clients = Vec::new();
    let grown = growth(async {
        for _ in 0..CLIENTS {
            let mut stream = TcpStream::connect(site.addr).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            clients.push(stream);
        }
        // The last one finds no space.
        let last = clients.last_mut().unwrap();
        assert_eq!(parse(&read_to_end(last).await).status(), 503);
    })
    .await;
    let waiting = stats();
    println!("{} connects with heads of 14 KB that wait: {} KiB", waiting.mailbox, grown / 1024);
    assert!((MIB..8 * MIB + 100_000).contains(&waiting.mailbox_bytes), "{waiting:?}");
    assert!(grown < 12 * MIB + CLIENTS * (24 << 10), "{grown} bytes");
    may.add_permits(10_000);
    eventually(|| stats().mailbox == 0).await;
    may.forget_permits(10_000);
}

/// 100 kB of chunks of a byte each. (Kept as they came, they would take 4 MB.)
async fn threat_02_a_body_in_small_chunks(site: &Site) {
    let grown = growth(async {
        let mut stream = chunked(site).await;
        send_chunks(&mut stream, 1, 100_000).await;
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        assert_eq!(parse(&read_to_end(&mut stream).await).status(), 500, "nobody is let in");
    })
    .await;
    println!("a body of 100 kB in chunks of a byte: {} KiB", grown / 1024);
    assert!(grown < MIB / 2, "{grown} bytes");
}

/// 20 clients with bodies of 2 MB each, where there is space for 8 of them.
async fn threat_02_bodies_of_many_clients(site: &Site) {
    let grown = growth(async {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut stream = chunked(site).await;
            send_chunks(&mut stream, 1000, 1900).await;
            clients.push(stream);
        }
        // The last one has its space.
        let mut last = clients.pop().unwrap();
        last.write_all(b"0\r\n\r\n").await.unwrap();
        assert_eq!(parse(&read_to_end(&mut last).await).status(), 500);
        // The first one had to go.
        assert_eq!(parse(&read_to_end(&mut clients[0]).await).status(), 503);
    })
    .await;
    println!("20 bodies of 2 MB where 16 MiB may be: {} KiB", grown / 1024);
    assert!(grown < 24 * MIB, "{grown} bytes");
}

/// 150 clients with half messages of 700 KB, of 1 MiB each, where there is space for 16 of them. A good client
/// at their address goes on.
async fn threat_02_half_messages_of_many_clients(site: &Site) {
    let half = message(MIB, 700_000);
    let fragment = [&[0x02], &message(700_000, 700_000)[1..]].concat();
    let connections = || site.handle.stats().parties["echo"].connections;
    for (half, kind) in [(half, "half frames"), (fragment, "fragments")] {
        let mut good = site.connect("/parties/echo/good").await;
        let mut clients = Vec::new();
        for _ in 0..150 {
            clients.push(site.connect("/parties/echo/a").await.into_raw());
        }
        let grown = growth(async {
            let send = async |client: &mut support::Stream| {
                // Who has to go is hung up on.
                let _ = client.write_all(&half).await;
            };
            let good = async {
                for n in 0..20 {
                    good.send(&n.to_string()).await;
                    assert_eq!(good.text().await, n.to_string());
                }
                let long = "x".repeat(200_000);
                good.send(&long).await;
                assert_eq!(good.text().await.len(), long.len());
            };
            tokio::join!(join_all(clients.iter_mut().map(send)), good);
            eventually(|| connections() <= 1 + 24).await;
        })
        .await;
        println!("150 {kind} of 700 kB where 16 MiB may be: {} KiB", grown / 1024);
        assert!(grown < 24 * MIB, "{grown} bytes");
        assert!(connections() > 1 + 4, "as many stay as have space: {}", connections());
        good.close().await;
        drop(clients);
        eventually(|| connections() == 0).await;
    }
}

/// Another client still gets its echoes, short and long.
async fn a_good_client_is_answered(site: &Site) {
    let mut good = site.connect("/parties/echo/good").await;
    for text in ["short", &"x".repeat(200_000)] {
        good.send(text).await;
        assert_eq!(good.text().await, text);
    }
    good.close().await;
}

/// 60 messages of 1 MB for a room that handles none of them, whose mailbox of 4 MiB has space for some.
async fn threat_17_messages_that_no_room_takes(site: &Site, may: &Semaphore) {
    let stats = || site.handle.room_stats("main", "c").unwrap();
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(site.connect("/parties/main/c").await.into_raw());
    }
    let long = message(1_000_000, 1_000_000);
    let grown = growth(async {
        let send = async |client: &mut support::Stream| {
            let _ = client.write_all(&long).await;
        };
        join_all(clients.iter_mut().map(send)).await;
        eventually(|| stats().mailbox_bytes > 3 * MIB).await;
        a_good_client_is_answered(site).await;
    })
    .await;
    println!(
        "60 messages of 1 MB for a room that takes 4 MiB, where 16 MiB may be: {} KiB",
        grown / 1024
    );
    assert!(grown < 24 * MIB + 4 * MIB, "{grown} bytes");
    may.add_permits(10_000);
    drop(clients);
    eventually(|| stats().connections == 0 && stats().mailbox == 0).await;
    may.forget_permits(10_000);
}

/// 25 rooms that handle nothing, each with 4 clients that say as much as they can. The mailboxes would take
/// 100 MiB.
async fn threat_17_mailboxes_of_many_rooms(site: &Site, may: &Semaphore) {
    const ROOMS: usize = 25;
    let name = |n: usize| format!("many{n}");
    let mut clients = Vec::new();
    for n in 0..4 * ROOMS {
        clients.push(site.connect(&format!("/parties/main/{}", name(n % ROOMS))).await.into_raw());
    }
    let flood = message(50_000, 50_000).repeat(30);
    let waiting = || {
        let stats = (0..ROOMS).filter_map(|n| site.handle.room_stats("main", &name(n)));
        stats.map(|stats| stats.mailbox_bytes).sum::<usize>()
    };
    let grown = growth(async {
        // As much as is taken.
        let floods = join_all(clients.iter_mut().map(|client| client.write_all(&flood)));
        tokio::select! {
            _ = floods => {}
            () = eventually(|| waiting() > 4 * MIB) => {}
        }
        eventually(|| waiting() > 4 * MIB).await;
        a_good_client_is_answered(site).await;
    })
    .await;
    println!("100 clients of 25 rooms with a mailbox of 4 MiB each: {} KiB", grown / 1024);
    println!("of it in mailboxes: {} KiB", waiting() / 1024);
    // Each room has 32 KiB that do not count, and one message at its handler.
    assert!(waiting() < 8 * MIB + ROOMS * (32 << 10) + MIB, "{} bytes", waiting());
    assert!(grown < 24 * MIB + ROOMS * 50_000, "{grown} bytes");
    may.add_permits(10_000);
    drop(clients);
    // What a client has sent is read to its end, also after the client is gone.
    let connected = || {
        let stats = (0..ROOMS).filter_map(|n| site.handle.room_stats("main", &name(n)));
        stats.map(|stats| stats.connections).sum::<usize>()
    };
    eventually(|| connected() == 0 && waiting() == 0).await;
    may.forget_permits(10_000);
}

/// Whether the room's handler waits with a message.
fn is_at_work(room: &RoomStats) -> bool {
    room.reasons.iter().any(|reason| matches!(reason, AwakeReason::Handler(Handler::OnMessage)))
}

/// The first bytes of a message of this length.
fn message(length: usize, sent: usize) -> Vec<u8> {
    let head = [&[0x82, 0xFF][..], &(length as u64).to_be_bytes(), &[0; 4]].concat();
    [head, vec![b'x'; sent]].concat()
}

/// Messages of a byte from 40 clients, for a room that handles none of them.
async fn threat_17_small_messages_that_wait(site: &Site) {
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(site.connect("/parties/main/a").await.into_raw());
    }
    let flood = [0x82, 0x81, 0, 0, 0, 0, b'x'].repeat(4096);
    let grown = growth(async {
        for client in &mut clients {
            // As much as fits: what the room does not take stays with the kernel.
            while let Ok(Ok(())) =
                tokio::time::timeout(std::time::Duration::from_millis(20), client.write_all(&flood))
                    .await
            {}
        }
        let stats = || site.handle.room_stats("main", "a").unwrap();
        eventually(|| stats().mailbox_bytes > 3 * MIB).await;
        assert!(stats().mailbox_bytes <= 4 * MIB);
    })
    .await;
    println!("a mailbox of 4 MiB full of messages of a byte: {} KiB", grown / 1024);
    // Each socket holds what it had read when the room took no more: 64 KiB.
    assert!(grown < 6 * MIB + clients.len() * (80 << 10), "{grown} bytes");
}

/// Requests with heads of 14 KB for a room that handles none of them.
async fn threat_17_long_heads_that_wait(site: &Site, may: &Semaphore) {
    let mut blocker = site.connect("/parties/main/b").await;
    blocker.send("wait").await;
    eventually(|| is_at_work(&site.handle.room_stats("main", "b").unwrap())).await;
    let head: String =
        (0..90).map(|n| format!("x-header-{n:03}: {}\r\n", "v".repeat(140))).collect();
    let request = format!("GET /parties/main/b HTTP/1.1\r\nhost: h\r\n{head}\r\n");
    let mut clients = Vec::new();
    let grown = growth(async {
        for _ in 0..120 {
            let mut stream = TcpStream::connect(site.addr).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            clients.push(stream);
        }
        let stats = || site.handle.room_stats("main", "b").unwrap();
        eventually(|| stats().mailbox_bytes > 4 * MIB - 100_000).await;
    })
    .await;
    let waiting = site.handle.room_stats("main", "b").unwrap().mailbox;
    println!("a mailbox of 4 MiB with {waiting} requests of 14 KB: {} KiB", grown / 1024);
    // A connection by itself takes up to 24 KiB, its read buffer of 16 KiB among them.
    assert!(grown < 4 * MIB * 9 / 8 * 3 / 2 + clients.len() * (24 << 10), "{grown} bytes");
    may.add_permits(1);
    eventually(|| site.handle.room_stats("main", "b").unwrap().mailbox == 0).await;
}

async fn chunked(site: &Site) -> TcpStream {
    let mut stream = TcpStream::connect(site.addr).await.unwrap();
    let head = "POST /parties/main/forbidden HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
        transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn send_chunks(stream: &mut TcpStream, size: usize, count: usize) {
    const ONCE: usize = 100;
    let chunk = [format!("{size:x}\r\n").as_bytes(), &b"x".repeat(size), b"\r\n"].concat();
    let chunks = chunk.repeat(ONCE);
    for _ in 0..count / ONCE {
        // Who has to go is hung up on.
        if stream.write_all(&chunks).await.is_err() {
            return;
        }
    }
}
