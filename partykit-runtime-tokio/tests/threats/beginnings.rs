use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use partykit_core::Response;
use partykit_runtime_tokio::{Builder, Runtime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::interval,
};

use crate::{
    support::{Answer, eventually, header, parse, read_to_end, serve, within},
    witness::{Echo, Witness},
};

/// A connection from another address of the loopback.
async fn connect_from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
    within(socket.connect(to)).await.unwrap()
}

/// Sends a byte now and then, and never says what it wants. Returns when it is hung up on.
async fn drip(mut stream: TcpStream) {
    let head = b"GET /parties/echo/a HTTP/1.1\r\nx-a: ".iter().chain(std::iter::repeat(&b'a'));
    let mut pace = interval(Duration::from_millis(50));
    let (mut reader, mut writer) = stream.split();
    let mut heard = Vec::new();
    let talk = async {
        for byte in head {
            pace.tick().await;
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = talk => {}
        _ = reader.read_to_end(&mut heard) => {}
    }
}

/// 200 at one address, of whom 8 have a place at a time: all are hung up on, and others are let in
/// meanwhile.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_01_slowloris() {
    let builder = Runtime::builder()
        .party::<Echo>("echo")
        .max_handshakes(64, 8)
        .handshake_timeout(Duration::from_millis(500));
    let site = serve(builder).await;
    let mut witness = Witness::of(&site).await;
    let slow = (0..200).map(|_| async { drip(connect_from("127.0.0.2", site.addr).await).await });
    let good = async {
        for _ in 0..20 {
            site.connect("/parties/echo/a").await.close().await;
        }
    };
    witness.during(within(async { tokio::join!(join_all(slow), good) })).await;
    witness.is_alone().await;
}

/// Half a request from each of this many clients at an address.
#[cfg(target_os = "linux")]
async fn half_requests(ip: &str, count: usize, to: SocketAddr) -> Vec<TcpStream> {
    let mut slow = Vec::new();
    for _ in 0..count {
        let mut stream = connect_from(ip, to).await;
        // Who came before may have been hung up on.
        let _ = stream.write_all(b"GET /parties/echo/b HTTP/1.1\r\nx: ").await;
        slow.push(stream);
    }
    slow
}

/// What one client at an address is answered.
#[cfg(target_os = "linux")]
async fn ask_from(ip: &str, to: SocketAddr, path: &str) -> Answer {
    let mut stream = connect_from(ip, to).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    parse(&read_to_end(&mut stream).await)
}

/// No client's time is ever over here, and there are many more half handshakes than places: all others
/// are let in at once, at the same addresses too.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_01_half_handshakes_make_nobody_wait() {
    outlast_half_handshakes(Runtime::builder().max_connections(200)).await;
}

/// The same where half handshakes may have all places: the oldest one goes because all places are taken.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_01_half_handshakes_in_all_places_make_nobody_wait() {
    outlast_half_handshakes(Runtime::builder().max_connections(200).max_handshakes(200, 200)).await;
}

#[cfg(target_os = "linux")]
async fn outlast_half_handshakes(builder: Builder) {
    let builder = builder.party::<Echo>("echo").handshake_timeout(Duration::from_secs(3600));
    let site = serve(builder).await;
    let mut witness = Witness::of(&site).await;
    let attack = async {
        let mut slow = half_requests("127.0.1.1", 200, site.addr).await;
        for n in 2..=35 {
            slow.extend(half_requests(&format!("127.0.1.{n}"), 10, site.addr).await);
        }
        slow
    };
    let slow = witness.during(attack).await;
    for round in 0..20 {
        site.connect("/parties/echo/a").await.close().await;
        for address in ["127.0.1.1", "127.0.1.7", "127.0.2.1"] {
            let answer = ask_from(address, site.addr, "/parties/echo/b").await;
            assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, "b"), "{round}");
        }
    }
    drop(slow);
    witness.is_alone().await;
}

/// A byte of a body takes a place as half a head does.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_01_idle_bodies_make_nobody_wait() {
    outlast_idle_bodies(Runtime::builder().max_connections(40)).await;
}

/// The same where idle bodies may have all places.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_01_idle_bodies_in_all_places_make_nobody_wait() {
    outlast_idle_bodies(Runtime::builder().max_connections(40).max_handshakes(40, 40)).await;
}

