use super::bench::Bench;
use crate::Close;

#[test]
fn who_is_hung_up_on_is_answered_first() {
    let mut room = Bench::new();
    let (ada, grace) = (room.join("ada"), room.join("grace"));
    let _ = (room.message(&ada, "one"), room.message(&grace, "two"), room.message(&ada, "three"));
    room.machine.hang_up(room.now, ada.key(), Close::normal());
    room.done();
    room.done();
    assert_eq!(
        room.trace(),
        ["on_message ada one", "on_message grace two", "on_message ada three"]
    );
    room.send(&ada, "answer");
    room.done();
    assert_eq!(room.trace(), ["ada <- answer", "close ada 1000", "flush"]);
}

#[test]
fn who_is_hung_up_on_and_has_said_nothing_waits_for_no_handler_and_wakes_none() {
    let mut room = Bench::new();
    let (ada, grace) = (room.join("ada"), room.join("grace"));
    let _ = room.message(&grace, "hello");
    room.trace();
    room.machine.hang_up(room.now, ada.key(), Close::normal());
    assert_eq!(room.trace(), ["close ada 1000", "flush"]);
    room.done();
    assert!(room.machine.hibernate(room.now).is_ok());
    room.trace();
    room.machine.hang_up(room.now, grace.key(), Close::normal());
    assert_eq!(room.trace(), ["close grace 1000", "flush"]);
}

#[test]
fn who_is_hung_up_on_is_closed_also_when_the_answer_could_not_be_stored() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let _ = room.message(&ada, "one");
    room.machine.hang_up(room.now, ada.key(), Close::normal());
    room.put("a");
    room.send(&ada, "answer");
    room.done();
    assert_eq!(room.trace(), ["on_message ada one", "commit 1"]);
    room.commit_fails();
    assert_eq!(room.trace()[0], "close ada 1000");
}
