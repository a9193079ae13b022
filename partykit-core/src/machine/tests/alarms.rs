use std::time::Duration;

use futures_channel::oneshot;

use super::bench::{Answered, Bench, SECOND, refused};
use crate::{
    Timestamp, WakeUp,
    machine::Fact,
    machine::{Answer, Beginning, Errand, Event},
    storage::AlarmRow,
    value::order::Order,
};

const WALL: Timestamp = Timestamp::from_millis(1_000_000);
/// How old the process is, if that is old enough.
const OLD: Duration = Duration::from_secs(3600);

/// A room that is awake and asks whether the alarm is due; its handler is about to begin.
fn ask(room: &mut Bench) -> Answered {
    room.wake();
    let (reply, answer) = oneshot::channel();
    assert!(room.push(Event::Alarm { reply: Some(reply) }).is_ok());
    assert_eq!(room.trace(), ["on_alarm"]);
    answer
}

/// A sleeping room that is asked the same; its start is about to begin.
fn ask_asleep(room: &mut Bench) -> Answered {
    let (reply, answer) = oneshot::channel();
    assert!(room.push(Event::Alarm { reply: Some(reply) }).is_ok());
    room.claim();
    assert_eq!(room.turn().errand(), Some(Errand::Alarm));
    answer
}

fn begin(room: &mut Bench, age: Duration, wall: Timestamp, row: AlarmRow) -> Beginning {
    room.turn().begin_alarm(age, wall, row, 0).expect("a turn")
}

/// The alarm's row and wake-up in the newest batch that is not stored.
fn written(room: &Bench) -> (Option<AlarmRow>, Option<WakeUp>) {
    let batch = room.machine.gate.pending().next().expect("a batch");
    let row = batch.writes.get(&AlarmRow::KEY).cloned().flatten();
    (row.map(|row| AlarmRow::decode(&row).unwrap()), batch.wake_up)
}

fn is_answered(answer: &mut Answered) -> bool {
    matches!(answer.try_recv(), Ok(Some(Ok(_))))
}

fn given_up(room: &mut Bench) -> usize {
    room.trace();
    std::mem::take(&mut room.facts).iter().filter(|fact| **fact == Fact::AlarmGivenUp).count()
}

#[test]
fn an_attempt_and_a_later_time_are_stored_before_the_handler_begins() {
    let mut room = Bench::new();
    let mut answer = ask(&mut room);
    let row = AlarmRow::new(WALL);
    let began = begin(&mut room, OLD, WALL, row);
    assert!(began.rings && began.died.is_none());
    assert_eq!(room.trace(), ["commit 1"]);
    let (stored, wake_up) = written(&room);
    assert!(stored.unwrap().has_begun());
    assert_eq!(wake_up, Some(WakeUp::At(stored.unwrap().rings())));
    assert!(stored.unwrap().rings() >= WALL + 2 * SECOND, "not at once");
    assert!(!room.turn().is_durable(began.number), "its handler waits for that");
    room.committed();
    assert!(room.turn().is_durable(began.number));
    assert!(room.ring(WALL).is_some());
    room.done();
    assert_eq!(room.trace(), ["commit 1"]);
    assert_eq!(written(&room), (None, Some(WakeUp::Never)));
    assert!(!is_answered(&mut answer));
    room.committed();
    room.trace();
    assert!(is_answered(&mut answer));
}

#[test]
fn the_last_ring_in_vain_is_told() {
    let mut room = Bench::new();
    let (mut row, mut rings) = (AlarmRow::new(WALL), 0);
    loop {
        let mut answer = ask(&mut room);
        assert!(begin(&mut room, OLD, row.rings(), row).rings);
        room.trace();
        room.committed();
        let alarm = room.ring(row.rings()).expect("an attempt");
        assert_eq!((alarm.scheduled, alarm.retries, alarm.deaths), (WALL, rings, 0));
        rings += 1;
        room.err();
        room.trace();
        assert!(!is_answered(&mut answer), "the retry is not stored");
        room.committed();
        room.trace();
        // on_error
        room.done();
        room.trace();
        assert!(is_answered(&mut answer));
        match row.retried(row.rings()) {
            Some(next) => row = next,
            None => break,
        }
        assert_eq!(given_up(&mut room), 0, "after {rings}");
    }
    assert_eq!((rings, given_up(&mut room)), (7, 1));
}

/// The store counts whole milliseconds, and a handler fails between two of them.
#[test]
fn a_pause_after_a_failure_is_not_shorter_by_a_part_of_a_millisecond() {
    for (nanos, later) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
        let mut room = Bench::new();
        let _answer = ask(&mut room);
        assert!(begin(&mut room, OLD, WALL, AlarmRow::new(WALL)).rings);
        room.trace();
        room.committed();
        assert!(room.ring(WALL).is_some());
        room.pass(Duration::from_nanos(nanos));
        room.err();
        assert_eq!(room.trace(), ["commit 1", "on_error on_alarm: Error"]);
        let failed = WALL + Duration::from_millis(later);
        assert_eq!(written(&room).0, AlarmRow::new(WALL).retried(failed), "{nanos} ns");
    }
}

