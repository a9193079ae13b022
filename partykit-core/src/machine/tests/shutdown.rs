use super::{
    bench::{Bench, SECOND},
    *,
};

#[test]
fn a_client_that_left_while_it_connected_begins_no_on_close_in_a_shutdown() {
    let mut room = Bench::new();
    room.wake();
    let (ada, _) = room.connect("ada");
    assert_eq!(room.trace(), ["on_connect ada"]);
    room.leave(&ada);
    room.machine.drain(room.now, Duration::MAX);
    room.done();
    assert_eq!(room.trace(), ["accept ada", "drop"]);
}

#[test]
fn messages_that_a_shutdown_loses_are_counted() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let _ = (room.message(&ada, "1"), room.message(&ada, "2"));
    room.machine.drain(room.now, Duration::MAX);
    // This one stays with the socket, which is not read any more.
    assert_eq!(room.message(&ada, "3"), Err(Refusal::ShuttingDown));
    assert!(!room.machine.intake().has_space_beside(0, 0, 1));
    assert_eq!(room.machine.stats(room.now).account.dropped_messages, 1);
}

#[test]
fn a_shutdown_gives_a_handler_its_grace_and_no_more() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let _ = room.message(&ada, "1");
    assert_eq!(room.trace(), ["on_message ada 1"]);
    room.pass(SECOND);
    room.machine.drain(room.now, 5 * SECOND);
    room.pass(4 * SECOND);
    assert_eq!(room.trace(), [""; 0]);
    room.pass(SECOND);
    assert_eq!(room.trace(), ["cancel: 6s"]);
    room.cancelled();
    assert_eq!(room.machine.phase, RoomPhase::Asleep);
    assert_eq!(room.machine.deadline(), None);
}

#[test]
fn a_shutdown_does_not_lengthen_the_time_of_a_handler() {
    let mut room = Bench::with(Options::new().hibernate(true).handler_timeout(2 * SECOND));
    let ada = room.join("ada");
    let _ = room.message(&ada, "1");
    assert_eq!(room.trace(), ["on_message ada 1"]);
    room.machine.drain(room.now, 5 * SECOND);
    room.pass(2 * SECOND);
    assert_eq!(room.trace(), ["cancel: 2s"]);
}
