//! An alarm rings at its time, at least once, whatever happens in between; it is a write of the handler
//! that sets it.

use std::{sync::Arc, time::Duration};

use partykit_core::{FaultyBackend, MemoryBackend, RoomPhase, StorageError, Timestamp, WakeCause};

use crate::script::{NOTHING, heard, inside, seconds, test, told};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn rings_at_its_time_and_not_before_and_once() {
    test(async |stage| {
        let room = stage.room();
        stage.on("alarm", "alarm? put:rang=yes all:rang");
        let ada = room.connect("ada").await;
        ada.send("alarm:90 alarm?").await;
        room.advance(89 * SECOND).await;
        assert_eq!(room.stats().phase, RoomPhase::Asleep);
        assert_eq!(stage.journal(), ["start First", "connect ada", "alarm=90"]);
        assert_eq!(room.alarm().await.map(seconds), Some(90));
        room.advance(SECOND).await;
        assert_eq!(stage.journal(), ["start Wake", "alarm at 90 due 90", "alarm=none"]);
        assert_eq!(heard(&ada), ["rang"]);
        assert_eq!(room.stats().account.last_wake.unwrap().0, WakeCause::Alarm);
        assert_eq!(room.alarm().await, None);
        room.advance(1000 * SECOND).await;
        assert_eq!(stage.journal(), NOTHING);
    });
}

#[test]
fn wakes_a_room_in_which_nobody_is_also_after_the_process_has_ended() {
    test(async |stage| {
        let backend = MemoryBackend::default();
        let room = stage.on_backend(backend.clone());
        room.request(told("alarm:30")).await.unwrap();
        room.crash().await;
        room.advance(29 * SECOND).await;
        assert_eq!(stage.journal(), ["start First"]);
        room.advance(SECOND).await;
        assert_eq!(stage.journal(), ["start Restart", "alarm at 30 due 30"]);

        room.request(told("alarm:100")).await.unwrap();
        drop(room);
        let next = stage.on_backend(backend);
        stage.journal();
        next.advance(500 * SECOND).await;
        assert_eq!(stage.journal(), ["start Restart", "alarm at 100 due 100"]);
    });
}

#[test]
fn a_moment_that_has_passed_is_now_and_one_too_late_is_an_error() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("alarm:-1000000")).await.unwrap();
        assert_eq!(stage.journal(), ["start First", "alarm at 0 due -1000000"]);
        let last = Timestamp::from_millis(8_640_000_000_000_000);
        inside(&room, move |room| {
            Box::pin(async move {
                let storage = room.storage();
                storage.set_alarm(Timestamp::default()).unwrap();
                storage.set_alarm(last).unwrap();
                let error = storage.set_alarm(last + Duration::from_millis(1)).unwrap_err();
                assert!(matches!(error, StorageError::AlarmTooLate(_)), "{error}");
                assert!(error.to_string().contains("8640000000000000"), "{error}");
                assert_eq!(storage.alarm().await.unwrap(), Some(last), "nothing was written");
            })
        })
        .await;
        assert_eq!(room.alarm().await, Some(last));
        stage.journal();
        room.advance(Duration::from_secs(1 << 32)).await;
        assert_eq!(stage.journal(), NOTHING);
    });
}

#[test]
fn there_is_one_and_it_can_be_replaced_and_deleted() {
    test(async |stage| {
        let room = stage.room();
        for (program, expected) in [
            ("alarm:10 alarm:20 alarm?", "alarm=20"),
            ("alarm:5 alarm?", "alarm=5"),
            ("alarm?", "alarm=5"),
            ("noalarm alarm?", "alarm=none"),
            ("noalarm noalarm alarm:7 alarm?", "alarm=7"),
            ("clear alarm?", "alarm=none"),
            ("alarm:9 clear alarm:8 alarm?", "alarm=8"),
            ("noalarm", ""),
        ] {
            stage.journal();
            room.request(told(program)).await.unwrap();
            assert_eq!(stage.journal().pop().unwrap_or_default(), expected, "{program}");
        }
        assert_eq!(room.alarm().await, None);
        room.request(told("alarm:10")).await.unwrap();
        room.request(told("clear")).await.unwrap();
        room.advance(100 * SECOND).await;
        assert!(!stage.journal().iter().any(|line| line.starts_with("alarm at")));
    });
}

