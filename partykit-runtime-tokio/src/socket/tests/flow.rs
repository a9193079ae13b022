use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use partykit_core::{AwakeReason, Options, RoomPhase, runtime::Socket};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::house::*;

#[tokio::test]
async fn a_room_echoes_over_tcp() {
    let house = House::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    let (mut client, ..) = house.connect_over(ours, io, "/", Bytes::new()).await.client().await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let message = Frame::binary(vec![1; size]);
        client.send(message.clone()).await.unwrap();
        assert_eq!(hear(&mut client).await, message);
    }
}

#[tokio::test]
async fn a_message_in_pieces_arrives_whole() {
    let house = House::new();
    let mut guest = house.connect_with(1, Bytes::new()).await;
    let pieces = [frame(0x01, b"a"), frame(0x89, b"!"), frame(0x00, b"b"), frame(0x80, b"c")];
    guest.write(&pieces.concat()).await;
    assert_eq!(guest.read(8).await, [0x8a, 1, b'!', 0x81, 3, b'a', b'b', b'c']);
}

#[tokio::test]
async fn pings_and_the_auto_response_wake_nobody() {
    let options = Options::new().hibernate(true).auto_response("ping", "pong");
    let house = House::with(options, |_| {});
    let mut guest = house.connect().await;
    let wakes = house.sleep().await;
    guest.write(&frame(0x89, b"hello")).await;
    assert_eq!(guest.read(7).await, b"\x8a\x05hello");
    guest.write(&frame(0x81, b"ping")).await;
    assert_eq!(guest.read(6).await, b"\x81\x04pong");
    guest.write(&frame(0x8a, b"unasked")).await;
    guest.write(&frame(0x89, b"")).await;
    assert_eq!(guest.read(2).await, [0x8a, 0]);
    let stats = house.room.stats();
    assert_eq!((stats.phase, stats.account.wakes()), (RoomPhase::Asleep, wakes));
    // Only the exact text is the runtime's; anything else is the room's.
    for other in [frame(0x81, b"ping "), frame(0x82, b"ping")] {
        guest.write(&other).await;
        let length = other.len() - 4;
        assert_eq!(guest.read(length).await[2..], other[6..]);
    }
    assert_eq!(house.room.stats().account.wakes(), wakes + 1);
}