#[cfg(target_os = "linux")]
async fn outlast_idle_bodies(builder: Builder) {
    let site = serve(builder.party::<Echo>("echo")).await;
    let mut witness = Witness::of(&site).await;
    let attack = async {
        let mut idle = Vec::new();
        for _ in 0..120 {
            let mut stream = connect_from("127.0.1.1", site.addr).await;
            let head = "POST /parties/echo/b HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\nx";
            let _ = stream.write_all(head.as_bytes()).await;
            idle.push(stream);
        }
        idle
    };
    let idle = witness.during(attack).await;
    for address in ["127.0.1.1", "127.0.2.1"].repeat(10) {
        assert_eq!(ask_from(address, site.addr, "/parties/echo/b").await.status(), 200);
    }
    drop(idle);
    witness.is_alone().await;
}

/// Opens a WebSocket. `forwarded` is what a proxy says of its client. Whether the client is let in.
#[cfg(target_os = "linux")]
async fn open_from(ip: &str, to: SocketAddr, forwarded: Option<&str>) -> (TcpStream, bool) {
    let mut stream = connect_from(ip, to).await;
    let forwarded = forwarded.map(|it| format!("x-forwarded-for: {it}\r\n")).unwrap_or_default();
    let head = format!(
        "GET /parties/echo/idle HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\n\
         connection: upgrade\r\nsec-websocket-version: 13\r\n{forwarded}\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    within(stream.read_exact(&mut status)).await.unwrap();
    (stream, status == *b"HTTP/1.1 101")
}

/// Opens this many at an address; those that are let in.
#[cfg(target_os = "linux")]
async fn fill(ip: &str, count: usize, to: SocketAddr, forwarded: Option<&str>) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let (stream, is_open) = open_from(ip, to, forwarded).await;
        held.extend(is_open.then_some(stream));
    }
    held
}

/// One address keeps no more than its share when others come, and when there is space for nobody any more,
/// the server still answers what is for no room.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_15_one_address_cannot_have_all_places() {
    let health = async |_| Response::new("well".into());
    let builder = Runtime::builder().party::<Echo>("echo").fallback(health).max_connections(40);
    let site = serve(builder).await;
    let greedy = fill("127.0.1.1", 60, site.addr, None).await;
    assert_eq!(greedy.len(), 40, "all, as nobody else needs them");
    let mut witness = Witness::of(&site).await;
    witness.echo_ten().await;
    assert_eq!(ask_from("127.0.1.2", site.addr, "/parties/echo/b").await.body(), "b");
    let others = fill("127.0.1.3", 20, site.addr, None).await;
    assert_eq!(others.len(), 9, "a quarter, with the witness");
    let connections = || site.handle.stats().parties["echo"].connections;
    eventually(|| connections() == 40).await;
    for ip in ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.0.1"] {
        let refused = ask_from(ip, site.addr, "/parties/echo/b").await;
        assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, Some("5")));
        let answer = ask_from(ip, site.addr, "/health").await;
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, "well"), "{ip}");
    }
    assert_eq!(site.ask("echo", "b").await, "b", "through the handle");
    witness.echo_ten().await;
    drop((greedy, others));
    witness.is_alone().await;
}

/// A limit that was set holds, whether others need the places or not.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_15_a_limit_for_each_address_lends_nothing() {
    let builder = Runtime::builder()
        .party::<Echo>("echo")
        .max_connections(40)
        .max_connections_per_address(10);
    let site = serve(builder).await;
    assert_eq!(fill("127.0.1.1", 20, site.addr, None).await.len(), 10);
    let other = fill("127.0.1.2", 20, site.addr, None).await;
    assert_eq!(other.len(), 10);
}

/// A proxy that the runtime does not know is one address: all places are its clients'.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_thousand_clients_of_one_unknown_proxy_are_let_in() {
    let site = serve(Runtime::builder().party::<Echo>("echo").max_connections(1000)).await;
    let held = fill("127.0.0.1", 1000, site.addr, Some("203.0.113.7")).await;
    assert_eq!(held.len(), 1000);
    assert_eq!(site.handle.stats().parties["echo"].connections, 1000);
}

