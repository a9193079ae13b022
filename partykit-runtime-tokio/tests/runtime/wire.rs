//! What a transport could get wrong: long messages, ends, and clients that do not keep up.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use partykit_core::{Close, Connection, Message, Options, Result, Room, RoomPhase, Server};
use partykit_runtime_tokio::{Builder, Runtime};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, sync::Semaphore};
use tokio_tungstenite::tungstenite::{
    Message as Frame,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::support::{eventually, serve, within};

const MIB: usize = 1 << 20;

/// What the room's instances and the test both have.
#[derive(Default)]
struct Seen {
    closes: Mutex<Vec<(u16, String, bool)>>,
    handled: Mutex<Vec<String>>,
}

/// Sends what it gets to all, "close" excepted; takes a permit for each "wait".
struct Echo {
    seen: Arc<Seen>,
    permits: Arc<Semaphore>,
}

impl Server for Echo {
    fn options() -> Options {
        let options = Options::new().hibernate(true).hibernate_after(Duration::from_secs(3600));
        options.mailbox(4, 4 << 20)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some("close") => sender.close(4002, "enough")?,
            Some(text) if text.starts_with("wait") => {
                self.permits.acquire().await?.forget();
                let number = text.trim_end_matches('.').to_owned();
                self.seen.handled.lock().unwrap().push(number);
            }
            _ => room.broadcast(message).send(),
        }
        Ok(())
    }

    async fn on_close(&mut self, _: &Room, _: &Connection, close: Close) -> Result {
        let close = (close.code().into(), close.reason().to_owned(), close.is_clean());
        self.seen.closes.lock().unwrap().push(close);
        Ok(())
    }
}

fn echo() -> (Builder, Arc<Seen>, Arc<Semaphore>) {
    let (seen, permits) = (Arc::<Seen>::default(), Arc::new(Semaphore::new(0)));
    let (s, p) = (seen.clone(), permits.clone());
    let make = move |_: &_| Echo { seen: s.clone(), permits: p.clone() };
    (Runtime::builder().party_with("echo", make), seen, permits)
}

#[tokio::test]
async fn messages_arrive_whole_also_in_a_room_that_slept() {
    let (builder, ..) = echo();
    let site = serve(builder).await;
    let mut ada = site.connect("/parties/echo/a").await;
    let mut bob = site.connect("/parties/echo/a").await;
    let long: Vec<u8> = (0..MIB).map(|n| (n * 7 % 251) as u8).collect();
    for round in 0..3 {
        for message in [Frame::text("hello"), Frame::binary(vec![]), Frame::binary(long.clone())] {
            ada.send_message(message.clone()).await;
            for client in [&mut ada, &mut bob] {
                assert!(client.message().await == message, "round {round}");
            }
        }
        within(site.handle.evict("echo", "a")).await.unwrap();
        assert_eq!(site.handle.room_stats("echo", "a").unwrap().phase, RoomPhase::Asleep);
    }
    bob.send_message(Frame::binary(vec![0; MIB + 1])).await;
    assert_eq!(bob.closed().await.0, 1009);
    ada.send("are you well?").await;
    assert_eq!(ada.text().await, "are you well?");
}

#[tokio::test]
async fn codes_and_reasons_of_closes_arrive_at_the_other_end() {
    let (builder, seen, _) = echo();
    let site = serve(builder).await;
    let mut client = site.connect("/parties/echo/a").await;
    client.send("close").await;
    assert_eq!(client.closed().await, (4002, "enough".into()));

    let mut client = site.connect("/parties/echo/a").await;
    let close = CloseFrame { code: CloseCode::Library(4001), reason: "bye".into() };
    client.send_message(Frame::Close(Some(close))).await;
    assert_eq!(client.closed().await, (4001, "bye".into()));

    drop(site.connect("/parties/echo/a").await);
    eventually(|| seen.closes.lock().unwrap().len() == 3).await;
    let closes = seen.closes.lock().unwrap();
    assert_eq!(closes[..2], [(4002, "enough".into(), true), (4001, "bye".into(), true)]);
    assert_eq!((closes[2].0, closes[2].2), (1006, false));
}

