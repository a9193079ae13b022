//! Stories that once broke a promise, told again step by step.
//!
//! No process dies in these: the alarm's row counts no death, no matter which commits fail.

use super::{
    op::{
        Ending::{Done, Err},
        Fate::{Failed, FailedLate, Stored},
        Op::{self, Claim, Commit, Connect, DeleteAlarm, Finish, Pass, Put, Ring, SetAlarm},
        Setup,
    },
    world::{Fault, World},
};
use crate::{machine::Event, storage::AlarmRow};

const CONNECT: Op = Connect { tagged: false };

/// Tells a story from its first step to the end of everything, and checks each promise at each step.
fn told(ops: &[Op]) {
    let mut world = World::new(&Setup { hibernate: false, tight: false }, Fault::None);
    for op in ops {
        if matches!(op, Ring) {
            // The world asks only once at a time, but more than one may ask.
            world.push(Event::Alarm { reply: None });
        }
        world.step(if matches!(op, Ring) { &Op::Tick } else { op });
        counts_no_death(&world);
    }
    world.settle();
    counts_no_death(&world);
    assert_eq!(world.model.violations, []);
}

fn counts_no_death(world: &World) {
    let row = world.store.get(&AlarmRow::KEY).map(|row| AlarmRow::decode(row).expect("a row"));
    let deaths = row.map(|row| row.alarm().deaths);
    assert!(deaths.is_none_or(|deaths| deaths == 0), "nothing died, and {row:?} is stored");
}

/// A room that has started, with an alarm that is due and stored.
const DUE: [Op; 6] =
    [CONNECT, Claim { ok: true }, SetAlarm(0), Finish(Done), Commit(Stored), Finish(Done)];

/// [`DUE`], and then these steps.
fn told_when_due(ops: &[Op]) {
    let story: Vec<Op> = DUE.iter().chain(ops).cloned().collect();
    told(&story);
}

#[test]
fn the_alarm_that_on_start_sets_ends_an_attempt_only_when_it_is_stored() {
    told(&[
        Put(0),
        CONNECT,
        Ring,
        Claim { ok: true },
        SetAlarm(0),
        Finish(Done),
        Pass(10_000),
        CONNECT,
        Finish(Err),
        Commit(Stored),
        Commit(Stored),
        SetAlarm(1001),
        Finish(Done),
        Commit(Failed),
    ]);
}

#[test]
fn an_alarm_that_is_gone_but_for_the_commit_comes_back_without_a_death() {
    for fate in [Failed, FailedLate] {
        // It rang, and is asked for again before it is stored that it is over.
        told_when_due(&[Ring, Commit(Stored), Finish(Done), Ring, Commit(fate)]);
        told_when_due(&[Ring, Commit(Stored), DeleteAlarm, Finish(Done), Ring, Commit(fate)]);
    }
}

#[test]
fn a_second_attempt_that_fails_leaves_the_first_one_without_a_death() {
    for (first, second) in [(Failed, Failed), (Failed, FailedLate), (FailedLate, Failed)] {
        // A write of its handler fails, then so does the next attempt, and the one after that.
        let mut story = vec![Ring, Commit(Stored), Put(0), Op::Sync, Commit(first)];
        let woken = [Pass(1), Ring, Claim { ok: true }, Finish(Done), Finish(Done)];
        for fate in [second, second, first] {
            story.extend(woken.iter().cloned().chain([Commit(fate)]));
        }
        told_when_due(&story);
        // The first attempt itself fails.
        story.splice(..5, [Ring, Commit(first)]);
        told_when_due(&story);
    }
}

#[test]
fn attempts_that_never_reach_the_store_are_not_kept() {
    let mut world = World::new(&Setup { hibernate: true, tight: false }, Fault::None);
    DUE.iter().for_each(|op| world.step(op));
    world.step(&Op::Request { reply: false });
    [Put(0), Finish(Done)].iter().for_each(|op| world.step(op));
    let mut most = 0;
    // The store does not answer, and each attempt is called off at its deadline.
    for _ in 0..50 {
        world.push(Event::Alarm { reply: None });
        for op in [Op::Tick, Op::Deadline, Finish(Done), Finish(Done), Finish(Done)] {
            world.step(&op);
            most = most.max(world.machine.attempts.len());
        }
    }
    assert!(world.machine.last_turn > 50, "only {} turns", world.machine.last_turn);
    assert!((1..=3).contains(&most), "{most} attempts were kept");
}
