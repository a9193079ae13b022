//! The rules that a property states badly, and what once broke one.

mod alarms;
mod bench;
mod hang_up;
mod rest;
mod shutdown;

use std::{panic::Location, time::Duration};

use bytes::Bytes;

use self::bench::{Bench, SECOND, refused};
use super::*;
use crate::ErrorId;

#[test]
fn a_start_beside_a_commit_keeps_the_claim_of_that_commit() {
    let mut room = Bench::new();
    room.wake();
    let _ = (room.tell(), room.tell(), room.tell());
    room.put("a");
    room.done();
    room.panic();
    assert_eq!(room.trace(), ["on_request", "commit 1", "on_request", "drop", "on_start Restart"]);
}

#[test]
fn a_write_of_no_rows_holds_nothing_back() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let _ = room.message(&ada, "hello");
    assert!(room.turn().write(Vec::new()).is_ok());
    room.send(&ada, "hi");
    room.done();
    assert_eq!(room.trace(), ["on_message ada hello", "ada <- hi", "flush"]);
    assert_eq!(room.machine.reasons(), []);
}

#[test]
fn a_task_that_is_cancelled_before_its_commit_never_starts() {
    let mut room = Bench::new();
    room.wake();
    let _ = (room.tell(), room.tell());
    room.put("a");
    room.spawn();
    room.done();
    room.panic();
    assert_eq!(room.trace()[2..], ["on_request", "cancel 1 tasks", "drop", "on_start Restart"]);
    room.committed();
    assert_eq!(room.trace(), Vec::<String>::new());
}

#[test]
fn a_task_of_the_handler_that_a_shutdown_lets_end_does_not_start() {
    let mut room = Bench::new();
    room.wake();
    let _ = room.tell();
    room.spawn();
    room.machine.drain(room.now, Duration::MAX);
    assert_eq!(room.turn().reserve_task(SECOND, ("late", Location::caller())), None);
    room.done();
    assert_eq!(room.trace(), ["on_request", "cancel 1 tasks", "drop"]);
}

#[test]
fn a_task_and_a_guard_count_from_when_they_began_and_not_from_the_handler() {
    let mut room = Bench::new();
    room.wake();
    let _ = room.tell();
    room.trace();
    room.now += 3 * SECOND;
    let (now, holder) = (room.now, ("guard", Location::caller()));
    let guard = room.turn().keep_awake(now, holder);
    room.spawn();
    room.now += 2 * SECOND;
    room.machine.guard_dropped(room.now, guard);
    let awake = room.machine.stats(room.now).account.awake;
    assert_eq!((awake.guard, awake.task, awake.handler), (2 * SECOND, 2 * SECOND, 5 * SECOND));
}

#[test]
fn a_start_that_waited_long_for_its_claim_still_has_a_deadline() {
    let mut room = Bench::new();
    let _ = room.connect("ada");
    assert_eq!(room.machine.deadline(), None, "nothing runs that could be cancelled");
    room.pass(11 * SECOND);
    assert_eq!(room.trace(), ["claim"]);
    room.claim();
    assert_eq!(room.machine.deadline(), Some(10 * SECOND));
    room.pass(Duration::ZERO);
    assert_eq!(room.trace(), ["cancel: 10s"]);
}

#[test]
fn a_shutdown_during_the_claim_begins_no_on_start() {
    let mut room = Bench::new();
    let mut answer = room.request();
    assert_eq!(room.trace(), ["claim"]);
    room.machine.drain(room.now, Duration::MAX);
    assert_eq!(room.trace(), ["respond the server is shutting down"]);
    assert_eq!(refused(&mut answer), Some(Refusal::ShuttingDown));
    room.machine.claimed(room.now, Ok(Claim { epoch: Epoch(1), empty: true }));
    assert_eq!(room.trace(), ["drop"]);
    assert!(room.machine.is_at_rest());
}

#[test]
fn after_a_failed_claim_the_room_claims_anew() {
    let mut room = Bench::new();
    room.wake();
    assert_eq!(room.machine.hibernate(room.now), Ok(()));
    let _ = room.tell();
    room.start_fails();
    assert_eq!(room.machine.epoch, None);
    let _ = room.tell();
    assert_eq!(room.trace().last().map(String::as_str), Some("claim"));
}