#[tokio::test]
async fn a_room_that_does_not_keep_up_reads_no_further() {
    const MESSAGES: usize = 1000;
    let (builder, seen, permits) = echo();
    let site = serve(builder).await;
    let mut client = site.connect("/parties/echo/a").await;
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            client.send(&format!("wait {n}{}", ".".repeat(32 << 10))).await;
        }
        client
    });
    let stats = || site.handle.room_stats("echo", "a").unwrap();
    eventually(|| stats().mailbox == 4).await;
    assert!(stats().mailbox_bytes >= 4 * (32 << 10));
    assert!(!sending.is_finished(), "32 MB fit nowhere else");
    for n in 0..MESSAGES {
        permits.add_permits(1);
        eventually(|| seen.handled.lock().unwrap().len() > n).await;
        assert!(stats().mailbox <= 4);
    }
    let numbers = (0..MESSAGES).map(|n| format!("wait {n}"));
    assert!(seen.handled.lock().unwrap().iter().cloned().eq(numbers), "in order");
    drop(within(sending).await.unwrap());
}

#[tokio::test]
async fn a_client_that_does_not_keep_up_is_closed_and_the_others_are_not() {
    let (builder, ..) = echo();
    let site = serve(builder.max_outbound(256 * MIB, MIB)).await;
    let mut slow = site.connect("/parties/echo/a").await;
    let mut witness = site.connect("/parties/echo/a").await;
    let party = || site.handle.stats().parties["echo"].clone();
    let mut sent = 0;
    let mut most = 0;
    while party().slow_clients == 0 {
        assert!(sent < 1000, "nobody takes that much");
        let text = format!("{sent}{}", ".".repeat(64 << 10));
        site.handle.broadcast("echo", "a", text.clone()).unwrap();
        assert!(witness.text().await == text);
        most = most.max(party().outbound_bytes);
        sent += 1;
    }
    assert!((MIB / 2..2 * MIB).contains(&most), "{most} bytes waited for it");
    for _ in 0..10 {
        witness.send("still here").await;
        assert_eq!(witness.text().await, "still here");
    }
    let code = loop {
        match slow.closed_or_text().await {
            Ok((code, _)) => break code,
            Err(text) => assert!(text.ends_with('.')),
        }
    };
    assert_eq!(code, 1013);
    eventually(|| party().connections == 1).await;
    assert_eq!(site.handle.room_stats("echo", "a").unwrap().account.slow_clients, 1);
}

/// With TLS, the end of a stream without a goodbye is an error: somebody might have cut it off.
#[tokio::test]
async fn connections_end_with_a_goodbye() {
    let (builder, ..) = echo();
    let site = serve(builder).await;
    let mut stream = site.stream().await;
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", site.addr);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");

    let mut stream = site.stream().await;
    let handshake = format!(
        "GET /parties/echo/a HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        site.addr
    );
    stream.write_all(handshake.as_bytes()).await.unwrap();
    // A Close without a code, masked with zeros, right behind the handshake.
    stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.ends_with(b"\r\n\r\n\x88\x00"), "{answer:?}");
}

/// Handshakes in forms that no browser sends, and behind another request. A frame comes right behind each.
#[tokio::test]
async fn a_handshake_may_have_any_form() {
    let (builder, ..) = echo();
    let site = serve(builder).await;
    let head = |before: &str, target: &str, more: &str| {
        format!(
            "{before}GET {target} HTTP/1.1\r\nhost: {0}\r\nupgrade: websocket\r\n\
             connection: upgrade\r\nsec-websocket-version: 13\r\n{more}\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            site.addr
        )
    };
    let path = "/parties/echo/a";
    let whole = format!("http://{}{path}", site.addr);
    let other = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", site.addr);
    for sent in [
        head("", path, ""),
        head("\r\n", path, ""),
        head("", path, "content-length: 0\r\n"),
        head("", &whole, ""),
        head(&other, path, ""),
    ] {
        let mut stream = site.stream().await;
        // A Close without a code, masked with zeros.
        let sent = [sent.as_bytes(), &[0x88, 0x80, 0, 0, 0, 0]].concat();
        stream.write_all(&sent).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.ends_with(b"\r\n\r\n\x88\x00"), "{}", String::from_utf8_lossy(&answer));
    }
}