#[tokio::test]
async fn ten_thousand_messages_keep_their_order_through_a_narrow_stream() {
    let house = House::with(Options::new().mailbox(8, 1 << 20), |_| {});
    let (client, ..) = house.connect_with(7, Bytes::new()).await.client().await;
    let (mut sink, mut stream) = client.split();
    let sender = tokio::spawn(async move {
        for n in 0..10_000 {
            sink.feed(Frame::text(n.to_string())).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink
    });
    for n in 0..10_000 {
        assert_eq!(stream.next().await.unwrap().unwrap(), Frame::text(n.to_string()));
    }
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn a_busy_room_stops_the_reading_and_loses_nothing() {
    let house = House::with(Options::new().mailbox(4, 1 << 20), |_| {});
    let mut guest = house.connect_with(100, Bytes::new()).await;
    guest.write(&frame(0x81, b"wait")).await;
    eventually(|| matches!(house.room.stats().reasons[..], [AwakeReason::Handler(_), ..])).await;
    // One waits beside the four of the mailbox, the rest of what was read beside it.
    let messages = (0..50_u8).flat_map(|n| frame(0x82, &[n])).collect::<Vec<_>>();
    let (mut reader, mut writer) = tokio::io::split(guest.io);
    let writing = tokio::spawn(async move {
        writer.write_all(&messages).await.unwrap();
        writer
    });
    eventually(|| house.room.stats().mailbox == 4).await;
    tokio::task::yield_now().await;
    assert!(!writing.is_finished(), "the client is held up");
    assert_eq!(house.room.stats().mailbox, 4);

    // It cannot speak, but it can be spoken to.
    house.room.broadcast("meanwhile".into(), None).unwrap();
    let mut bytes = [0; 11];
    reader.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes[2..], *b"meanwhile");

    house.shared.gate.add_permits(1);
    for n in 0..50 {
        let mut frame = [0; 3];
        reader.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame, [0x82, 1, n]);
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_slow_client_is_closed_and_the_others_go_on() {
    let mut house = House::within(per_client(1 << 20), Options::new(), |_| {});
    let slow = house.connect_with(100_000, Bytes::new()).await;
    let (mut good, ..) = house.connect().await.client().await;
    for _ in 0..40 {
        say(&mut good, "shout").await;
        assert_eq!(hear(&mut good).await, Frame::binary(vec![7; 64 << 10]));
    }
    assert_eq!(house.closed().await, (1013, "the client is too far behind".into(), false));
    assert_eq!(house.settings.slow_clients.load(Ordering::Relaxed), 1);

    // It reads what was on its way, then why there is no more.
    let (mut slow, ..) = slow.client().await;
    let mut shouts = 0;
    let close = loop {
        match hear(&mut slow).await {
            Frame::Binary(_) => shouts += 1,
            Frame::Close(close) => break close.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((u16::from(close.code), shouts), (1013, 2));
    assert_eq!(house.room.stats().connections, 1);
}

#[tokio::test]
async fn one_message_may_be_longer_than_what_may_wait() {
    let house = House::within(per_client(1000), Options::new(), |_| {});
    let (mut client, ..) = house.connect_with(1000, Bytes::new()).await.client().await;
    say(&mut client, "shout").await;
    house.handled(1).await;
    house.room.broadcast("hi".into(), None).unwrap();
    assert_eq!(hear(&mut client).await, Frame::binary(vec![7; 64 << 10]));
    assert_eq!(hear(&mut client).await, Frame::text("hi"));
    say(&mut client, "still here").await;
    assert_eq!(hear(&mut client).await, Frame::text("still here"));
}

/// More than the queue holds in one turn, to a client that takes it.
#[tokio::test]
async fn a_burst_to_a_client_that_reads_is_not_slow() {
    let house = House::within(per_client(1000), Options::new(), |_| {});
    let (mut client, ..) = house.connect().await.client().await;
    say(&mut client, "burst 1000").await;
    for n in 0..1000 {
        assert_eq!(hear(&mut client).await, Frame::text(n.to_string()));
    }
}

#[tokio::test]
async fn what_is_said_in_one_turn_leaves_in_one_write() {
    let house = House::new();
    let (ours, io) = tokio::io::duplex(WIDE);
    let (ours, writes) = Counted::new(ours);
    let mut guest = house.connect_over(ours, io, "/", Bytes::new()).await;
    guest.write(&frame(0x81, b"burst 20")).await;
    guest.read(70).await;
    assert_eq!(writes.load(Ordering::Relaxed), 1);
}

/// A task may poll tokio's IO 128 times before it has to yield; a broadcast goes to more.
#[tokio::test]
async fn whoever_flushes_writes_to_every_socket_itself() {
    let house = House::new();
    let mut guests = Vec::new();
    for _ in 0..300 {
        guests.push(house.connect().await);
    }
    eventually(|| guests.iter().all(|guest| guest.link.is_up())).await;
    for guest in &guests {
        guest.link.answer(Bytes::from_static(b"\x81\x02hi"));
        guest.link.flush();
        assert!(!guest.link.is_queueing());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_between_threads() {
    let house = House::with(Options::new().mailbox(16, 1 << 20), |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut guests = Vec::new();
    for _ in 0..8 {
        let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        guests.push(house.connect_over(ours, io, "/", Bytes::new()).await);
    }
    let clients = guests.into_iter().map(|guest| {
        tokio::spawn(async move {
            let (mut client, ..) = guest.client().await;
            for n in 0..500 {
                for part in 0..4 {
                    client.feed(Frame::text(format!("{n} {part}"))).await.unwrap();
                }
                client.flush().await.unwrap();
                for part in 0..4 {
                    assert_eq!(hear(&mut client).await, Frame::text(format!("{n} {part}")));
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(60), client).await.unwrap().unwrap();
    }
}