#[test]
fn is_set_when_its_handler_succeeds_and_else_not() {
    for failure in ["fail", "panic"] {
        test(async |stage| {
            let room = stage.room();
            room.request(told("alarm:50")).await.unwrap();
            room.request(told(&format!("put:k=v alarm:10 {failure}"))).await.unwrap_err();
            room.request(told(&format!("noalarm {failure}"))).await.unwrap_err();
            room.request(told(&format!("clear {failure}"))).await.unwrap_err();
            assert_eq!(room.alarm().await.map(seconds), Some(50));
            assert_eq!(room.stored::<String>("k").await, None);
        });
    }
    test(async |stage| {
        let room = stage.room();
        room.request(told("alarm:50 try alarm:10 fail end alarm?")).await.unwrap();
        room.request(told("try noalarm fail end alarm? try alarm:60 end")).await.unwrap();
        let journal = stage.journal();
        assert_eq!(
            journal[1..],
            ["tried false", "alarm=50", "tried false", "alarm=50", "tried true"]
        );
        assert_eq!(room.alarm().await.map(seconds), Some(60));
    });
}

#[test]
fn rings_again_six_times_with_pauses_that_double_and_is_then_given_up() {
    for failure in ["fail", "put:half=done fail", "panic", "stuck"] {
        test(async |stage| {
            let room = stage.room();
            stage.on("alarm", failure);
            room.request(told("alarm:100")).await.unwrap();
            stage.journal();
            room.advance(10_000 * SECOND).await;
            let journal = stage.journal();
            let rung: Vec<_> = journal.iter().filter(|line| line.starts_with("alarm")).collect();
            // A handler that is stuck takes its 30 s before it has failed.
            let took = if failure == "stuck" { 30 } else { 0 };
            let mut at = 100;
            let mut expected = vec!["alarm at 100 due 100".to_owned()];
            for retry in 1..=6 {
                at += took + (1 << retry);
                expected.push(format!("alarm at {at} due 100 retry {retry}"));
            }
            assert_eq!(rung, expected.iter().collect::<Vec<_>>(), "{failure}");
            let errors = journal.iter().filter(|line| line.starts_with("error on_alarm")).count();
            assert_eq!(errors, 7, "{failure}");
            assert_eq!(room.alarm().await, None);
            assert_eq!(room.stored::<String>("half").await, None);
        });
    }
}

#[test]
fn is_over_as_soon_as_its_handler_has_succeeded() {
    test(async |stage| {
        let room = stage.room();
        stage.on("alarm", "fail");
        room.request(told("alarm:1")).await.unwrap();
        room.advance(2 * SECOND).await;
        stage.on("alarm", "put:rang=yes");
        room.request(told("alarm?")).await.unwrap();
        assert_eq!(stage.journal().pop().unwrap(), "alarm=3", "the retry is the room's alarm");
        room.advance(SECOND).await;
        assert_eq!(stage.journal(), ["alarm at 3 due 1 retry 1"]);
        room.advance(1000 * SECOND).await;
        assert_eq!(stage.journal(), NOTHING);
    });
}

#[test]
fn one_that_is_set_takes_the_place_of_one_that_is_retried() {
    test(async |stage| {
        let room = stage.room();
        stage.on("alarm", "fail");
        room.request(told("alarm:1")).await.unwrap();
        room.advance(SECOND).await;
        stage.on("alarm", "");
        room.request(told("alarm:50")).await.unwrap();
        stage.journal();
        room.advance(100 * SECOND).await;
        let journal = stage.journal();
        assert_eq!(journal, ["start Restart", "alarm at 50 due 50"], "and it counts from 0");
    });
}

#[test]
fn its_handler_may_set_the_next_one() {
    test(async |stage| {
        let room = stage.room();
        stage.on("alarm", "alarm:20 alarm?");
        room.request(told("alarm:10")).await.unwrap();
        room.advance(10 * SECOND).await;
        stage.on("alarm", "alarm:30 fail");
        room.advance(10 * SECOND).await;
        stage.on("alarm", "");
        room.advance(100 * SECOND).await;
        let journal = stage.journal();
        let alarms: Vec<_> = journal.iter().filter(|line| line.starts_with("alarm")).collect();
        let expected =
            ["alarm at 10 due 10", "alarm=20", "alarm at 20 due 20", "alarm at 22 due 20 retry 1"];
        assert_eq!(alarms, expected, "the one that was set by a handler which failed is not");
    });
}

#[test]
fn a_process_that_dies_in_the_handler_has_it_ring_again_and_is_counted() {
    test(async |stage| {
        let room = stage.room();
        stage.on("alarm", "put:half=done stuck");
        room.request(told("alarm:10")).await.unwrap();
        room.advance(10 * SECOND).await;
        for _ in 0..9 {
            room.crash().await;
        }
        let journal = stage.journal();
        let rung: Vec<_> = journal.iter().filter(|line| line.starts_with("alarm")).collect();
        assert_eq!(rung.len(), 7, "{journal:?}");
        assert_eq!(rung[6], "alarm at 10 due 10 retry 6");
        assert_eq!(room.alarm().await, None, "a room that kills its process is given up");
        assert_eq!(room.stored::<String>("half").await, None);
    });
}

