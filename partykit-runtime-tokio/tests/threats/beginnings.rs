use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use partykit_runtime_tokio::Runtime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::interval,
};

use crate::{
    support::{eventually, header, parse, read_to_end, serve, within},
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

/// 200 at one address, of whom 8 have their turn: all are hung up on, those who wait too, and others are
/// let in meanwhile.
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
    // Those of that address who know what they want are let in again.
    let mut late = connect_from("127.0.0.2", site.addr).await;
    late.write_all(b"GET /parties/echo/b HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(parse(&read_to_end(&mut late).await).body(), "b");
}

/// Nobody's time is over here: others are let in although an address takes up all that it may.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threat_01_an_address_keeps_only_itself_waiting() {
    let builder = Runtime::builder()
        .party::<Echo>("echo")
        .max_handshakes(9, 8)
        .handshake_timeout(Duration::from_secs(3600));
    let site = serve(builder).await;
    let mut witness = Witness::of(&site).await;
    let slow = witness
        .during(async {
            let mut slow = Vec::new();
            for _ in 0..100 {
                let mut stream = connect_from("127.0.0.2", site.addr).await;
                stream.write_all(b"GET /").await.unwrap();
                slow.push(stream);
            }
            slow
        })
        .await;
    for _ in 0..20 {
        site.connect("/parties/echo/a").await.close().await;
    }
    drop(slow);
    witness.is_alone().await;
}

#[tokio::test]
async fn threat_01_a_client_too_many_is_told_so() {
    let site = serve(Runtime::builder().party::<Echo>("echo").max_connections(2)).await;
    let mut witness = Witness::of(&site).await;
    let other = site.connect("/parties/echo/a").await;
    let refused = witness.during(site.raw(b"")).await;
    let refused = parse(&refused);
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, Some("5")));
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
