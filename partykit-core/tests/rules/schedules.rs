//! A schedule runs at its time, at least once, whatever happens in between; it is a write of the handler that
//! sets it, and it and the alarm leave one another alone.

use std::time::Duration;

use partykit_core::{MemoryBackend, RoomPhase, WakeCause, testing::TestRoom};

use crate::script::{NOTHING, Script, Stage, heard, seconds, test, told};

const SECOND: Duration = Duration::from_secs(1);

/// The lines of a journal that say what ran.
pub(crate) fn ran(stage: &Stage) -> Vec<String> {
    stage.journal().into_iter().filter(|line| line.starts_with("run ")).collect()
}

/// Has the room do something, and says what it noted.
async fn ask(stage: &Stage, room: &TestRoom<Script>, program: &str) -> Vec<String> {
    stage.journal();
    room.request(told(program)).await.unwrap();
    let journal = stage.journal().into_iter();
    journal.filter(|line| !line.starts_with("start")).collect()
}

#[test]
fn runs_at_its_time_and_not_before_and_once() {
    test(async |stage| {
        let room = stage.room();
        stage.on("schedule", "schedule?:close put:ran=yes all:ran");
        let ada = room.connect("ada").await;
        ada.send("after:close=90=note schedule?:close").await;
        room.advance(89 * SECOND).await;
        assert_eq!(room.stats().phase, RoomPhase::Asleep);
        assert_eq!(stage.journal(), ["start First", "connect ada", "close runs 90"]);
        assert_eq!(room.wake_up().await.map(seconds), Some(90));
        room.advance(SECOND).await;
        let journal = stage.journal();
        assert_eq!(journal, ["start Wake", "run close at 90 due 90 with note", "close runs never"]);
        assert_eq!(heard(&ada), ["ran"]);
        assert_eq!(room.stats().account.last_wake.unwrap().0, WakeCause::Alarm);
        assert_eq!((room.wake_up().await, room.schedules().await.len()), (None, 0));
        room.advance(1000 * SECOND).await;
        assert_eq!(stage.journal(), NOTHING);
    });
}

#[test]
fn the_alarm_and_the_schedules_never_erase_one_another() {
    for order in [
        "alarm:30 after:a=10 after:b=20",
        "after:b=20 after:a=10 alarm:30",
        "after:a=10 alarm:5 alarm:30 after:b=20",
    ] {
        for apart in [false, true] {
            test(async |stage| {
                let room = stage.room();
                match apart {
                    true => {
                        for word in order.split(' ') {
                            room.request(told(word)).await.unwrap();
                            room.hibernate().await.unwrap();
                        }
                    }
                    false => drop(room.request(told(order)).await.unwrap()),
                }
                assert_eq!(room.wake_up().await.map(seconds), Some(10), "{order}");
                room.crash().await;
                room.advance(100 * SECOND).await;
                let journal = stage.journal().into_iter();
                let rang: Vec<_> = journal.filter(|line| line.contains(" due ")).collect();
                let ought = ["run a at 10 due 10", "run b at 20 due 20", "alarm at 30 due 30"];
                assert_eq!(rang, ought, "{order}");
                assert_eq!(room.wake_up().await, None);
            });
        }
    }
    test(async |stage| {
        let room = stage.room();
        room.request(told("alarm:30 after:a=10")).await.unwrap();
        room.request(told("noalarm")).await.unwrap();
        assert_eq!(room.wake_up().await.map(seconds), Some(10));
        room.request(told("alarm:30")).await.unwrap();
        room.request(told("unset:a")).await.unwrap();
        assert_eq!(
            (room.wake_up().await, room.alarm().await.map(seconds)),
            (room.alarm().await, Some(30))
        );
        room.request(told("after:a=10 clear")).await.unwrap();
        assert_eq!((room.wake_up().await, room.schedules().await.len()), (None, 0));
        room.request(told("after:b=10")).await.unwrap();
        room.erase().await.unwrap();
        assert_eq!((room.wake_up().await, room.schedules().await.len()), (None, 0));
    });
}

#[test]
fn setting_the_same_again_changes_nothing() {
    test(async |stage| {
        let room = stage.room();
        // A room that wakes every 20 s, and sets what is to happen every 50 s.
        stage.on("start", "every:tick=50 after:once=70 after:once=70");
        for _ in 0..15 {
            room.request(told("")).await.unwrap();
            assert_eq!(room.schedules().await.len(), 2);
            room.advance(20 * SECOND).await;
            room.hibernate().await.unwrap();
        }
        let ticks: Vec<_> = ran(&stage).into_iter().filter(|line| line.contains("tick")).collect();
        assert_eq!(ticks.len(), 6, "{ticks:?}");
        assert_eq!(ticks[4], "run tick at 250 due 250");
    });
}

