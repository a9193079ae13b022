use bytes::Bytes;
use partykit_core::Options;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::house::*;

#[tokio::test]
async fn a_close_is_echoed_with_its_code_and_reason() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    guest.write(&close_frame(4321, "bye")).await;
    assert_eq!(guest.read(7).await, server_close(4321, "bye"));
    // The room hears of it although the client has not hung up.
    assert_eq!(house.closed().await, (4321, "bye".into(), true));
    assert_eq!(guest.read_to_end().await, b"");
    drop(guest.io);
    guest.task.await.unwrap();
    house.sleep().await;
    assert!(house.is_quiet());
}

#[tokio::test]
async fn a_close_without_a_code_is_echoed_without_one() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    guest.write(&frame(0x88, b"")).await;
    assert_eq!(guest.read(2).await, [0x88, 0]);
    assert_eq!(house.closed().await, (1005, String::new(), true));
}

#[tokio::test]
async fn a_close_that_came_with_the_handshake_is_answered() {
    let mut house = House::new();
    let early = [frame(0x81, b"hi"), close_frame(1000, "")].concat();
    let mut guest = house.connect_with(WIDE, early.into()).await;
    assert_eq!(guest.read_to_end().await, server_close(1000, ""));
    assert_eq!(house.closed().await, (1000, String::new(), true));
    assert_eq!(*house.shared.handled.lock().unwrap(), 1);
}

#[tokio::test]
async fn what_a_client_said_before_it_did_wrong_is_answered_first() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    let wrong = [frame(0x81, b"wait"), frame(0x81, b"hi"), frame(0x83, b""), frame(0x81, b"no")];
    guest.write(&wrong.concat()).await;
    house.shared.gate.add_permits(1);
    let answer = [&[0x81, 2, b'h', b'i'], &server_close(1002, "an unknown opcode")[..]].concat();
    assert_eq!(guest.read_to_end().await, answer);
    assert_eq!(house.closed().await, (1002, "an unknown opcode".into(), false));
    assert_eq!(*house.shared.handled.lock().unwrap(), 2);
}

#[tokio::test]
async fn who_does_wrong_waits_for_nobody_else() {
    let mut house = House::new();
    let (mut busy, mut guest) = (house.connect().await, house.connect().await);
    busy.write(&frame(0x81, b"wait")).await;
    eventually(|| house.room.stats().mailbox == 0 && !house.room.stats().reasons.is_empty()).await;
    guest.write(&frame(0x83, b"")).await;
    assert_eq!(guest.read_to_end().await, server_close(1002, "an unknown opcode"));
    house.shared.gate.add_permits(1);
    assert_eq!(house.closed().await, (1002, "an unknown opcode".into(), false));
}

#[tokio::test]
async fn what_a_client_does_wrong_it_is_told() {
    let small = Options::new().hibernate(true).max_message(100);
    for (bytes, code) in [
        (vec![0x81, 1, b'x'], 1002),
        (frame(0x83, b""), 1002),
        (close_frame(1005, ""), 1002),
        (frame(0x81, b"\xff"), 1007),
        (frame(0x81, &[b'x'; 101]), 1009),
        ([frame(0x01, b""), frame(0x00, b"").repeat(16_384)].concat(), 1008),
    ] {
        let mut house = House::with(small.clone(), |_| {});
        let mut guest = house.connect().await;
        guest.write(&bytes).await;
        guest.write(b"and more that comes too late").await;
        let told = guest.read_to_end().await;
        assert_eq!((told[0], &told[2..4]), (0x88, &u16::to_be_bytes(code)[..]), "{code}");
        let (seen, _, clean) = house.closed().await;
        assert_eq!((seen, clean), (code, false));
    }
}

/// Over real TCP a socket that is dropped with unread input is reset, and the Close is lost.
#[tokio::test]
async fn a_client_that_sends_on_still_reads_its_close() {
    let mut house = House::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    let mut guest = house.connect_over(ours, io, "/", Bytes::new()).await;
    guest.write(&[0x83; 100]).await;
    guest.write(&vec![0; 300_000]).await;
    let told = guest.read_to_end().await;
    assert_eq!(told[2..4], [0x03, 0xea]);
    assert_eq!(house.closed().await.0, 1002);
}

