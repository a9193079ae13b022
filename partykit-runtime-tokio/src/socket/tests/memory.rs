use bytes::Bytes;

use super::house::{House, eventually, frame};
use crate::socket::{Link, SocketTask};

/// A connection of plain TCP has a link, behind two counters, and a place in its loop. Of the core it has a
/// `Connection` beside them.
#[test]
fn an_idle_connection_is_small() {
    let link = 2 * size_of::<usize>() + size_of::<Link>();
    assert!(link <= 128, "the link has {link} bytes");
    assert!(size_of::<SocketTask>() <= 8);
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
