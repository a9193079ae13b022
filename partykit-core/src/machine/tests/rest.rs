use super::bench::Bench;

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
