//! An alarm rings at its time, at least once, whatever happens in between; it is a write of the handler
//! that sets it.

use std::{sync::Arc, time::Duration};

use partykit_core::{
    MemoryBackend, RoomPhase, StorageError, Timestamp, WakeCause, testing::FaultyBackend,
};

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

/// The lines of a journal that say when the alarm rang.
fn rung(journal: &[String]) -> Vec<&str> {
    journal.iter().map(String::as_str).filter(|line| line.starts_with("alarm at")).collect()
}

#[test]
fn a_process_that_dies_in_the_handler_comes_back_to_it_later_and_never_gives_it_up() {
    test(async |stage| {
        let room = stage.room();
        stage.on("alarm", "put:half=done stuck");
        room.request(told("alarm:10")).await.unwrap();
        room.advance(10 * SECOND).await;
        assert_eq!(rung(&stage.journal()), ["alarm at 10 due 10"]);
        let mut least = 2;
        for deaths in 1..30 {
            room.crash().await;
            assert!(room.alarm().await.is_some(), "nothing is deleted because a process died");
            let mut waited = 0;
            let line = loop {
                if let [line] = rung(&stage.journal())[..] {
                    break line.to_owned();
                }
                assert!(waited <= 460, "{deaths}");
                waited += 1;
                room.advance(SECOND).await;
            };
            assert!((least..=least * 3 / 2 + 1).contains(&waited), "{deaths} deaths, {waited} s");
            assert!(line.ends_with(&format!("due 10 deaths {deaths}")), "{line}");
            least = (2 * least).min(300);
        }
        assert_eq!(room.stored::<String>("half").await, None);
        stage.on("alarm", "put:rang=yes");
        room.crash().await;
        room.advance(Duration::from_secs(460)).await;
        assert_eq!(room.stored::<String>("rang").await.as_deref(), Some("yes"));
        assert_eq!(room.alarm().await, None);
    });
}

#[test]
fn a_process_that_dies_before_the_attempt_is_stored_has_not_rung_it() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        stage.on("start", "put:started=yes");
        stage.on("alarm", "put:rang=yes");
        room.request(told("alarm:10")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.journal();
        store.hold_commits();
        room.advance(10 * SECOND).await;
        assert_eq!(stage.journal(), NOTHING, "neither the start nor the handler has begun");
        room.crash().await;
        store.release_commits();
        room.settle().await;
        assert_eq!(rung(&stage.journal()), ["alarm at 10 due 10"], "no death, and no pause");
    });
}

#[test]
fn a_start_that_kills_the_process_counts_for_the_alarm_that_asked_for_it() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("alarm:10")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "stuck");
        stage.journal();
        room.advance(10 * SECOND).await;
        assert_eq!(stage.journal(), ["start Restart"]);
        room.crash().await;
        assert_eq!(stage.journal(), NOTHING, "it does not start again at once");
        room.advance(4 * SECOND).await;
        assert_eq!(stage.journal(), ["start Restart"]);
        stage.on("start", "");
        room.crash().await;
        room.advance(3 * SECOND).await;
        assert_eq!(stage.journal(), NOTHING);
        room.advance(4 * SECOND).await;
        let journal = stage.journal();
        assert!(journal[1].ends_with("due 10 deaths 2"), "{journal:?}");
    });
}

#[test]
fn deaths_use_up_no_retry_and_failures_no_pause() {
    test(async |stage| {
        let room = stage.room();
        stage.on("alarm", "stuck");
        room.request(told("alarm:10")).await.unwrap();
        for _ in 0..5 {
            while rung(&stage.journal()).is_empty() {
                room.advance(SECOND).await;
            }
            room.crash().await;
        }
        stage.on("alarm", "fail");
        room.advance(Duration::from_secs(3600)).await;
        let journal = stage.journal();
        let told: Vec<&str> =
            rung(&journal).iter().map(|line| line.split_once("due 10 ").unwrap().1).collect();
        let mut ought = vec!["deaths 5".to_owned()];
        ought.extend((1..=6).map(|retry| format!("retry {retry} deaths 5")));
        assert_eq!(told, ought);
        assert_eq!(room.alarm().await, None, "its own failures end it");
    });
}

