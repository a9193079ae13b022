use std::sync::atomic::Ordering;

use bytes::Bytes;
use partykit_core::{Options, runtime::Socket as _};
use tokio::time::{Duration, Instant, advance, sleep};

use super::house::*;

const PING: [u8; 2] = [0x89, 0];

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_then_given_up_without_waking_the_room() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    let wakes = house.sleep().await;
    let begun = Instant::now();
    assert_eq!(guest.read(2).await, PING);
    assert!((30..=32).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(house.room.stats().account.wakes(), wakes);
    assert_eq!(house.closed().await, (1006, "the client does not answer".into(), false));
    assert!((60..=64).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(guest.read_to_end().await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_stays() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    let wakes = house.sleep().await;
    for _ in 0..20 {
        assert_eq!(guest.read(2).await, PING);
        guest.write(&frame(0x8a, b"")).await;
    }
    assert_eq!(house.room.stats().account.wakes(), wakes);
    assert!(house.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_speaks_is_not_pinged() {
    let house = House::new();
    let mut guest = house.connect().await;
    for _ in 0..20 {
        sleep(Duration::from_secs(20)).await;
        guest.write(&frame(0x81, b"x")).await;
        assert_eq!(guest.read(3).await, [0x81, 1, b'x']);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_answered_within_seconds() {
    let mut house = House::new();
    let mut alive = house.connect().await;
    let mut dead = house.connect().await;
    sleep(Duration::from_secs(10)).await;
    let begun = Instant::now();
    for guest in [&mut alive, &mut dead] {
        guest.link.probe();
        assert_eq!(guest.read(2).await, PING);
    }
    sleep(Duration::from_secs(4)).await;
    // Asking again gives no more time.
    dead.link.probe();
    alive.write(&frame(0x8a, b"")).await;
    assert_eq!(house.closed().await.0, 1006);
    assert!((5..=7).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    dead.task.await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert!(!alive.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_closed() {
    let mut house = House::new();
    let mut guest = house.connect_with(16, Bytes::new()).await;
    let begun = Instant::now();
    guest.write(&frame(0x81, b"burst 100")).await;
    assert_eq!(house.closed().await.0, 1013);
    assert!((15..=17).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(house.settings.slow_clients.load(Ordering::Relaxed), 1);
    guest.task.await.unwrap();
    assert!((18..=22).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_but_reads_is_not_stalled() {
    let house = House::new();
    let mut guest = house.connect_with(16, Bytes::new()).await;
    guest.write(&frame(0x81, b"burst 10")).await;
    for n in b'0'..=b'9' {
        sleep(Duration::from_secs(10)).await;
        // The keep-alive's ping waits behind them.
        assert_eq!(guest.read(3).await, [0x81, 1, n]);
        guest.write(&frame(0x8a, b"")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_has_to_end() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    let begun = Instant::now();
    guest.write(&frame(0x01, b"once upon a time")).await;
    let (read, mut write) = tokio::io::split(guest.io);
    // Pongs and pings in between do not buy time.
    let babble = tokio::spawn(async move {
        while tokio::io::AsyncWriteExt::write_all(&mut write, &frame(0x8a, b"")).await.is_ok() {
            sleep(Duration::from_secs(3)).await;
        }
    });
    assert_eq!(house.closed().await, (1008, "the message took too long".into(), false));
    assert!((30..=32).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    guest.task.await.unwrap();
    drop(read);
    babble.await.unwrap();
}

/// Every read ends in the middle of a message, but none takes long.
#[tokio::test(start_paused = true)]
async fn a_stream_of_messages_is_not_one_message() {
    let mut house = House::new();
    let mut guest = house.connect().await;
    let message = frame(0x82, b"x");
    guest.write(&message[..3]).await;
    for _ in 0..20 {
        sleep(Duration::from_secs(5)).await;
        guest.write(&[&message[3..], &message[..3]].concat()).await;
        assert_eq!(guest.read(3).await, [0x82, 1, b'x']);
    }
    assert!(house.is_quiet());
}

/// The room is busy and does not read from the client, so the client's silence says nothing.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_held_up_is_not_given_up() {
    let options = Options::new().mailbox(1, 1000).handler_timeout(Duration::from_secs(1000));
    let mut house = House::with(options, |_| {});
    let mut guest = house.connect().await;
    guest.write(&[frame(0x81, b"wait"), frame(0x81, b"b"), frame(0x81, b"c")].concat()).await;
    advance(Duration::from_secs(1)).await;
    sleep(Duration::from_secs(300)).await;
    assert!(house.is_quiet());
    house.shared.gate.add_permits(1);
    assert_eq!(guest.read(6).await, [0x81, 1, b'b', 0x81, 1, b'c']);
    let begun = Instant::now();
    assert_eq!(guest.read(2).await, PING);
    assert!((30..=32).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_gone_is_not_visited() {
    let mut house = House::new();
    let guest = house.connect().await;
    assert_eq!(house.settings.sweeper.scheduled(), 1);
    drop(guest.io);
    house.closed().await;
    guest.task.await.unwrap();
    drop(guest.link);
    house.sleep().await;
    assert_eq!(house.settings.sweeper.scheduled(), 0);
}