#[tokio::test]
async fn the_servers_close_leaves_behind_what_it_said_and_ends_with_the_clients() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    guest.write(&[frame(0x81, b"a"), frame(0x81, b"close")].concat()).await;
    let said = [&[0x81, 1, b'a'][..], &server_close(4001, "enough")].concat();
    assert_eq!(guest.read(said.len()).await, said);
    assert!(house.is_quiet());
    guest.write(&frame(0x89, b"?")).await;
    guest.write(&close_frame(4002, "fine")).await;
    assert_eq!(house.closed().await, (4002, "fine".into(), true));
    assert_eq!(guest.read_to_end().await, b"", "nothing comes after a Close");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_answers_a_close_is_given_up() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    let begun = Instant::now();
    guest.write(&frame(0x81, b"close")).await;
    assert_eq!(house.closed().await, (4001, "enough".into(), false));
    assert!((10..=12).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    guest.task.await.unwrap();
    assert_eq!(guest.io.read_to_end(&mut Vec::new()).await.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_hang_up_is_hung_up_on() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    let begun = Instant::now();
    guest.write(&close_frame(1000, "")).await;
    assert_eq!(house.closed().await.0, 1000);
    guest.task.await.unwrap();
    assert!((1..=3).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_vanishes_is_1006_once() {
    let mut house = House::new();
    let guest = house.connect().await;
    drop(guest.io);
    let (code, _, clean) = house.closed().await;
    assert_eq!((code, clean), (1006, false));
    guest.task.await.unwrap();
    house.sleep().await;
    assert!(house.is_quiet());
}

#[tokio::test]
async fn a_task_that_is_aborted_is_1006() {
    let mut house = House::new();
    let guest = house.connect().await;
    guest.task.abort();
    assert_eq!(house.closed().await.0, 1006);
}

/// The client's stream ends while frames wait for it, and its Close can still be read.
#[tokio::test]
async fn a_close_is_read_although_nothing_can_be_written() {
    let mut house = House::new();
    let mut guest = house.connect_with(64, Bytes::new()).await;
    guest.write(&frame(0x81, b"burst 100")).await;
    house.handled(1).await;
    guest.write(&close_frame(1001, "")).await;
    drop(guest.io);
    assert_eq!(house.closed().await, (1001, String::new(), true));
}

#[tokio::test]
async fn a_frame_that_is_begun_is_finished_before_the_echo() {
    // Ten frames of 3 bytes and one of 4 fit into 34 bytes; the next begins in the 35th.
    for (capacity, finished) in [(34, 11), (35, 12)] {
        let mut house = House::new();
        let mut guest = house.connect_with(capacity, Bytes::new()).await;
        guest.write(&frame(0x81, b"burst 100")).await;
        house.handled(1).await;
        guest.write(&close_frame(4321, "bye")).await;
        assert_eq!(house.closed().await.0, 4321);
        let (mut client, ..) = guest.client().await;
        for n in 0..finished {
            assert_eq!(hear(&mut client).await, Frame::text(n.to_string()));
        }
        let Frame::Close(Some(close)) = hear(&mut client).await else { panic!("no Close") };
        assert_eq!(u16::from(close.code), 4321);
    }
}

/// Its answer is behind messages that are dropped by then.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_held_up_can_be_closed() {
    let house = House::with(Options::new().mailbox(1, 1000), |_| {});
    let mut guest = house.connect().await;
    guest.write(&[frame(0x81, b"wait"), frame(0x81, b"b").repeat(50)].concat()).await;
    eventually(|| house.room.stats().mailbox == 1).await;
    let begun = Instant::now();
    guest.connection().close(4001, "enough").unwrap();
    assert_eq!(guest.read(10).await, server_close(4001, "enough"));
    guest.write(&close_frame(4001, "")).await;
    assert_eq!(guest.read_to_end().await, b"");
    assert!(begun.elapsed().as_secs() < 5, "its answer was not read");
    assert_eq!(house.room.stats().mailbox, 2, "one message, and the close");
    house.shared.gate.add_permits(1);
}

#[tokio::test]
async fn a_refused_connect_is_told_and_has_no_on_close() {
    let mut house = House::new();
    let (ours, io) = tokio::io::duplex(WIDE);
    let mut guest = house.connect_over(ours, io, "/refuse", Bytes::new()).await;
    let told = guest.read_to_end().await;
    assert_eq!((told[0], &told[2..4]), (0x88, &1011_u16.to_be_bytes()[..]));
    drop(guest.io);
    guest.task.await.unwrap();
    house.sleep().await;
    assert!(house.is_quiet());
}

/// What is sent with the handshake may be more than what may wait later.
#[tokio::test]
async fn a_long_greeting_makes_no_client_slow() {
    let house = House::new();
    let (ours, io) = tokio::io::duplex(4096);
    let guest = house.connect_over(ours, io, "/greet", Bytes::new()).await;
    let (mut client, ..) = guest.client().await;
    for n in 0..30 {
        assert_eq!(hear(&mut client).await, Frame::text(n.to_string().repeat(50_000)));
    }
}

#[tokio::test(start_paused = true)]
async fn behind_a_long_greeting_no_more_waits_than_otherwise() {
    let mut house = House::within(per_client(4000), Options::new(), |_| {});
    let (ours, io) = tokio::io::duplex(4096);
    let guest = house.connect_over(ours, io, "/greet", Bytes::new()).await;
    eventually(|| guest.link.is_up()).await;
    let begun = Instant::now();
    house.room.broadcast(vec![0; 6000].into(), None).unwrap();
    assert_eq!(house.closed().await.0, 1013);
    assert!(begun.elapsed().as_secs() < 5, "it was closed for taking nothing");
}