/// A proxy that is trusted has no share of its own: each of its clients has one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_15_a_client_of_a_proxy_cannot_keep_out_the_others() {
    let health = async |_| Response::new("well".into());
    let builder = Runtime::builder()
        .party::<Echo>("echo")
        .fallback(health)
        .trusted_proxies(["127.0.0.1"])
        .max_handshakes(1000, 2)
        .max_connections(200);
    let site = serve(builder).await;
    let greedy = fill("127.0.0.1", 220, site.addr, Some("203.0.113.7")).await;
    assert_eq!(greedy.len(), 199, "the last place is not lent");
    let mut good = Vec::new();
    for n in 0..50 {
        let client = format!("198.51.100.{n}");
        let (stream, is_open) = open_from("127.0.0.1", site.addr, Some(&client)).await;
        assert!(is_open, "{n}");
        good.push(stream);
    }
    let health = ask_from("127.0.0.1", site.addr, "/health").await;
    assert_eq!(health.body(), "well");
    let connections = || site.handle.stats().parties["echo"].connections;
    drop((greedy, good));
    eventually(|| connections() == 0).await;
    // Those that the proxy has not told about are not counted as one client.
    let slow = half_requests("127.0.0.1", 100, site.addr).await;
    let unnamed = fill("127.0.0.1", 90, site.addr, None).await;
    assert_eq!(unnamed.len(), 90);
    eventually(|| connections() == 90).await;
    let is_open = |stream: &TcpStream| {
        let read = stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(slow.iter().all(is_open), "two at an address would be too few");
}

/// 431 for each, and the connection ends: nobody reads on behind a head that has no end.
#[tokio::test]
async fn threat_01_long_heads_are_refused() {
    let site = serve(Runtime::builder().party::<Echo>("echo")).await;
    let mut witness = Witness::of(&site).await;
    let get = |headers: &str| {
        format!("GET /parties/echo/b HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}\r\n")
    };
    let headers = |count: usize, length: usize| -> String {
        (0..count).map(|n| format!("x-{n}: {}\r\n", "v".repeat(length))).collect()
    };
    for (request, status) in [
        (get(&headers(90, 100)), 200),
        (get(&headers(1, 17_000)), 431),
        (get(&headers(90, 300)), 431),
        (get(&headers(99, 1)), 431),
        (format!("GET /parties/echo/{} HTTP/1.1\r\nhost: h\r\n\r\n", "v".repeat(17_000)), 431),
        (format!("GET /parties/echo/b HTTP/1.1\r\n{}", "x".repeat(17_000)), 431),
    ] {
        let mut stream = TcpStream::connect(site.addr).await.unwrap();
        // It may have been refused before all of it was sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let answer = witness.during(read_to_end(&mut stream)).await;
        assert_eq!(parse(&answer).status().as_u16(), status, "{}", &request[..60]);
    }
    witness.is_alone().await;
}

#[tokio::test]
async fn threat_01_a_client_too_many_is_told_so() {
    let site = serve(Runtime::builder().party::<Echo>("echo").max_connections(2)).await;
    let mut witness = Witness::of(&site).await;
    let other = site.connect("/parties/echo/a").await;
    let refused = witness.during(site.get("/parties/echo/a")).await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, Some("5")));
    assert_eq!(site.try_connect("/parties/echo/a", &[]).await.err().unwrap().status(), 503);
    other.close().await;
    witness.is_alone().await;
    within(async { while site.get("/parties/echo/a").await.status() == 503 {} }).await;
}

/// The body of a request is awaited before any room knows of it.
#[tokio::test]
async fn threat_01_a_slow_body_keeps_no_room_awake() {
    let site = serve(Runtime::builder().party::<Echo>("echo")).await;
    let mut witness = Witness::of(&site).await;
    let begin = async {
        let mut streams = Vec::new();
        for _ in 0..100 {
            let mut stream = TcpStream::connect(site.addr).await.unwrap();
            let head = "POST /parties/echo/b HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\nx";
            stream.write_all(head.as_bytes()).await.unwrap();
            streams.push(stream);
        }
        streams
    };
    let streams = witness.during(begin).await;
    assert!(site.handle.room_stats("echo", "b").is_none());
    drop(streams);
    eventually(|| site.handle.room_stats("echo", "b").is_none()).await;
    witness.is_alone().await;
}