#[test]
fn a_connection_whose_on_connect_was_undone_has_no_on_close() {
    let mut room = Bench::new();
    room.wake();
    let (ada, _) = room.connect("ada");
    let _ = room.tell();
    room.trace();
    room.put("a");
    room.done();
    room.leave(&ada);
    room.commit_fails();
    room.cancelled();
    let trace = room.trace();
    assert_eq!(trace[..4], ["commit 1", "on_request", "refuse ada 1011", "cancel: commit"]);
    assert!(!trace.contains(&"on_close ada".to_owned()));
    room.claim();
    room.done();
    room.done();
    room.done();
    assert_eq!(room.trace(), ["on_error on_request: Commit", "on_error on_connect: Commit"]);
    room.pass(10 * SECOND);
    assert_eq!(room.trace(), ["drop"]);
    assert!(room.machine.is_vacant());
}

#[test]
fn what_a_cancelled_handler_says_while_it_is_dropped_follows_a_void_write() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let _ = (room.message(&ada, "1"), room.message(&ada, "2"));
    room.put("a");
    room.done();
    room.put("b");
    room.commit_fails();
    room.send(&ada, "b is written");
    room.turn().close(&ada, Close::normal());
    assert!(room.turn().sync().is_ok());
    room.cancelled();
    let trace = room.trace();
    assert_eq!(trace[..3], ["on_message ada 1", "commit 1", "on_message ada 2"]);
    assert_eq!(trace[3..], ["cancel: commit", "drop", "claim"]);
    assert!(room.message(&ada, "3").is_ok());
    assert_eq!(room.machine.mailbox.len(), 3, "the close is undone, so the message counts");
}

#[test]
fn a_commit_of_on_error_that_fails_is_no_error_of_its_own() {
    let mut room = Bench::new();
    room.wake();
    let _ = room.tell();
    room.err();
    room.put("errors");
    room.done();
    room.commit_fails();
    let trace = room.trace();
    assert_eq!(trace, ["on_request", "on_error on_request: Error", "commit 1", "drop"]);
    assert!(room.machine.is_at_rest(), "otherwise a broken store would keep it busy for ever");
}

#[test]
fn a_commit_that_fails_during_a_start_fails_neither_the_start_nor_its_event() {
    let mut room = Bench::new();
    room.wake();
    let _ = (room.tell(), room.tell());
    room.put("a");
    room.done();
    room.panic();
    // The panic's on_error is next; its start runs beside the commit.
    assert_eq!(room.trace().last().map(String::as_str), Some("on_start Restart"));
    room.commit_fails();
    room.cancelled();
    assert_eq!(room.trace(), ["cancel: commit", "drop", "claim"]);
    room.claim();
    room.done();
    room.done();
    room.done();
    assert_eq!(room.trace(), ["on_error on_request: Commit", "on_error on_request: Panic"]);
}

#[test]
fn a_rollback_keeps_what_others_say_to_a_connection_that_is_connecting() {
    let mut room = Bench::new();
    room.wake();
    let (ada, _) = room.connect("ada");
    room.trace();
    let transaction = room.begin();
    room.put("a");
    room.send(&ada, "a is written");
    room.send_outside(&ada, "the weather is fine");
    room.undo(transaction);
    room.done();
    assert_eq!(room.trace(), ["accept ada", "ada <- the weather is fine", "flush"]);
}

#[test]
fn a_rollback_does_not_bring_back_who_left_while_connecting() {
    let mut room = Bench::new();
    room.wake();
    let (ada, _) = room.connect("ada");
    room.trace();
    let transaction = room.begin();
    room.put("a");
    room.turn().close(&ada, Close::normal());
    room.leave(&ada);
    room.undo(transaction);
    assert_eq!(room.machine.roster().count(), 0);
    room.done();
    assert_eq!(room.trace(), ["accept ada", "on_close ada"]);
}

#[test]
fn clients_that_leave_while_a_room_cannot_start_do_not_start_it() {
    let mut room = Bench::new();
    let (ada, grace) = (room.join("ada"), room.join("grace"));
    let _ = room.message(&ada, "boom");
    room.panic();
    for _ in 0..3 {
        room.trace();
        room.err();
        let _ = room.tell();
    }
    room.trace();
    assert!(matches!(room.tell(), Err(Refusal::Unavailable(_))));
    room.leave(&ada);
    room.leave(&grace);
    assert_eq!((room.machine.phase, room.machine.mailbox.len()), (RoomPhase::Asleep, 0));
    assert!(!room.machine.is_vacant(), "two on_close are owed");
    room.pass(SECOND);
    assert!(room.tell().is_ok());
    room.claim();
    room.done();
    room.done();
    room.done();
    assert_eq!(room.trace(), ["on_close ada", "on_close grace", "on_request"]);
}

