//! Sockets that loops run. That a task does the same for a client, the fuzz target `transports` shows.
#![cfg(unix)]

use std::time::Duration;

use partykit_core::{
    Options,
    runtime::{CloseReason, ConnectionKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::house::{House, eventually, frame, numbered};
use crate::socket::{
    Reactor,
    reactor::{TOGETHER, shared},
};

/// With loops.
fn house() -> House {
    let options = Options::new().hibernate(true).hibernate_after(Duration::ZERO);
    House::with(options, |settings| {
        settings.reactor = Some(Reactor::start(&settings.sweeper).unwrap());
    })
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    for stream in [&client, &ours] {
        stream.set_nodelay(true).unwrap();
    }
    (client, ours)
}

/// The operating system tells of both at once. A read of the message alone must not hide the end.
#[tokio::test]
async fn an_end_that_comes_with_the_last_message_is_heard() {
    let mut house = house();
    let (mut client, ours) = pair().await;
    client.write_all(&frame(0x81, b"the last one")).await.unwrap();
    client.shutdown().await.unwrap();
    house.open_tcp(ours).await;
    let (code, reason, _) = house.closed().await;
    let close = CloseReason::HungUp.close();
    assert_eq!((code, &*reason), (1006, close.reason()));
    house.handled(1).await;
}

/// Short messages are written without a queue, as long as the socket takes them whole.
#[tokio::test]
async fn what_a_socket_takes_only_in_parts_comes_whole_and_in_order() {
    const TOGETHER: usize = 30;
    let house = house();
    let (mut client, ours) = pair().await;
    for stream in [&client, &ours] {
        let socket = socket2::SockRef::from(stream);
        socket.set_send_buffer_size(5000).unwrap();
        socket.set_recv_buffer_size(5000).unwrap();
    }
    let (link, key) = house.admit("guest").await;
    let reactor = house.settings.reactor.as_ref().unwrap();
    house.open_on(reactor, 0, ours, (link.clone(), key));
    let question = frame(0x81, format!("say {TOGETHER} 100").as_bytes());
    let mut asked = 0;
    while !link.is_queueing() {
        asked += 1;
        assert!(asked < 10_000, "the socket takes everything");
        client.write_all(&question).await.unwrap();
        house.handled(asked).await;
    }
    for number in (0..asked).flat_map(|_| 0..TOGETHER) {
        let mut message = [0; 102];
        client.read_exact(&mut message).await.unwrap();
        assert_eq!(message[..2], [0x81, 100]);
        assert_eq!(std::str::from_utf8(&message[2..]), Ok(&*numbered(number, 100)));
    }
    eventually(|| !link.is_queueing()).await;
}

/// The loop ends with the last handle of the reactor and the last socket.
#[tokio::test]
async fn no_loop_is_left_without_handles_and_sockets() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut house = house();
    let (client, ours) = pair().await;
    house.open_tcp(ours).await;
    drop(client);
    house.closed().await;
    drop(house);
    eventually(|| tasks() == 0).await;
}

/// How many loops go to other tasks, and when, depends on the threads and on the time. Here there is one thread,
/// and never time.
#[tokio::test]
async fn loops_that_have_too_much_to_do_are_given_to_other_tasks_and_come_back() {
    const LOOPS: usize = 3;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let options = Options::new().hibernate(true).hibernate_after(Duration::ZERO);
    let house = House::with(options, |settings| {
        let started = Reactor::start_with(&settings.sweeper, LOOPS, Duration::ZERO);
        settings.reactor = Some(started.unwrap());
    });
    let reactor = house.settings.reactor.clone().unwrap();
    let (mut clients, mut sockets) = (Vec::new(), Vec::new());
    for id in 0..60 {
        let (mut client, ours) = pair().await;
        client.write_all(&frame(0x81, b"early")).await.unwrap();
        sockets.push((ours, house.admit(&id.to_string()).await));
        clients.push(client);
    }
    house.room.hibernate().await.unwrap();
    let calm = tasks();
    for (number, (socket, connection)) in sockets.into_iter().enumerate() {
        house.open_on(&reactor, number, socket, connection);
    }
    tokio::task::yield_now().await;
    assert!(tasks() >= calm + LOOPS - 1, "one loop stays");
    house.handled(clients.len()).await;
    house.room.hibernate().await.unwrap();
    eventually(|| tasks() == calm).await;
    // Those that came back are run again.
    for client in &mut clients {
        client.write_all(&frame(0x81, b"late")).await.unwrap();
    }
    house.handled(2 * clients.len()).await;
    drop((clients, reactor, house));
    eventually(|| tasks() == 0).await;
}

#[tokio::test]
async fn connections_that_come_one_after_another_share_a_loop() {
    let house = House::new();
    let number = |order| shared(&house.room, ConnectionKey::new(order));
    assert_eq!(number(0), number(TOGETHER - 1));
    assert_eq!(number(0) + 1, number(TOGETHER), "a large room has all loops");
    // Rooms are at different addresses, so some of them are on different loops.
    let houses: Vec<_> = (0..64).map(|_| House::new()).collect();
    let on_first = |house: &&House| shared(&house.room, ConnectionKey::new(0)).is_multiple_of(2);
    assert!((1..64).contains(&houses.iter().filter(on_first).count()));
}