#[test]
fn one_whose_attempt_could_not_be_stored_is_asked_for_again() {
    let mut room = Bench::new();
    let mut answer = ask(&mut room);
    let row = AlarmRow::new(WALL);
    assert!(begin(&mut room, OLD, WALL, row).rings);
    let (begun, _) = written(&room);
    assert_eq!(room.trace(), ["commit 1"]);
    room.commit_fails();
    assert_eq!(room.trace(), ["cancel: commit"]);
    room.cancelled();
    let trace = room.trace();
    assert!(!trace.iter().any(|line| line.starts_with("commit")), "nothing to store: {trace:?}");
    assert!(refused(&mut answer).is_some());
    assert_eq!(given_up(&mut room), 0);
    assert!(!room.machine.is_vacant(), "it knows what the store may not say");

    // It may be stored all the same. That is no death, and no reason to wait.
    room.claim();
    room.done();
    room.done();
    room.trace();
    let (reply, _answer) = oneshot::channel();
    assert!(room.push(Event::Alarm { reply: Some(reply) }).is_ok());
    let began = begin(&mut room, Duration::ZERO, WALL, begun.unwrap());
    assert!(began.rings && began.died.is_none());
    room.trace();
    room.committed();
    assert_eq!(room.ring(WALL).map(|alarm| alarm.deaths), Some(0));
}

#[test]
fn a_process_that_died_in_it_is_told_and_counted_and_it_waits_after_the_start() {
    let mut room = Bench::new();
    let mut row = AlarmRow::new(WALL);
    for deaths in 1..40_u32 {
        row = row.begins(row.rings(), 0);
        let wall = row.rings();
        // The process has just begun: no alarm that killed the one before rings now.
        let mut answer = ask(&mut room);
        let began = begin(&mut room, SECOND, wall, row);
        let pause = row.died().pause(0);
        assert!(pause <= Duration::from_secs(450), "{pause:?}");
        assert_eq!(began.died, Some((deaths, wall + (pause - SECOND))));
        assert!(!began.rings, "it rings now");
        let (stored, wake_up) = written(&room);
        assert_eq!(wake_up, Some(WakeUp::At(wall + (pause - SECOND))));
        row = stored.unwrap();
        assert_eq!((row.alarm().deaths, row.alarm().retries), (deaths, 0));
        room.trace();
        room.committed();
        room.done();
        room.trace();
        assert!(is_answered(&mut answer));
    }
    assert_eq!(given_up(&mut room), 0, "a machine that dies deletes nothing");
}

#[test]
fn one_that_died_long_before_rings_at_its_time() {
    let mut room = Bench::new();
    let row = AlarmRow::new(WALL).begins(WALL, 0);
    let _answer = ask(&mut room);
    let began = begin(&mut room, OLD, row.rings(), row);
    assert!(began.rings);
    assert_eq!(began.died.map(|(deaths, _)| deaths), Some(1));
    room.trace();
    room.committed();
    assert_eq!(room.ring(WALL).map(|alarm| alarm.deaths), Some(1));
}

#[test]
fn a_sleeping_room_stores_the_attempt_before_it_starts_and_once() {
    let mut room = Bench::new();
    let mut answer = ask_asleep(&mut room);
    let row = AlarmRow::new(WALL);
    let began = begin(&mut room, OLD, WALL, row);
    assert!(began.rings);
    assert_eq!(room.trace(), ["commit 1"]);
    let begun = written(&room).0.unwrap();
    room.committed();
    assert!(room.turn().is_durable(began.number));
    room.turn().errand_done();
    let seen = room.turn().lookup_alarm().value().expect("an alarm is known");
    assert_eq!(AlarmRow::decode(&seen).unwrap(), row, "what on_start sees of it");
    room.done();
    assert_eq!(room.trace(), ["on_alarm"]);
    let again = begin(&mut room, OLD, WALL, begun);
    assert!(again.rings && again.died.is_none() && room.turn().is_durable(again.number));
    assert!(room.trace().is_empty(), "no second commit");
    assert!(room.ring(WALL).is_some());
    room.done();
    room.committed();
    room.trace();
    assert!(is_answered(&mut answer));
}

#[test]
fn a_room_that_need_not_start_for_it_does_not() {
    let mut room = Bench::new();
    let mut answer = ask_asleep(&mut room);
    assert!(!begin(&mut room, OLD, WALL, AlarmRow::new(WALL + SECOND)).rings);
    room.trace();
    room.committed();
    room.machine.turn_ended(room.now, Ok(Answer::NotNow));
    assert_eq!(room.trace(), ["respond done", "drop"]);
    assert!(is_answered(&mut answer) && room.machine.is_vacant());
}