#[test]
fn no_limit_is_too_large() {
    let for_ever = Options::new()
        .hibernate_after(Duration::MAX)
        .handler_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX);
    let mut room = Bench::with(for_ever);
    room.pass(SECOND);
    room.join("ada");
    room.wake();
    assert_eq!(room.machine.deadline(), None, "it does not hibernate, and somebody is here");
}

#[test]
fn what_busy_turns_say_leaves_after_256_of_them() {
    let mut room = Bench::with(Options::new().mailbox(8000, 16 << 20));
    let ada = room.join("ada");
    // Those that say nothing do not count.
    for turn in 0..900 {
        let text = if turn < 300 { "quiet" } else { "loud" };
        assert_eq!(room.message(&ada, text), Ok(()));
    }
    for turn in 0..900 {
        if turn >= 300 {
            room.send(&ada, "x");
        }
        room.done();
    }
    let trace = room.trace();
    let said = trace.split(|line| line == "flush");
    let said = said.map(|lines| lines.iter().filter(|line| *line == "ada <- x").count());
    assert_eq!(said.collect::<Vec<_>>(), [256, 256, 88, 0]);
}

#[test]
fn on_error_is_next_after_the_handler_that_failed() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let _ = (room.message(&ada, "1"), room.message(&ada, "2"));
    room.err();
    assert_eq!(room.trace(), ["on_message ada 1", "on_error on_message: Error"]);
    room.done();
    assert_eq!(room.trace(), ["on_message ada 2"], "an Err before any write keeps the instance");
    let _ = room.message(&ada, "3");
    room.panic();
    assert_eq!(room.trace(), ["drop", "on_start Wake"]);
    room.done();
    assert_eq!(room.trace(), ["on_error on_message: Panic"]);
    room.err();
    assert_eq!(room.trace(), ["on_message ada 3"], "an Err of on_error is only logged");
}

#[test]
fn an_err_after_a_write_or_a_state_takes_the_instance() {
    type Act = fn(&mut Bench, &Connection);
    let acts: [Act; 3] = [
        |room, _| room.put("a"),
        |room, ada| assert!(room.turn().set_state(ada, Some(Bytes::from_static(b"1"))).is_ok()),
        |room, _| {
            room.put("a");
            assert!(room.turn().sync().is_ok());
        },
    ];
    for act in acts {
        let mut room = Bench::new();
        let ada = room.join("ada");
        let _ = room.message(&ada, "1");
        act(&mut room, &ada);
        room.err();
        assert!(room.trace().contains(&"drop".to_owned()));
        assert_eq!(ada.committed_state(), None);
    }
}

#[test]
fn after_three_failed_starts_the_room_refuses_for_1_2_4_up_to_30_seconds() {
    let mut room = Bench::new();
    for _ in 0..2 {
        assert!(room.tell().is_ok());
        room.start_fails();
    }
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let mut first = room.request();
        let mut second = room.request();
        room.start_fails();
        room.trace();
        let wait = Duration::from_secs(seconds);
        assert_eq!(refused(&mut first), Some(Refusal::Failed(ErrorId::planned(7))));
        assert_eq!(refused(&mut second), Some(Refusal::Unavailable(wait)));
        room.pass(wait - Duration::from_millis(1));
        let left = Refusal::Unavailable(Duration::from_millis(1));
        assert_eq!(room.tell(), Err(left));
        room.pass(Duration::from_millis(1));
    }
    assert!(room.tell().is_ok());
    room.claim();
    room.done();
    room.done();
    room.pass(10 * SECOND);
    assert_eq!(room.machine.phase, RoomPhase::Asleep);
    // One success, and the count begins again.
    for _ in 0..2 {
        assert!(room.tell().is_ok());
        room.start_fails();
    }
    assert!(room.tell().is_ok());
}