#[test]
fn a_hundred_wakes_that_set_ten_leave_ten() {
    test(async |stage| {
        let room = stage.room();
        let set: Vec<_> = (0..10).map(|n| format!("every:s{n}={}", 1000 + n)).collect();
        stage.on("start", &set.join(" "));
        for _ in 0..100 {
            room.request(told("")).await.unwrap();
            room.advance(11 * SECOND).await;
            room.hibernate().await.unwrap();
        }
        assert!(stage.made() >= 100);
        assert_eq!(room.schedules().await.len(), 10);
        assert_eq!(room.rows(partykit_core::List::new()).await.len(), 0, "users do not see them");
        assert_eq!(ran(&stage).len(), 10);
    });
}

#[test]
fn another_plan_or_payload_replaces_it() {
    test(async |stage| {
        let room = stage.room();
        for (program, next) in [
            ("after:a=100 schedule?:a", "a runs 100"),
            ("after:a=100 schedule?:a", "a runs 100"),
            ("after:a=50 schedule?:a", "a runs 70"),
            ("every:a=50 schedule?:a", "a runs 80"),
            ("every:a=50 schedule?:a", "a runs 80"),
            ("at:a=90 schedule?:a", "a runs 90"),
            ("after:a=50 after:a=50=note schedule?:a", "a runs 110"),
            ("after:a=50=note schedule?:a", "a runs 110"),
            ("after:a=50=other schedule?:a", "a runs 130"),
            ("clear schedule?:a after:a=50=other schedule?:a", "a runs 140"),
        ] {
            let noted = ask(&stage, &room, program).await;
            assert_eq!(noted.last().unwrap(), next, "{program}");
            room.advance(10 * SECOND).await;
        }
        assert_eq!(
            ask(&stage, &room, "unset:a unset:a unset:b").await,
            ["unset a: true", "unset a: false", "unset b: false"]
        );
        assert_eq!(room.wake_up().await, None);
    });
}

#[test]
fn is_set_when_its_handler_succeeds_and_else_not() {
    for failure in ["fail", "panic", "reject:no"] {
        test(async |stage| {
            let room = stage.room();
            room.request(told("after:a=50")).await.unwrap();
            for program in
                ["put:k=v at:a=10", "unset:a", "clear", "after:b=1", "try at:a=9 fail end"]
            {
                drop(room.request(told(&format!("{program} {failure}"))).await);
            }
            room.request(told("try at:a=9 after:b=1 fail end")).await.unwrap();
            assert_eq!(room.wake_up().await.map(seconds), Some(50));
            assert_eq!(room.schedules().await.len(), 1);
            let noted = ask(&stage, &room, "try try at:a=9 end end schedules?").await;
            assert_eq!(noted.last().unwrap(), "schedules: a=9");
        });
    }
}

#[test]
fn missed_runs_become_one_and_every_keeps_its_phase() {
    test(async |stage| {
        let backend = MemoryBackend::default();
        let room = stage.on_backend(backend.clone());
        room.request(told("every:tick=10")).await.unwrap();
        room.advance(25 * SECOND).await;
        assert_eq!(ran(&stage), ["run tick at 10 due 10", "run tick at 20 due 20"]);
        // The store is not looked at for 60 s: nobody runs the room.
        stage.on("start", "fail");
        room.crash().await;
        room.advance(60 * SECOND).await;
        stage.on("start", "");
        assert_eq!(ran(&stage), NOTHING);
        room.advance(60 * SECOND).await;
        let ran = ran(&stage);
        let (first, rest) = ran.split_first().unwrap();
        let at: i64 = first.split(' ').nth(3).unwrap().parse().unwrap();
        let missed = (at - 30) / 10;
        assert_eq!(*first, format!("run tick at {at} due 30 missed {missed}"));
        let expected: Vec<_> =
            (at / 10 + 1..=14).map(|n| format!("run tick at {0} due {0}", 10 * n)).collect();
        assert_eq!(rest, expected);
    });
}

#[test]
fn what_a_slow_handler_misses_is_counted_as_well() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("every:tick=1")).await.unwrap();
        stage.on("tick", "wait:gate");
        room.advance(Duration::from_millis(4500)).await;
        stage.on("tick", "");
        assert!(stage.open("gate"));
        room.settle().await;
        let noted = ran(&stage);
        assert_eq!(noted, ["run tick at 1 due 1", "run tick at 4 due 2 missed 2"]);
        room.advance(SECOND).await;
        assert_eq!(ran(&stage), ["run tick at 5 due 5"], "1 and 1 + 2 and 1 make five");
    });
}