#[test]
fn a_start_that_fails_gives_the_attempt_back() {
    let mut room = Bench::new();
    let mut answer = ask_asleep(&mut room);
    let row = AlarmRow::new(WALL);
    assert!(begin(&mut room, OLD, WALL, row).rings);
    room.trace();
    room.committed();
    room.turn().errand_done();
    room.err();
    assert!(refused(&mut answer).is_some() || room.trace().iter().any(|it| it.contains("respond")));
    assert_eq!(written(&room), (Some(row), Some(WakeUp::At(WALL))));
}

#[test]
fn a_handler_that_the_shutdown_ends_is_no_failure_and_no_death() {
    let mut room = Bench::new();
    let _answer = ask(&mut room);
    let row = AlarmRow::new(WALL);
    assert!(begin(&mut room, OLD, WALL, row).rings);
    room.trace();
    room.committed();
    assert!(room.ring(WALL).is_some());
    room.put("half");
    room.machine.drain(room.now, 5 * SECOND);
    room.pass(4 * SECOND);
    assert!(room.trace().is_empty(), "a shutdown lets it end");
    room.pass(SECOND);
    assert_eq!(room.trace(), ["cancel: 5s"]);
    room.err();
    assert_eq!(written(&room), (Some(row), Some(WakeUp::At(WALL))), "at the next start it rings");
    let batch = room.machine.gate.pending().next().expect("a batch");
    assert_eq!(batch.writes.len(), 1, "nothing of what it wrote");
}

#[test]
fn a_shutdown_between_the_start_and_the_handler_gives_the_attempt_back() {
    let mut room = Bench::new();
    let _answer = ask_asleep(&mut room);
    let row = AlarmRow::new(WALL);
    assert!(begin(&mut room, OLD, WALL, row).rings);
    room.trace();
    room.committed();
    room.turn().errand_done();
    room.machine.drain(room.now, SECOND);
    room.trace();
    room.done();
    assert_eq!(written(&room), (Some(row), Some(WakeUp::At(WALL))));
    room.committed();
    room.trace();
    assert!(room.machine.is_vacant());
}

#[test]
fn an_order_is_carried_out_without_a_start() {
    let mut room = Bench::new();
    let (reply, mut answer) = oneshot::channel();
    assert!(room.push(Event::Order { order: Order::ParkAlarm, reply: Some(reply) }).is_ok());
    room.claim();
    assert_eq!(room.turn().errand(), Some(Errand::Order(Order::ParkAlarm)));
    let row = AlarmRow::new(WALL).begins(WALL, 0);
    room.turn().write_alarm(Some(row.parked()));
    room.machine.turn_ended(room.now, Ok(Answer::NotNow));
    assert_eq!(written(&room), (Some(row.parked()), Some(WakeUp::Never)));
    assert!(!is_answered(&mut answer));
    room.committed();
    room.trace();
    assert!(is_answered(&mut answer) && room.machine.is_vacant());

    // It does not ring, no matter who asks.
    let mut asked = ask_asleep(&mut room);
    assert!(!begin(&mut room, OLD, WALL + OLD, row.parked()).rings);
    assert_eq!(written(&room).1, Some(WakeUp::Never));
    room.committed();
    room.machine.turn_ended(room.now, Ok(Answer::NotNow));
    room.trace();
    assert!(is_answered(&mut asked));
}

#[test]
fn who_asks_too_early_is_told_the_time_again() {
    let mut room = Bench::new();
    let row = AlarmRow::new(WALL + SECOND);
    let mut answer = ask(&mut room);
    assert!(!begin(&mut room, OLD, WALL, row).rings);
    let batch = room.machine.gate.pending().next().expect("a batch").clone();
    assert_eq!((batch.writes.len(), batch.wake_up), (0, Some(WakeUp::At(row.rings()))));
    room.done();
    room.trace();
    assert!(!is_answered(&mut answer));
    room.committed();
    room.trace();
    assert!(is_answered(&mut answer));
    assert_eq!(given_up(&mut room), 0);
}

#[test]
fn a_failure_of_who_asked_too_early_takes_nothing_back() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let (reply, _answer) = oneshot::channel();
    assert!(room.push(Event::Alarm { reply: Some(reply) }).is_ok());
    assert!(!begin(&mut room, OLD, WALL, AlarmRow::new(WALL + SECOND)).rings);
    room.err();
    room.trace();
    // on_error
    room.put("a");
    room.send(&ada, "a is written");
    room.committed();
    assert!(!room.trace().iter().any(|line| line.contains("a is written")));
    room.done();
    assert_eq!(room.trace(), ["commit 1"]);
    room.committed();
    assert_eq!(room.trace(), ["ada <- a is written", "flush"]);
}
