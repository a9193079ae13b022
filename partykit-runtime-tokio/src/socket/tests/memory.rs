use std::mem::size_of_val;

use bytes::Bytes;
use partykit_core::{Body, Request};
use tokio::net::{TcpListener, TcpStream};

use super::house::{House, eventually, frame};
use crate::socket::{Carrier, Link, Never, run};

/// Beside them a connection has its stream, 40 bytes for TCP, and the core's `Connection`.
#[tokio::test]
async fn an_idle_connection_is_small() {
    let house = House::new();
    let (link, _verdict) = Link::new(&house.settings);
    let request = Request::new(Body::empty());
    let connection = house.room.connect("guest", "/", request, link.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let io = Box::new(Carrier::<_, Never>::new(io));
    let future = run(io, Bytes::new(), link, house.room.clone(), connection);
    let (future, link) = (size_of_val(&future), size_of::<Link>());
    assert!(future <= 64, "the future has {future} bytes");
    assert!(link <= 168, "the link has {link} bytes");
}

#[tokio::test]
async fn a_queue_lives_only_while_something_waits() {
    let house = House::new();
    let mut guest = house.connect_with(16, Bytes::new()).await;
    guest.write(&frame(0x81, b"burst 20")).await;
    house.handled(1).await;
    assert!(guest.link.is_queueing());
    // "0" to "9" in frames of 3 bytes, "10" to "19" in frames of 4.
    let bytes = guest.read(70).await;
    eventually(|| !guest.link.is_queueing()).await;
    assert_eq!(bytes[66..], [0x81, 2, b'1', b'9']);
}
