use super::{
    bench::{Bench, SECOND},
    *,
};

/// A room that sleeps under its only client.
fn resting() -> (Bench, Connection) {
    let mut room = Bench::new();
    let ada = room.join("ada");
    assert_eq!(room.machine.hibernate(room.now), Ok(()));
    room.trace();
    room.rest();
    (room, ada)
}

/// How long the room waits for its sleep when its only client has spoken and left.
fn idle_time(room: &mut Bench, ada: &Connection, crowded: bool) -> Duration {
    let _ = room.message(ada, "bye");
    assert_eq!(room.trace(), ["on_start Wake"], "the claim is still there");
    room.done();
    assert_eq!(room.trace(), ["on_message ada bye"]);
    room.leave(ada);
    room.done();
    assert_eq!(room.trace(), ["on_close ada"]);
    room.machine.set_crowded(crowded);
    room.done();
    room.trace();
    assert_eq!(room.machine.reasons(), []);
    room.machine.deadline().map_or(Duration::ZERO, |at| at - room.now)
}

#[test]
fn a_room_that_rests_goes_on_as_it_was() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let _ = room.message(&ada, "1");
    let cancelled = room.spawn();
    room.panic();
    room.trace();
    // It starts again, for on_error.
    room.done();
    room.done();
    room.trace();
    assert!(room.machine.hibernate(room.now).is_ok());
    assert_eq!(room.trace(), ["drop"]);
    room.rest();

    let _ = room.message(&ada, "2");
    assert_eq!(room.trace(), ["on_start Wake"], "the claim is still there");
    room.done();
    assert_eq!(room.trace(), ["on_message ada 2"]);
    assert_ne!(room.spawn(), cancelled, "a task that was cancelled may end late");
    room.done();
    room.trace();
    let account = room.machine.stats(room.now).account;
    assert_eq!((account.wakes(), account.resets, account.sleeps), (3, 1, 1));
}

#[test]
fn failed_starts_are_counted_over_a_rest() {
    let (mut room, ada) = resting();
    for _ in 0..2 {
        let _ = room.message(&ada, "hello");
        room.start_fails();
        room.trace();
        room.pass(10 * SECOND);
        room.rest();
    }
    let _ = room.message(&ada, "hello");
    room.start_fails();
    let refusal = room.tell();
    assert!(matches!(refusal, Err(Refusal::Unavailable(_))), "the third in a row: {refusal:?}");
}

#[test]
fn a_room_that_had_a_client_is_kept_longer_also_after_a_rest() {
    let (mut room, ada) = resting();
    assert_eq!(idle_time(&mut room, &ada, false), 10 * SECOND);
}

#[test]
fn a_room_that_never_stored_anything_is_known_by_that_after_a_rest() {
    let (mut room, ada) = resting();
    assert_eq!(idle_time(&mut room, &ada, true), Duration::ZERO);
}

#[test]
fn a_room_that_stored_something_is_known_by_that_after_a_rest() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let _ = room.message(&ada, "hello");
    room.put("a");
    room.done();
    room.committed();
    assert_eq!(room.machine.hibernate(room.now), Ok(()));
    room.trace();
    room.rest();
    assert_eq!(idle_time(&mut room, &ada, true), 10 * SECOND);
}