#[test]
fn a_sync_in_the_handler_does_not_lose_it() {
    test(async |stage| {
        let room = stage.room();
        stage.on("alarm", "put:half=done sync stuck");
        room.request(told("alarm:10")).await.unwrap();
        room.advance(10 * SECOND).await;
        assert_eq!(room.stored::<String>("half").await.as_deref(), Some("done"));
        stage.on("alarm", "sync put:rang=yes");
        room.crash().await;
        assert_eq!(room.stored::<String>("rang").await.as_deref(), Some("yes"));
        assert_eq!(room.alarm().await, None);

        // What it set before the sync stands: it is the room's alarm, and there is one only.
        stage.on("alarm", "alarm:60 sync fail");
        room.request(told("alarm:20")).await.unwrap();
        room.advance(10 * SECOND).await;
        stage.on("alarm", "");
        stage.journal();
        room.advance(1000 * SECOND).await;
        assert_eq!(stage.journal(), ["start Restart", "alarm at 60 due 60"]);
    });
}

#[test]
fn a_room_that_cannot_start_has_it_ring_when_it_can() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("alarm:10")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "fail");
        room.advance(200 * SECOND).await;
        assert!(!stage.journal().iter().any(|line| line.starts_with("alarm")));
        stage.on("start", "");
        room.advance(60 * SECOND).await;
        let journal = stage.journal();
        let rung: Vec<_> = journal.iter().filter(|line| line.starts_with("alarm")).collect();
        assert_eq!(rung.len(), 1, "{journal:?}");
        assert!(rung[0].ends_with("due 10"), "a start that fails is no ring: {journal:?}");
    });
}

#[test]
fn a_commit_that_fails_has_it_ring_again() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        stage.on("alarm", "put:rang=yes all:rang");
        let ada = room.connect("ada").await;
        ada.send("alarm:10").await;
        room.advance(9 * SECOND).await;
        store.hold_commits();
        room.advance(SECOND).await;
        assert_eq!(heard(&ada), NOTHING);
        store.fail_next_commit();
        store.release_commits();
        room.settle().await;
        assert_eq!(heard(&ada), NOTHING, "nothing leaves of a handler that is not stored");
        room.advance(40 * SECOND).await;
        assert_eq!(heard(&ada), ["rang"]);
        assert_eq!(room.alarm().await, None);
        assert_eq!(room.stored::<String>("rang").await.as_deref(), Some("yes"));
    });
}

#[test]
fn none_is_lost_and_none_rings_before_its_time_whatever_fails() {
    for seed in 0..60 {
        test(async |stage| {
            let backend = FaultyBackend::new(MemoryBackend::default(), seed)
                .fail_commits(0.3)
                .fail_reads(0.2)
                .delay(0..=2);
            let room = stage.builder().seed(seed).backend(Arc::new(backend.clone())).build();
            stage.on("alarm", "put:rang=yes");
            let mut random = seed;
            for round in 0..8_u64 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round | 1);
                let wait = (random >> 33) % 20;
                let due = round * 2000 + wait;
                while room.request(told(&format!("delete:rang alarm:{due}"))).await.is_err() {
                    room.advance(SECOND).await;
                    stage.journal();
                }
                for step in 0..wait {
                    match (random >> (step % 60)) & 7 {
                        0 => room.crash().await,
                        1 => drop(room.hibernate().await),
                        _ => room.advance(SECOND).await,
                    }
                }
                drop(backend.clone().fail_commits(0.0).fail_reads(0.0));
                room.advance(300 * SECOND).await;
                let journal = stage.journal();
                let rung: Vec<i64> = journal
                    .iter()
                    .filter_map(|line| line.strip_prefix("alarm at "))
                    .map(|line| line.split(' ').next().unwrap().parse().unwrap())
                    .collect();
                assert!(!rung.is_empty(), "seed {seed}, round {round}: lost, {journal:?}");
                assert!(rung[0] >= due.cast_signed(), "seed {seed}: before its time, {journal:?}");
                assert_eq!(room.stored::<String>("rang").await.as_deref(), Some("yes"));
                assert_eq!(room.alarm().await, None);
                drop(backend.clone().fail_commits(0.3).fail_reads(0.2));
                room.advance(Duration::from_secs(1700)).await;
            }
        });
    }
}