#[test]
fn a_failed_start_fails_its_own_event_and_keeps_the_closes() {
    let mut room = Bench::new();
    let (ada, grace) = (room.join("ada"), room.join("grace"));
    let _ = room.message(&grace, "boom");
    room.panic();
    room.trace();
    room.done();
    room.done();
    room.pass(10 * SECOND);
    assert_eq!(room.trace().last().map(String::as_str), Some("drop"));

    room.leave(&ada);
    assert_eq!(room.trace(), ["on_start Wake"]);
    room.err();
    assert_eq!(room.trace(), ["drop"], "the close waits for the next start");
    let _ = room.message(&grace, "lost");
    room.err();
    assert_eq!(room.machine.stats(room.now).account.dropped_messages, 1);
    let _ = room.message(&grace, "heard");
    room.trace();
    room.done();
    room.done();
    assert_eq!(room.trace(), ["on_close ada", "on_message grace heard"]);
}

#[test]
fn why_a_room_wakes_and_why_it_starts() {
    let mut room = Bench::new();
    let _ = room.tell();
    assert_eq!(room.trace(), ["claim"]);
    room.machine.claimed(room.now, Ok(Claim { epoch: Epoch(1), empty: true }));
    assert_eq!(room.trace(), ["on_start First"]);
    room.done();
    room.done();
    room.pass(10 * SECOND);
    let (ada, _) = room.connect("ada");
    room.trace();
    room.machine.claimed(room.now, Ok(Claim { epoch: Epoch(2), empty: false }));
    assert_eq!(room.trace(), ["on_start Restart"]);
    room.done();
    room.trace();
    room.done();
    room.trace();
    room.pass(10 * SECOND);
    let _ = room.message(&ada, "1");
    assert_eq!(
        room.trace(),
        ["drop", "on_start Wake"],
        "its sockets are here, and so is its claim"
    );
    room.done();
    room.panic();
    room.done();
    room.trace();
    room.done();
    room.pass(10 * SECOND);
    room.leave(&ada);

    let account = room.machine.stats(room.now).account;
    let causes = [
        (WakeCause::Connect, 1),
        (WakeCause::Disconnect, 1),
        (WakeCause::Error, 1),
        (WakeCause::Message, 1),
        (WakeCause::Request, 1),
    ];
    assert_eq!(account.causes, causes);
    assert_eq!(account.last_wake, Some((WakeCause::Disconnect, 30 * SECOND)));
    assert_eq!((account.sleeps, account.resets), (3, 1));
}

#[test]
fn a_room_is_resident_with_an_instance_and_active_while_something_runs() {
    let mut room = Bench::new();
    room.pass(SECOND);
    let _ = room.tell();
    room.pass(SECOND);
    room.claim();
    room.pass(SECOND);
    room.done();
    room.put("a");
    room.pass(SECOND);
    room.done();
    room.trace();
    room.pass(SECOND);
    let account = room.machine.stats(room.now).account;
    assert_eq!((account.resident, account.active), (4 * SECOND, 4 * SECOND), "a commit is active");
    room.committed();
    room.pass(9 * SECOND);
    room.pass(SECOND);
    room.pass(5 * SECOND);
    let account = room.machine.stats(room.now).account;
    assert_eq!(account.life, 20 * SECOND);
    assert_eq!((account.resident, account.active), (14 * SECOND, 4 * SECOND));
}

#[test]
fn a_full_mailbox_gives_the_event_back_and_takes_closes_all_the_same() {
    let mut room = Bench::with(Options::new().mailbox(2, 10_000));
    let ada = room.join("ada");
    let _ = room.message(&ada, "runs");
    assert_eq!(room.message(&ada, "waits"), Ok(()));
    assert_eq!(room.message(&ada, "waits"), Ok(()));
    let event = Event::Message { sender: ada.clone(), message: "too much".into() };
    let refused = room.machine.push(room.now, event);
    let Err((Refusal::Overloaded, Event::Message { message, .. })) = refused else {
        panic!("{refused:?} is not the message");
    };
    assert_eq!(message.as_text(), Some("too much"));
    assert_eq!(room.tell(), Ok(()), "a place is kept for requests");
    assert_eq!(room.tell(), Err(Refusal::Overloaded));
    assert!(!room.machine.intake().has_space_beside(0, 0, 0));
    room.leave(&ada);
    assert_eq!(room.machine.mailbox.len(), 4);
    assert_eq!(room.machine.stats(room.now).account.dropped_messages, 0);
}

