//! What may be set as a schedule, by cron expressions too, and that nothing is lost whatever fails.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use partykit_core::{
    Backend, Batch, MemoryBackend, ScheduleError, Timestamp, WakeUp, When, testing::FaultyBackend,
};

use crate::{
    schedules::ran,
    script::{inside, seconds, test, told},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_over_a_limit_is_refused_and_nothing_is_written() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async move {
                let schedules = room.schedules();
                let second = || When::After(SECOND);
                let long = "n".repeat(257);
                for name in ["", &long] {
                    let error = schedules.set(name, second()).await.unwrap_err();
                    assert!(matches!(error, ScheduleError::InvalidName(_)), "{error}");
                }
                schedules.set(&long[1..], second()).await.unwrap();
                let error =
                    schedules.set_with("a", second(), &"x".repeat(65_536)).await.unwrap_err();
                assert!(matches!(error, ScheduleError::PayloadTooLarge(65_538)), "{error}");
                schedules.set_with("a", second(), &"x".repeat(65_534)).await.unwrap();
                let often = When::Every(Duration::from_millis(999));
                let error = schedules.set("a", often).await.unwrap_err();
                assert!(matches!(error, ScheduleError::TooOften), "{error}");
                let last = Timestamp::from_millis(8_640_000_000_000_000);
                let error = schedules.set("b", When::At(last + SECOND)).await.unwrap_err();
                assert!(matches!(error, ScheduleError::TooLate(_)), "{error}");
                let error = schedules.set("b", When::After(Duration::MAX)).await.unwrap_err();
                assert!(matches!(error, ScheduleError::TooLate(_)), "{error}");
                schedules.set("b", When::At(last)).await.unwrap();
                for n in 0..997 {
                    schedules.set(&format!("{n}"), second()).await.unwrap();
                }
                let error = schedules.set("one more", second()).await.unwrap_err();
                assert!(matches!(error, ScheduleError::TooMany), "{error}");
                schedules.set("0", When::After(2 * SECOND)).await.unwrap();
                schedules.delete("1").await.unwrap();
                schedules.set("one more", second()).await.unwrap();
                assert_eq!(schedules.list().await.unwrap().len(), 1000);
            })
        })
        .await;
        assert_eq!(room.schedules().await.len(), 1000);
    });
}

#[test]
fn a_handler_cannot_write_more_schedules_than_rows() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async move {
                let payload = "x".repeat(65_534);
                let mut set = 0;
                let error = loop {
                    let name = format!("{set}");
                    match room.schedules().set_with(&name, When::After(SECOND), &payload).await {
                        Ok(()) => set += 1,
                        Err(error) => break error,
                    }
                };
                assert!(error.to_string().contains("the handler would write"), "{error}");
                assert_eq!(set, (32 << 20) / 65_540);
            })
        })
        .await;
    });
}

#[test]
fn two_that_set_one_name_at_the_same_time_leave_one() {
    test(async |stage| {
        let (room, _) = stage.faulty();
        room.request(told("after:a=5 after:b=9")).await.unwrap();
        inside(&room, |room| {
            Box::pin(async move {
                let schedules = room.schedules();
                let (one, two) = futures_util::future::join(
                    schedules.set("a", When::After(3 * SECOND)),
                    schedules.set("a", When::After(4 * SECOND)),
                )
                .await;
                one.unwrap();
                two.unwrap();
            })
        })
        .await;
        room.advance(60 * SECOND).await;
        assert_eq!(ran(&stage), ["run a at 4 due 4", "run b at 9 due 9"]);
        assert_eq!(room.wake_up().await, None, "nothing is left in the order");
    });
}

#[cfg(feature = "cron")]
mod cron {
    use partykit_core::Cron;

    use super::*;

    #[test]
    fn a_cron_expression_runs_at_its_moments_and_a_sleep_of_the_server_makes_one_of_many() {
        test(async |stage| {
            let room = stage.room();
            inside(&room, |room| {
                Box::pin(async move {
                    let hourly = Cron::new("0 * * * *").unwrap();
                    room.schedules().set("hourly", hourly.clone()).await.unwrap();
                    room.schedules().set("hourly", hourly).await.unwrap();
                    let evening = Cron::new("30 18 * * *").unwrap().zone("+01:00").unwrap();
                    room.schedules().set("evening", evening).await.unwrap();
                })
            })
            .await;
            room.advance(7205 * SECOND).await;
            assert_eq!(ran(&stage), ["run hourly at 3600 due 3600", "run hourly at 7200 due 7200"]);
            stage.on("start", "fail");
            room.crash().await;
            room.advance(Duration::from_secs(20 * 3600)).await;
            stage.on("start", "");
            room.advance(60 * SECOND).await;
            let noted = ran(&stage);
            assert!(noted[0].ends_with("due 10800 missed 19"), "{noted:?}");
            assert!(noted[1].ends_with("due 63000"), "17:30 in UTC: {noted:?}");
            assert_eq!(noted.len(), 2);
        });
    }

