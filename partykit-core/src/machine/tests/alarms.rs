use futures_channel::oneshot;

use super::bench::{Answered, Bench, SECOND, refused};
use crate::{Timestamp, WakeUp, alarm::AlarmRow, fact::Fact, machine::Event};

const WALL: Timestamp = Timestamp::from_millis(1_000_000);

/// Asks whether the alarm is due; its handler is about to begin.
fn ask(room: &mut Bench) -> Answered {
    let (reply, answer) = oneshot::channel();
    assert!(room.push(Event::Alarm { reply }).is_ok());
    if room.trace().contains(&"claim".to_owned()) {
        room.claim();
        room.done();
        room.trace();
    }
    answer
}

fn is_answered(answer: &mut Answered) -> bool {
    matches!(answer.try_recv(), Ok(Some(Ok(_))))
}

fn given_up(room: &mut Bench) -> usize {
    room.machine.take_facts().iter().filter(|fact| **fact == Fact::AlarmGivenUp).count()
}

#[test]
fn the_last_ring_in_vain_is_told() {
    let mut room = Bench::new();
    let (mut row, mut rings) = (AlarmRow::new(WALL), 0);
    loop {
        let mut answer = ask(&mut room);
        let alarm = room.machine.ring(room.now, row.rings(), row).expect("it is due");
        assert_eq!((alarm.scheduled, alarm.retries), (WALL, rings));
        rings += 1;
        room.err();
        room.trace();
        // The batch that counts it, and then the one that has it ring again.
        room.committed();
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

#[test]
fn one_that_could_not_be_counted_is_asked_for_again() {
    let mut room = Bench::new();
    let mut answer = ask(&mut room);
    let row = AlarmRow::new(WALL);
    assert!(room.machine.ring(room.now, WALL, row).is_some());
    assert_eq!(room.trace(), ["commit 1"]);
    room.commit_fails();
    assert_eq!(room.trace(), ["cancel: commit"]);
    room.cancelled();
    let trace = room.trace();
    assert!(!trace.iter().any(|line| line.starts_with("commit")), "nothing to store: {trace:?}");
    assert!(refused(&mut answer).is_some());
    assert_eq!(given_up(&mut room), 0);
}

#[test]
fn one_that_has_killed_its_process_too_often_is_removed_and_told() {
    let mut room = Bench::new();
    let row = (0..7).fold(AlarmRow::new(WALL), |row, _| row.counted());
    let mut answer = ask(&mut room);
    assert_eq!(room.machine.ring(room.now, WALL, row), None);
    let batch = room.machine.gate.pending().next().expect("a batch").clone();
    assert_eq!(
        (batch.writes.get(&AlarmRow::KEY), batch.wake_up),
        (Some(&None), Some(WakeUp::Never))
    );
    room.done();
    room.trace();
    assert!(!is_answered(&mut answer), "that it is gone is not stored");
    room.committed();
    room.trace();
    assert!(is_answered(&mut answer));
    assert_eq!(given_up(&mut room), 1);
}

#[test]
fn who_asks_too_early_is_told_the_time_again() {
    let mut room = Bench::new();
    let row = AlarmRow::new(WALL + SECOND);
    let mut answer = ask(&mut room);
    assert_eq!(room.machine.ring(room.now, WALL, row), None);
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
    let _answer = ask(&mut room);
    assert_eq!(room.machine.ring(room.now, WALL, AlarmRow::new(WALL + SECOND)), None);
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