#[test]
fn a_commit_of_another_handler_that_fails_is_neither_a_failure_of_it_nor_a_death() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        stage.on("alarm", "wait:gate");
        let ada = room.connect("ada").await;
        ada.send("alarm:10").await;
        store.hold_commits();
        ada.send("put:k=v").await;
        store.fail_next_commit();
        let settled = async {
            room.advance(10 * SECOND).await;
            store.release_commits();
            room.settle().await;
        };
        settled.await;
        stage.on("alarm", "put:rang=yes");
        room.advance(5 * SECOND).await;
        let journal = stage.journal();
        let last = rung(&journal).last().copied().unwrap_or_default();
        assert!(last.ends_with("due 10"), "no retry and no death: {journal:?}");
        assert_eq!(room.stored::<String>("rang").await.as_deref(), Some("yes"));
    });
}

#[test]
fn a_room_that_cannot_start_gives_the_attempt_back() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("alarm:10")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "fail");
        room.advance(11 * SECOND).await;
        assert_eq!(room.alarm().await.map(seconds), Some(10), "it is due as before");
        stage.on("start", "");
        room.crash().await;
        let journal = stage.journal();
        assert!(rung(&journal)[0].ends_with("due 10"), "no death: {journal:?}");
    });
}

#[test]
fn a_start_sees_the_alarm_that_it_is_for_and_may_replace_it() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("alarm:10")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "alarm?");
        room.advance(10 * SECOND).await;
        assert_eq!(stage.journal()[1..], ["start Restart", "alarm=10", "alarm at 10 due 10"]);

        room.request(told("alarm:20")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "alarm:60 alarm?");
        stage.journal();
        room.advance(10 * SECOND).await;
        assert_eq!(stage.journal(), ["start Restart", "alarm=60"]);
        stage.on("start", "");
        room.crash().await;
        room.advance(100 * SECOND).await;
        assert_eq!(rung(&stage.journal()), ["alarm at 60 due 60"], "as if 20 had not been");
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
        room.advance(3 * SECOND).await;
        assert_eq!(room.stored::<String>("rang").await.as_deref(), Some("yes"));
        assert_eq!(room.alarm().await, None);

        // What it set before the sync stands: it is the room's alarm, and there is one only.
        stage.on("alarm", "alarm:60 sync fail");
        room.request(told("alarm:20")).await.unwrap();
        room.advance(7 * SECOND).await;
        stage.on("alarm", "");
        stage.journal();
        room.advance(1000 * SECOND).await;
        assert_eq!(stage.journal(), ["start Restart", "alarm at 60 due 60"]);
    });
}

#[test]
fn a_sync_of_a_handler_that_deletes_does_not_lose_it() {
    for program in ["noalarm put:k=v sync", "clear sync", "clear put:k=v sync noalarm sync"] {
        for end in ["stuck", "fail", "panic"] {
            test(async |stage| {
                let room = stage.room();
                stage.on("alarm", &format!("{program} alarm? {end}"));
                room.request(told("alarm:10")).await.unwrap();
                room.advance(10 * SECOND).await;
                assert!(stage.journal().contains(&"alarm=none".to_owned()));
                stage.on("alarm", program);
                if end == "stuck" {
                    room.crash().await;
                }
                room.advance(60 * SECOND).await;
                let journal = stage.journal();
                let again: Vec<_> =
                    journal.iter().filter(|line| line.starts_with("alarm at")).collect();
                assert_eq!(again.len(), 1, "{program} {end}: {journal:?}");
                let why = if end == "stuck" { "deaths" } else { "retry" };
                let told = format!("due 10 {why} 1");
                assert!(again[0].ends_with(&told), "{program} {end}: {journal:?}");
                assert_eq!(room.alarm().await, None, "{program} {end}");
            });
        }
    }
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