#[test]
fn those_of_one_moment_run_one_after_another_the_alarm_first() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("at:b=10 at:a=10 alarm:10 at:c=9 every:tick=5")).await.unwrap();
        room.advance(10 * SECOND).await;
        let journal = stage.journal().into_iter();
        let rang: Vec<_> = journal.filter(|line| line.contains(" due ")).collect();
        let expected = [
            "run tick at 5 due 5",
            "run c at 9 due 9",
            "alarm at 10 due 10",
            "run a at 10 due 10",
            "run b at 10 due 10",
            "run tick at 10 due 10",
        ];
        assert_eq!(rang, expected);
    });
}

#[test]
fn a_handler_may_set_and_delete_its_own_schedule() {
    for sync in ["", "sync "] {
        test(async |stage| {
            let room = stage.room();
            stage.on("once", &format!("after:once=5 {sync}schedule?:once"));
            stage.on("tick", &format!("schedule?:tick every:tick=10 {sync}schedule?:tick"));
            stage.on("gone", &format!("unset:gone {sync}schedule?:gone"));
            stage.on("other", &format!("every:other=7 {sync}schedule?:other"));
            room.request(told("after:once=5 every:tick=10 every:gone=4 every:other=6"))
                .await
                .unwrap();
            room.advance(14 * SECOND).await;
            let expected = [
                "run gone at 4 due 4",
                "unset gone: true",
                "gone runs never",
                "run once at 5 due 5",
                "once runs 10",
                "run other at 6 due 6",
                "other runs 13",
                "run once at 10 due 10",
                "once runs 15",
                "run tick at 10 due 10",
                "tick runs 20",
                "tick runs 20",
                "run other at 13 due 13",
                "other runs 20",
            ];
            let journal = stage.journal().into_iter();
            let noted: Vec<_> = journal.filter(|line| !line.starts_with("start")).collect();
            assert_eq!(noted, expected, "{sync:?}");
            assert_eq!(
                ask(&stage, &room, "schedules?").await,
                ["schedules: once=15 other=20 tick=20"]
            );
        });
    }
}

#[test]
fn a_handler_that_deletes_its_schedule_and_syncs_has_still_to_end() {
    for program in ["unset:a put:k=v sync", "clear sync", "clear put:k=v sync unset:a sync"] {
        for set in ["after:a=10", "every:a=10"] {
            for end in ["stuck", "fail", "panic"] {
                test(async |stage| {
                    let room = stage.room();
                    stage.on("a", &format!("{program} schedule?:a {end}"));
                    room.request(told(set)).await.unwrap();
                    room.advance(10 * SECOND).await;
                    let journal = stage.journal();
                    assert!(journal.contains(&"a runs never".to_owned()), "{journal:?}");
                    stage.on("a", program);
                    if end == "stuck" {
                        room.crash().await;
                    }
                    room.advance(60 * SECOND).await;
                    let again = ran(&stage);
                    let why = if end == "stuck" { "deaths" } else { "retry" };
                    assert_eq!(again.len(), 1, "{program} {end}: {again:?}");
                    assert!(again[0].ends_with(&format!("{why} 1")), "{program} {end}: {again:?}");
                    assert_eq!((room.wake_up().await, room.schedules().await.len()), (None, 0));
                });
            }
        }
    }
}

#[test]
fn one_that_fails_is_tried_six_times_and_then_given_up_or_goes_on() {
    for failure in ["fail", "panic"] {
        test(async |stage| {
            let room = stage.room();
            stage.on("schedule", &format!("put:half=done {failure}"));
            room.request(told("after:once=100 every:tick=1000")).await.unwrap();
            room.advance(999 * SECOND).await;
            let mut at = 100;
            let mut expected = vec!["run once at 100 due 100".to_owned()];
            for retry in 1..=6 {
                at += 1 << retry;
                expected.push(format!("run once at {at} due 100 retry {retry}"));
            }
            assert_eq!(ran(&stage), expected);
            assert_eq!(room.schedules().await.len(), 1, "it is given up");
            room.advance(200 * SECOND).await;
            let noted = ran(&stage);
            assert_eq!((noted.len(), &*noted[6]), (7, "run tick at 1126 due 1000 retry 6"));
            assert_eq!(room.wake_up().await.map(seconds), Some(2000), "it goes on");
            stage.on("schedule", "");
            room.advance(1000 * SECOND).await;
            assert_eq!(ran(&stage), ["run tick at 2000 due 2000"]);
            assert_eq!(room.stored::<String>("half").await, None);
        });
    }
}