#[test]
fn a_mailbox_is_full_by_bytes_too_and_one_event_always_fits() {
    let mut room = Bench::with(Options::new().mailbox(1000, 40_000));
    let (ada, grace) = (room.join("ada"), room.join("grace"));
    let large = |length| crate::Message::from("x".repeat(length));
    let say = |room: &mut Bench, who: &Connection, length| {
        let event = Event::Message { sender: who.clone(), message: large(length) };
        room.machine.push(room.now, event).map_err(|(refusal, _)| refusal)
    };
    let _ = room.message(&ada, "runs");
    assert_eq!(say(&mut room, &ada, 50_000), Ok(()), "more than there may be");
    assert_eq!(say(&mut room, &grace, 1), Err(Refusal::Overloaded));
    room.done();
    for (who, length) in [(&ada, 9_000), (&grace, 9_000)] {
        assert_eq!(say(&mut room, who, length), Ok(()));
        assert_eq!(say(&mut room, who, 1_000), Err(Refusal::Overloaded), "a quarter each");
    }
    let bytes = room.machine.mailbox.bytes();
    assert!((18_000..20_000).contains(&bytes), "{bytes}");
}

#[test]
fn one_connection_over_the_limit_is_refused_until_another_has_left() {
    let mut room = Bench::with(Options::new().max_connections(1));
    let ada = room.join("ada");
    assert_eq!(room.connect("grace").1, Err(Refusal::Full));
    room.leave(&ada);
    assert_eq!(room.connect("grace").1, Ok(()));
}

#[test]
fn a_room_that_holds_too_much_takes_the_next_event_when_the_commit_has_ended() {
    for fails in [false, true] {
        // Two messages of 5 bytes take 522.
        let mut room = Bench::with(Options::new().max_held(521));
        let ada = room.join("ada");
        let _ = (room.message(&ada, "1"), room.message(&ada, "2"), room.message(&ada, "3"));
        room.put("a");
        room.send(&ada, "12345");
        room.done();
        room.send(&ada, "67890");
        room.done();
        assert_eq!(room.trace(), ["on_message ada 1", "commit 1", "on_message ada 2"]);
        if fails {
            room.commit_fails();
            assert_eq!(room.trace(), ["drop", "claim"]);
        } else {
            room.committed();
            let trace = room.trace();
            assert_eq!(trace, ["ada <- 12345", "ada <- 67890", "on_message ada 3", "flush"]);
        }
    }
}

/// A busy room does not collect what it says without end before any of it leaves.
#[test]
fn what_several_handlers_said_leaves_when_it_takes_1_mib() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let long: &str = "x".repeat(300 << 10).leak();
    (0..8).for_each(|_| assert!(room.message(&ada, "x").is_ok()));
    for _ in 0..8 {
        room.send(&ada, long);
        room.done();
    }
    let trace = room.trace();
    let said_by = |upto: usize| trace[..upto].iter().filter(|it| it.contains("<-")).count();
    let flushes = (0..trace.len()).filter(|at| trace[*at] == "flush").map(said_by);
    assert_eq!(flushes.collect::<Vec<_>>(), [4, 8]);
}

#[test]
fn a_failed_commit_undoes_states_of_several_batches_newest_first() {
    let mut room = Bench::new();
    let ada = room.join("ada");
    let set = |room: &mut Bench, state: &'static str| {
        assert!(room.turn().set_state(&ada, Some(Bytes::from(state))).is_ok());
    };
    (0..4).for_each(|_| assert!(room.message(&ada, "x").is_ok()));
    set(&mut room, "durable");
    room.done();
    set(&mut room, "in flight");
    room.put("a");
    room.done();
    set(&mut room, "after it");
    room.done();
    set(&mut room, "waiting");
    room.put("b");
    room.done();
    assert_eq!(ada.committed_state().as_deref(), Some(&b"waiting"[..]));
    room.commit_fails();
    assert_eq!(ada.committed_state().as_deref(), Some(&b"durable"[..]));
}

#[test]
fn a_close_that_is_taken_back_leaves_the_connection_open() {
    let mut room = Bench::new();
    let (ada, grace) = (room.join("ada"), room.join("grace"));
    let _ = room.message(&ada, "1");
    room.turn().close(&ada, Close::normal());
    room.put("a");
    room.turn().close(&grace, Close::normal());
    assert_eq!(room.machine.roster().count(), 0);
    room.panic();
    let trace = room.trace();
    assert_eq!(trace, ["on_message ada 1", "close ada 1000", "drop", "on_start Wake", "flush"]);
    assert_eq!(room.machine.roster().all()[..], [grace]);
}