    #[test]
    fn an_expression_that_never_comes_true_is_refused() {
        test(async |stage| {
            let room = stage.room();
            inside(&room, |room| {
                Box::pin(async move {
                    let never = Cron::new("0 0 30 2 *").unwrap();
                    let error = room.schedules().set("never", never).await.unwrap_err();
                    assert!(matches!(error, ScheduleError::Never(_)), "{error}");
                    assert!(error.to_string().contains("0 0 30 2 *"), "{error}");
                    let json = r#"{"cron":{"expression":"nonsense"}}"#;
                    let nonsense: When = serde_json::from_str(json).unwrap();
                    let error = room.schedules().set("nonsense", nonsense).await.unwrap_err();
                    assert!(matches!(error, ScheduleError::Cron(_)), "{error}");
                    let json = r#"{"cron":{"expression":"0 9 * * *","zone":"Mars"}}"#;
                    let mars: When = serde_json::from_str(json).unwrap();
                    assert!(room.schedules().set("mars", mars).await.is_err());
                    assert!(room.schedules().list().await.unwrap().is_empty());
                })
            })
            .await;
        });
    }
}

/// Each occurrence of each schedule runs, or is counted as missed by one that runs; none before its time; and
/// what is left over when all is well again is what was set.
#[test]
fn none_is_lost_and_none_runs_before_its_time_whatever_fails() {
    for seed in 0..20 {
        test(async |stage| {
            let backend = FaultyBackend::new(MemoryBackend::default(), seed)
                .fail_commits(0.2)
                .fail_reads(0.1)
                .delay(0..=2);
            let room = stage.builder().seed(seed).backend(Arc::new(backend.clone())).build();
            let periods = [("a", 3_i64), ("b", 7), ("c", 11)];
            stage.on("start", "every:a=3 every:b=7");
            while room
                .request(told("every:a=3 every:b=7 every:c=11 at:once=40 alarm:45"))
                .await
                .is_err()
            {
                room.advance(SECOND).await;
            }
            let mut random = seed;
            for _ in 0..60 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match (random >> 33) % 8 {
                    0 => room.crash().await,
                    1 => drop(room.hibernate().await),
                    2 => drop(room.request(told("put:k=v")).await),
                    3 => drop(room.request(told("every:c=11 fail")).await),
                    _ => room.advance(SECOND).await,
                }
            }
            drop(backend.clone().fail_commits(0.0).fail_reads(0.0));
            room.advance(400 * SECOND).await;
            let journal = stage.journal();
            // The last time that each occurrence began: an earlier attempt may not have been stored.
            let mut runs: BTreeMap<(String, i64), i64> = BTreeMap::new();
            for line in journal.iter().filter(|line| line.starts_with("run ")) {
                let words: Vec<&str> = line.split(' ').collect();
                let number = |n: usize| words[n].parse::<i64>().unwrap();
                let (name, at, due) = (words[1], number(3), number(5));
                assert!(at >= due, "seed {seed}: before its time: {line}");
                let missed = words.iter().position(|word| *word == "missed");
                runs.insert((name.to_owned(), due), missed.map_or(0, |at| number(at + 1)));
            }
            for (name, period) in periods {
                let of_it: Vec<_> = runs.iter().filter(|((of, _), _)| of == name).collect();
                for pair in of_it.windows(2) {
                    let [((_, due), missed), ((_, next), _)] = pair else { unreachable!() };
                    let ought = due + period * (*missed + 1);
                    assert_eq!(*next, ought, "seed {seed}: {name}: {journal:#?}");
                }
                assert!(of_it.len() > 30, "seed {seed}: {name} ran {} times", of_it.len());
            }
            assert!(runs.contains_key(&("once".to_owned(), 40)), "seed {seed}: {journal:#?}");
            assert!(journal.iter().any(|line| line.starts_with("alarm at")), "seed {seed}");
            assert_eq!(room.alarm().await, None);
            let left: Vec<_> = room.schedules().await.into_iter().map(|it| it.name).collect();
            assert_eq!(left, ["a", "b", "c"], "seed {seed}");
            assert!(ran(&stage).is_empty());
        });
    }
}

/// A program without the feature keeps the rows of schedules, but its alarms take their wake-up.
#[test]
fn a_late_schedule_whose_wake_up_was_lost_rings_when_it_is_set_again() {
    test(async |stage| {
        let backend = MemoryBackend::default();
        let room = stage.on_backend(backend.clone());
        room.request(told("every:tick=10 after:other=15")).await.unwrap();
        room.crash().await;
        let address = room.address().clone();
        let epoch = backend.claim(&address).await.unwrap().epoch;
        let lost = Batch { wake_up: Some(WakeUp::Never), ..Batch::default() };
        backend.commit(&address, epoch, lost).await.unwrap();
        room.advance(25 * SECOND).await;
        assert_eq!((ran(&stage), room.wake_up().await), (vec![], None));
        room.request(told("every:tick=10")).await.unwrap();
        room.settle().await;
        let expected = ["run tick at 25 due 10 missed 1", "run other at 25 due 15"];
        assert_eq!(ran(&stage), expected);
        assert_eq!(room.wake_up().await.map(seconds), Some(30));
    });
}
