//! Clients that read, at whatever speed, and clients that do not.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use partykit_core::{Options, runtime::Socket as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex},
    time::{Instant, Sleep, sleep},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message as Frame};

use super::house::*;
use crate::socket::OutboundLimits;

/// What a socket's buffer holds on its way over a wide area.
const BUFFER: usize = 128 << 10;

/// What one handler says: how many messages, of how many bytes.
const BURSTS: [(usize, usize); 4] = [(2000, 1000), (20, 100_000), (8, 1_000_000), (3, 8_000_000)];

/// A client's stream that gives this many bytes a second.
struct Paced {
    io: DuplexStream,
    per_second: u64,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        let pause = Duration::from_micros(1_000_000 * read / self.per_second);
        self.pause = (!pause.is_zero()).then(|| Box::pin(sleep(pause)));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The next message; pings may come in between.
async fn listen<I: AsyncRead + AsyncWrite + Unpin>(client: &mut WebSocketStream<I>) -> Frame {
    loop {
        match hear(client).await {
            Frame::Ping(_) => {}
            message => return message,
        }
    }
}

async fn reads_all_of_every_burst(per_second: u64) {
    for (count, size) in BURSTS {
        let mut house = House::new();
        let (ours, io) = duplex(BUFFER);
        let io = Paced { io, per_second, pause: None };
        let (mut client, link, _) =
            house.connect_over(ours, io, "/", Bytes::new()).await.client().await;
        say(&mut client, &format!("say {count} {size}")).await;
        for n in 0..count {
            assert!(listen(&mut client).await == Frame::text(numbered(n, size)), "{n} of {size}");
        }
        say(&mut client, "still here").await;
        assert_eq!(listen(&mut client).await, Frame::text("still here"));
        assert!(!link.is_queueing() && house.is_quiet());
        assert_eq!(house.settings.slow_clients.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_half_a_megabyte_a_second_gets_all_of_it() {
    reads_all_of_every_burst(500_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_5_megabytes_a_second_gets_all_of_it() {
    reads_all_of_every_burst(5_000_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_50_megabytes_a_second_gets_all_of_it() {
    reads_all_of_every_burst(50_000_000).await;
}

#[tokio::test]
async fn a_client_that_reads_as_fast_as_it_can_gets_all_of_it() {
    reads_all_of_every_burst(u64::MAX).await;
}

/// 1.5 KB a second is as slow as may be.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_very_slowly_gets_all_of_it() {
    let mut house = House::new();
    let (ours, io) = duplex(1000);
    let io = Paced { io, per_second: 1500, pause: None };
    let (mut client, ..) = house.connect_over(ours, io, "/", Bytes::new()).await.client().await;
    say(&mut client, "say 5 50000").await;
    for n in 0..5 {
        assert!(listen(&mut client).await == Frame::text(numbered(n, 50_000)));
    }
    assert!(house.is_quiet());
}

/// A trickle keeps much waiting only for the time that others have who take nothing.
#[tokio::test(start_paused = true)]
async fn a_client_that_takes_next_to_nothing_of_much_is_closed() {
    let mut house = House::new();
    let mut guest = house.connect_with(1000, Bytes::new()).await;
    guest.write(&frame(0x81, b"say 5 50000")).await;
    let begun = Instant::now();
    let trickle = tokio::spawn(async move {
        let mut byte = [0];
        while guest.io.read_exact(&mut byte).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(house.closed().await, (1013, "the client is too far behind".into(), false));
    assert!((15..=17).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    trickle.await.unwrap();
}

/// 120 MB in all, of which 1 MiB and an answer wait at most.
#[tokio::test(start_paused = true)]
async fn what_a_client_asks_for_does_not_pile_up() {
    let mut house = House::with(Options::new().mailbox(1000, 1 << 20), |_| {});
    let (ours, io) = duplex(BUFFER);
    let io = Paced { io, per_second: 5_000_000, pause: None };
    let (client, link, _) = house.connect_over(ours, io, "/", Bytes::new()).await.client().await;
    let (mut asks, mut reads) = client.split();
    let asking = tokio::spawn(async move {
        for _ in 0..60 {
            asks.send(Frame::text("say 2 1000000")).await.unwrap();
        }
        asks
    });
    let mut most = 0;
    for n in 0..120 {
        most = most.max(link.queued());
        let message = reads.next().await.unwrap().unwrap();
        assert!(message == Frame::text(numbered(n % 2, 1_000_000)), "{n}");
    }
    assert!((1 << 20..4 << 20).contains(&most), "{most} bytes waited");
    drop(asking.await.unwrap());
    assert!(house.is_quiet());
}

/// An auto-response is longer than what asks for it, and no room is asked: 30 MB, for a megabyte.
#[tokio::test(start_paused = true)]
async fn auto_responses_do_not_pile_up() {
    let answer = "pong".repeat(500);
    let options = Options::new().auto_response("?", &*answer);
    let house = House::with(options, |_| {});
    let mut guest = house.connect_with(BUFFER, Bytes::new()).await;
    let question = frame(0x81, b"?");
    let (mut reader, mut writer) = tokio::io::split(guest.io);
    let asking = tokio::spawn(async move {
        let asked = question.repeat(15_000);
        tokio::io::AsyncWriteExt::write_all(&mut writer, &asked).await
    });
    let mut most = 0;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        most = most.max(guest.link.queued());
    }
    assert!((1 << 20..2 << 20).contains(&most), "{most} bytes wait");
    let mut answers = vec![0; (4 + answer.len()) * 15_000];
    reader.read_exact(&mut answers).await.unwrap();
    assert!(answers.chunks(4 + answer.len()).all(|it| it.ends_with(answer.as_bytes())));
    asking.await.unwrap().unwrap();
    guest.link = guest.link.clone();
}

#[tokio::test(start_paused = true)]
async fn a_ping_a_close_and_their_answers_pass_by_a_client_that_has_to_read_first() {
    let mut house = House::new();
    let mut guest = house.connect_with(BUFFER, Bytes::new()).await;
    guest.write(&frame(0x81, b"say 3 1000000")).await;
    house.handled(1).await;
    // It is not the room's turn, but the client may always end it.
    guest.write(&close_frame(4000, "enough")).await;
    assert_eq!(house.closed().await, (4000, "enough".into(), true));
}

/// Small frames do not take more than their bytes, and large ones are there once.
#[tokio::test(start_paused = true)]
async fn what_waits_takes_little_more_than_its_bytes() {
    for size in [0, 1, 100, 200, 300, 10_000] {
        let house = House::new();
        let mut guests = Vec::new();
        for _ in 0..10 {
            guests.push(house.connect_with(64, Bytes::new()).await);
        }
        let message = "x".repeat(size);
        let mut said = 0;
        while said < 200_000 {
            house.room.broadcast(message.clone().into(), None).unwrap();
            said += size + 2;
            if said % 7 == 0 {
                eventually(|| guests[0].link.queued() + 64 >= said).await;
            }
        }
        eventually(|| guests.iter().all(|guest| guest.link.queued() >= said - 64)).await;
        let held = house.settings.outbound.held();
        let one = guests[0].link.queued();
        // A large frame is there once, and its place in each queue.
        let frames = said / (size + 2);
        let real = if size > 252 { one + 10 * 32 * frames } else { 10 * one };
        assert!(held >= real, "{size}: {held} counted, {real} are there");
        assert!(held <= real * 3 / 2, "{size}: {held} for {real}");
        drop(guests);
        eventually(|| house.settings.outbound.held() == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_client_may_not_have_more_than_its_limit() {
    for (size, limit) in [(1, 100_000), (1000, 1 << 20), (100_000, 1 << 20)] {
        let mut house = House::within(per_client(limit), Options::new(), |_| {});
        let guest = house.connect_with(64, Bytes::new()).await;
        let mut most = 0;
        let begun = Instant::now();
        while house.settings.slow_clients.load(Ordering::Relaxed) == 0 {
            house.room.broadcast("x".repeat(size).into(), None).unwrap();
            tokio::task::yield_now().await;
            most = most.max(guest.link.cost());
        }
        assert!((limit / 2..limit + 120_000).contains(&most), "{size}: {most}");
        assert_eq!(house.closed().await.0, 1013);
        assert!(begun.elapsed().as_secs() < 15, "the limit, not the time");
    }
}

/// Over the limit of all, the client that has taken nothing for longest goes first, and one that reads stays.
#[tokio::test(start_paused = true)]
async fn all_together_have_a_limit_and_the_longest_idle_go_first() {
    let limits = OutboundLimits { all: 4 << 20, per_client: 3 << 20 };
    let mut house = House::within(limits, Options::new(), |_| {});
    let mut deaf = Vec::new();
    // Each waits since another second.
    for n in 0..5 {
        let mut guest = house.connect_with(64, Bytes::new()).await;
        guest.write(&frame(0x81, format!("say 1 {}", 700_000 + n).as_bytes())).await;
        house.handled(n + 1).await;
        deaf.push(guest);
        sleep(Duration::from_secs(2)).await;
    }
    let (ours, io) = duplex(BUFFER);
    let io = Paced { io, per_second: 500_000, pause: None };
    let (mut reader, ..) = house.connect_over(ours, io, "/", Bytes::new()).await.client().await;
    assert!(house.is_quiet());
    say(&mut reader, "say 1 2000000").await;
    let reading = tokio::spawn(async move { (listen(&mut reader).await, reader) });
    assert_eq!(house.closed().await.0, 1013);
    let is_here = |guest: &Guest| guest.link.queued() > 100_000;
    eventually(|| house.settings.outbound.held() < 4 << 20).await;
    let here: Vec<_> = deaf.iter().map(is_here).collect();
    assert!(!here[0] && here[4], "the first was closed first: {here:?}");
    let (message, _reader) = reading.await.unwrap();
    assert_eq!(message, Frame::text(numbered(0, 2_000_000)));
}

/// Rooms wait for those who read, rather than to close them.
#[tokio::test(start_paused = true)]
async fn rooms_wait_while_too_much_waits_for_readers() {
    let limits = OutboundLimits { all: 4 << 20, per_client: 64 << 20 };
    let house = House::within(limits, Options::new(), |_| {});
    let outbound = house.settings.outbound.clone();
    let mut readers = Vec::new();
    for _ in 0..20 {
        let (ours, io) = duplex(BUFFER);
        let io = Paced { io, per_second: 5_000_000, pause: None };
        let (mut client, ..) = house.connect_over(ours, io, "/", Bytes::new()).await.client().await;
        readers.push(tokio::spawn(async move {
            say(&mut client, "say 1 1000000").await;
            assert!(listen(&mut client).await == Frame::text(numbered(0, 1_000_000)));
            client
        }));
    }
    let most = tokio::spawn(async move {
        let mut most = 0;
        for _ in 0..5_000 {
            most = outbound.held().max(most);
            sleep(Duration::from_millis(1)).await;
        }
        most
    });
    for reader in readers {
        reader.await.unwrap();
    }
    let most = most.await.unwrap();
    assert!((4 << 20..=5 << 20).contains(&most), "{most}");
    assert_eq!(house.settings.slow_clients.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn drained_waits_for_the_socket() {
    let house = House::new();
    let mut guest = house.connect_with(64, Bytes::new()).await;
    for n in 0..10 {
        guest.connection().send(numbered(n, 1000));
    }
    let connection = guest.connection();
    let over = Arc::new(AtomicBool::new(false));
    let flag = over.clone();
    let waiting = tokio::spawn(async move {
        connection.drained(5000).await;
        flag.store(true, Ordering::SeqCst);
        let left = connection.buffered();
        connection.drained(0).await;
        left
    });
    eventually(|| guest.link.queued() > 9000).await;
    guest.read(4000).await;
    assert!(!over.load(Ordering::SeqCst));
    guest.read(2000).await;
    eventually(|| over.load(Ordering::SeqCst)).await;
    guest.read(10_040 - 6000).await;
    let left = waiting.await.unwrap();
    assert!((3000..=5000).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn drained_ends_with_the_connection() {
    for closes in [true, false] {
        let house = House::new();
        let guest = house.connect_with(64, Bytes::new()).await;
        guest.connection().send(numbered(0, 1000));
        let connection = guest.connection();
        let waiting = tokio::spawn(async move { connection.drained(0).await });
        eventually(|| guest.link.queued() > 900).await;
        if closes {
            guest.connection().close(4000, "over").unwrap();
        } else {
            drop(guest.io);
        }
        waiting.await.unwrap();
    }
}

/// Who was given up reads the frame that had begun, then why there is no more, if it does so soon.
#[tokio::test(start_paused = true)]
async fn who_was_given_up_has_some_seconds_for_its_close() {
    for (wait, hears_it) in [(2, true), (6, false)] {
        let mut house = House::new();
        let mut guest = house.connect_with(1000, Bytes::new()).await;
        guest.write(&frame(0x81, b"say 3 50000")).await;
        assert_eq!(house.closed().await.0, 1013);
        sleep(Duration::from_secs(wait)).await;
        let said = guest.read_to_end().await;
        assert_eq!(said.ends_with(&server_close(1013, "the client is too far behind")), hears_it);
        // One message had begun.
        assert!(said.len() < 51_000, "{} bytes", said.len());
    }
}

/// It takes its last frame for longer than that, but it takes it.
#[tokio::test(start_paused = true)]
async fn who_was_given_up_and_reads_slowly_reads_its_close() {
    let mut house = House::within(per_client(100_000), Options::new(), |_| {});
    let (ours, io) = duplex(1000);
    let mut io = Paced { io, per_second: 10_000, pause: None };
    let guest = house.connect_over(
        ours,
        Paced { io: duplex(1).0, per_second: 1, pause: None },
        "/",
        Bytes::new(),
    );
    let guest = guest.await;
    guest.connection().send(numbered(0, 60_000));
    guest.connection().send(numbered(1, 60_000));
    guest.connection().send(numbered(2, 60_000));
    assert_eq!(house.closed().await.0, 1013);
    let mut said = Vec::new();
    io.read_to_end(&mut said).await.unwrap();
    assert!(
        said.ends_with(&server_close(1013, "the client is too far behind")),
        "{} bytes",
        said.len()
    );
}