#[test]
fn a_retry_is_no_reason_to_forget_the_others() {
    test(async |stage| {
        let room = stage.room();
        stage.on("bad", "fail");
        room.request(told("after:bad=10 every:tick=1 alarm:11")).await.unwrap();
        room.advance(20 * SECOND).await;
        let journal = stage.journal();
        assert_eq!(journal.iter().filter(|line| line.starts_with("run tick")).count(), 20);
        assert_eq!(journal.iter().filter(|line| line.starts_with("run bad")).count(), 3);
        assert_eq!(journal.iter().filter(|line| line.starts_with("alarm at 11")).count(), 1);
        let errors = journal.iter().filter(|line| line.starts_with("error on_schedule")).count();
        assert_eq!(errors, 3, "the error names the handler");
    });
}

#[test]
fn a_process_that_dies_in_one_comes_back_to_it_later_and_never_gives_it_up() {
    test(async |stage| {
        let room = stage.room();
        stage.on("bad", "put:half=done stuck");
        room.request(told("after:bad=10 every:tick=5")).await.unwrap();
        room.advance(10 * SECOND).await;
        stage.journal();
        let mut least = 2;
        for deaths in 1..20 {
            room.crash().await;
            let mut waited = 0;
            let line = loop {
                let noted = ran(&stage);
                if let Some(line) = noted.iter().find(|line| line.starts_with("run bad")) {
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
        stage.on("bad", "put:ran=yes");
        room.crash().await;
        room.advance(Duration::from_secs(460)).await;
        assert_eq!(room.stored::<String>("half").await, None);
        assert_eq!(room.stored::<String>("ran").await.as_deref(), Some("yes"));
        let schedules = room.schedules().await;
        assert_eq!((schedules.len(), &*schedules[0].name), (1, "tick"));
        let ticks = ran(&stage).iter().filter(|line| line.starts_with("run tick")).count();
        assert!(ticks > 80, "the others go on meanwhile: {ticks}");
    });
}

#[test]
fn a_start_sees_the_schedule_that_it_is_for_and_may_replace_it() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("after:a=10 every:b=10")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "schedules?");
        room.advance(10 * SECOND).await;
        let expected =
            ["start Restart", "schedules: a=10 b=10", "run a at 10 due 10", "run b at 10 due 10"];
        assert_eq!(stage.journal()[1..], expected);

        // As `after` in `on_start` does: the same, so that nothing changes.
        room.request(told("unset:b after:a=10")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "after:a=10 schedules?");
        stage.journal();
        room.advance(10 * SECOND).await;
        let expected = ["start Restart", "schedules: a=20", "run a at 20 due 20"];
        assert_eq!(stage.journal(), expected);

        room.request(told("after:a=10")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "at:a=90 schedules?");
        stage.journal();
        room.advance(10 * SECOND).await;
        assert_eq!(stage.journal(), ["start Restart", "schedules: a=90"]);
        stage.on("start", "");
        room.crash().await;
        room.advance(100 * SECOND).await;
        assert_eq!(ran(&stage), ["run a at 90 due 90"]);
    });
}

#[test]
fn a_room_that_cannot_start_keeps_them() {
    test(async |stage| {
        let room = stage.room();
        room.request(told("after:a=10 every:b=7")).await.unwrap();
        room.hibernate().await.unwrap();
        stage.on("start", "fail");
        room.advance(200 * SECOND).await;
        assert_eq!(ran(&stage), NOTHING);
        let rows = room.schedules().await;
        assert_eq!(
            rows.iter().map(|row| (row.retries, row.deaths)).collect::<Vec<_>>(),
            [(0, 0); 2]
        );
        stage.on("start", "");
        room.advance(60 * SECOND).await;
        let noted = ran(&stage);
        assert!(noted[0].starts_with("run b at") && noted[0].contains("due 7 missed"), "{noted:?}");
        assert!(noted[1].starts_with("run a at") && noted[1].ends_with("due 10"), "{noted:?}");
    });
}

#[test]
fn a_crash_between_the_attempt_and_the_handler_loses_nothing() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        stage.on("a", "put:ran=yes");
        room.request(told("after:a=10 every:b=60")).await.unwrap();
        room.hibernate().await.unwrap();
        store.hold_commits();
        stage.journal();
        room.advance(10 * SECOND).await;
        assert_eq!(stage.journal(), NOTHING, "the attempt is not stored, so nothing runs");
        room.crash().await;
        store.release_commits();
        room.settle().await;
        assert_eq!(ran(&stage), ["run a at 10 due 10"], "no death, and no pause");
        assert_eq!(room.schedules().await.len(), 1);
    });
}
