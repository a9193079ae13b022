//! An idle room sleeps, a busy one does not and says why, and both are booked.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::FutureExt;
use partykit_core::{
    AwakeReason, Body, Handler, Response, Result, Room, RoomPhase, Server, WakeCause,
    testing::TestRoom,
};

use crate::script::{NOTHING, heard, inside, test, told};

const IDLE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn a_room_sleeps_ten_seconds_after_the_last_thing_that_happened() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        assert_eq!(room.stats().sleeps_in, Some(IDLE));
        room.advance(IDLE - MOMENT).await;
        assert_eq!(room.stats().phase, RoomPhase::Awake);
        ada.send("seen").await;
        room.advance(IDLE - MOMENT).await;
        assert_eq!((room.stats().phase, room.stats().sleeps_in), (RoomPhase::Awake, Some(MOMENT)));
        room.advance(MOMENT).await;
        assert_eq!((room.stats().phase, room.stats().sleeps_in), (RoomPhase::Asleep, None));
        assert_eq!((stage.made(), stage.dropped()), (1, 1));
        assert!(ada.is_open());
        assert_eq!(room.stats().connections, 1);

        stage.journal();
        ada.send("seen say:hello").await;
        assert_eq!(stage.journal(), ["start Wake", "seen 1"], "the fields are new");
        assert_eq!(heard(&ada), ["hello"]);
        assert_eq!(room.stats().account.sleeps, 1);
    });
}

#[test]
fn the_idle_time_can_be_chosen_and_begins_when_a_handler_ends() {
    test(async |stage| {
        let second = Duration::from_secs(1);
        let room = stage.builder().options(|options| options.hibernate_after(second)).build();
        let ada = room.connect("ada").await;
        ada.send("wait:end").await;
        room.advance(IDLE).await;
        assert_eq!(room.stats().reasons, [AwakeReason::Handler(Handler::OnMessage)]);
        assert!(stage.open("end"));
        room.settle().await;
        room.advance(second - MOMENT).await;
        assert_eq!(room.stats().phase, RoomPhase::Awake);
        room.advance(MOMENT).await;
        assert_eq!(room.stats().phase, RoomPhase::Asleep);
    });
}

#[test]
fn what_waits_behind_a_handler_is_a_reason() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        for program in ["wait:end", "seen", "seen"] {
            ada.push(program);
        }
        room.settle().await;
        let reasons = room.hibernate().await.unwrap_err();
        assert_eq!(reasons, [AwakeReason::Handler(Handler::OnMessage), AwakeReason::Mailbox(2)]);
        assert!(reasons.iter().all(AwakeReason::is_passing));
    });
}

#[test]
fn a_guard_keeps_awake_until_it_is_dropped_and_names_its_place() {
    test(async |stage| {
        let room = stage.room();
        let (line, guard) =
            inside(&room, |room| Box::pin(async { (line!(), room.keep_awake("playing")) })).await;
        room.advance(IDLE * 10).await;
        let reasons = room.hibernate().await.unwrap_err();
        let [AwakeReason::Guard { name, location }] = &reasons[..] else { panic!("{reasons:?}") };
        assert_eq!((*name, location.file(), location.line()), ("playing", file!(), line));
        assert_eq!(reasons[0].to_string(), format!("guard \"playing\" taken at {location}"));

        drop(guard);
        room.advance(IDLE).await;
        assert_eq!(room.stats().phase, RoomPhase::Asleep);
    });
}

#[test]
fn a_guard_in_a_field_goes_with_the_instance() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("awake").await;
        room.advance(IDLE).await;
        assert_eq!(room.stats().phase, RoomPhase::Awake);
        ada.send("asleep").await;
        room.hibernate().await.unwrap();
        ada.send("awake").await;
        ada.send("panic").await;
        room.hibernate().await.unwrap();
    });
}

#[test]
fn a_task_keeps_awake_until_it_ends_and_names_its_place() {
    test(async |stage| {
        let room = stage.room();
        let latch = stage.wait("task");
        let line = inside(&room, |room| {
            Box::pin(async {
                room.spawn("long", latch.map(|()| String::from("done")));
                line!() - 1
            })
        })
        .await;
        room.advance(IDLE * 10).await;
        let reasons = room.hibernate().await.unwrap_err();
        let [AwakeReason::Task { name, location }] = &reasons[..] else { panic!("{reasons:?}") };
        assert_eq!((*name, location.file(), location.line()), ("long", file!(), line));
        assert!(stage.open("task"));
        room.settle().await;
        room.hibernate().await.unwrap();
    });
}

#[test]
fn a_commit_in_flight_keeps_awake() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        store.hold_commits();
        ada.send("put:k=1").await;
        room.advance(IDLE * 10).await;
        assert_eq!(room.hibernate().await.unwrap_err(), [AwakeReason::Commit]);
        store.release_commits();
        room.advance(IDLE).await;
        assert_eq!(room.stats().phase, RoomPhase::Asleep);
    });
}

/// Answers with a stream that a test feeds.
struct Streamer(Option<mpsc::UnboundedReceiver<Result<Bytes>>>);

impl Server for Streamer {
    async fn on_request(&mut self, _: &Room, _: partykit_core::Request) -> Result<Response> {
        let pieces = self.0.take().ok_or("streamed already")?;
        Ok(Response::new(Body::stream(pieces)))
    }
}

#[test]
fn an_open_response_body_keeps_awake_until_it_ends_or_is_dropped() {
    futures_executor::block_on(async {
        for drops in [true, false] {
            let (feed, pieces) = mpsc::unbounded();
            let pieces = std::sync::Mutex::new(Some(pieces));
            let make = move |_: &_| Streamer(pieces.lock().unwrap().take());
            let room: TestRoom<_> = partykit_core::testing::TestRoomBuilder::new(make)
                .options(|options| options.hibernate(true))
                .build();
            let response = room.request(told("")).await.unwrap();
            room.advance(IDLE * 10).await;
            let reasons = room.hibernate().await.unwrap_err();
            assert_eq!(reasons, [AwakeReason::ResponseBodies(1)]);
            if drops {
                drop(response);
            } else {
                feed.unbounded_send(Ok("hello".into())).unwrap();
                drop(feed);
                let mut body = pin!(response.into_body());
                let mut next = || {
                    let frame =
                        std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx));
                    frame.now_or_never().expect("a frame, or the end")
                };
                assert_eq!(next().unwrap().unwrap().into_data().unwrap(), "hello");
                assert!(next().is_none());
                assert!(room.stats().reasons.is_empty(), "it has ended, though it still exists");
            }
            room.advance(IDLE).await;
            assert_eq!(room.stats().phase, RoomPhase::Asleep);
        }
    });
}

#[test]
fn a_server_that_does_not_hibernate_stays_while_somebody_is_here() {
    test(async |stage| {
        let room = stage.builder().options(|options| options.hibernate(false)).build();
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        room.advance(IDLE * 10).await;
        assert_eq!(room.hibernate().await.unwrap_err(), [AwakeReason::Connections(2)]);
        ada.vanish().await;
        bob.vanish().await;
        room.advance(IDLE - MOMENT).await;
        assert_eq!(room.stats().phase, RoomPhase::Awake);
        room.advance(MOMENT).await;
        assert_eq!((room.stats().phase, stage.dropped()), (RoomPhase::Asleep, 1));
    });
}

#[test]
fn a_broadcast_from_outside_and_a_look_at_it_do_not_wake_a_room() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("lend").await;
        room.advance(IDLE).await;
        stage.journal();
        room.broadcast("news").await;
        stage.lent()[0].send("and more");
        room.settle().await;
        assert_eq!(heard(&ada), ["news", "and more"]);
        assert_eq!((room.stats().phase, room.stats().connections), (RoomPhase::Asleep, 1));
        assert_eq!((stage.made(), stage.journal()), (1, vec![]));
        assert_eq!(room.stats().account.wakes(), 1);
    });
}

#[test]
fn wakes_are_counted_by_what_caused_them() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let bob = room.connect("bob").await;
        let counts = || {
            let mut causes = room.stats().account.causes;
            causes.sort_by_key(|(cause, _)| cause.to_string());
            causes
        };
        assert_eq!(counts(), [(WakeCause::Connect, 1)]);
        for _ in 0..2 {
            room.hibernate().await.unwrap();
            ada.send("seen").await;
            ada.send("seen").await;
        }
        room.hibernate().await.unwrap();
        room.request(told("")).await.unwrap();
        room.hibernate().await.unwrap();
        room.tell(told("")).await.unwrap();
        room.hibernate().await.unwrap();
        bob.vanish().await;
        room.advance(Duration::from_secs(5)).await;
        ada.send("panic").await;
        assert_eq!(
            counts(),
            [
                (WakeCause::Connect, 1),
                (WakeCause::Disconnect, 1),
                (WakeCause::Error, 1),
                (WakeCause::Message, 2),
                (WakeCause::Request, 2)
            ]
        );
        let account = room.stats().account;
        assert_eq!(account.last_wake, Some((WakeCause::Error, Duration::from_secs(5))));
        assert_eq!((account.wakes(), account.sleeps, account.resets), (7, 5, 1));
    });
}

#[test]
fn one_message_a_minute_for_a_day_costs_what_the_arithmetic_says() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let work = Duration::from_millis(10);
        let minute = Duration::from_secs(60);
        room.advance(minute - work).await;
        for _ in 0..24 * 60 {
            ada.send("wait:work").await;
            room.advance(work).await;
            assert!(stage.open("work"));
            room.settle().await;
            room.advance(minute - work).await;
        }
        let account = room.stats().account;
        assert_eq!(account.active, work * 24 * 60);
        // The connect at the beginning, then each message with the idle time after it.
        assert_eq!(account.resident, IDLE + (IDLE + work) * 24 * 60);
        let percent = |share: f64, digits: usize| format!("{:.digits$} %", 100.0 * share);
        assert_eq!(percent(account.active_saved(), 2), "99.98 %");
        assert_eq!(percent(account.resident_saved(), 1), "83.3 %");
        assert_eq!((account.wakes(), account.sleeps), (1441, 1441));
    });
}

#[test]
fn commits_and_tasks_are_active_time_and_waiting_to_sleep_is_not() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let ada = room.connect("ada").await;
        room.advance(Duration::from_secs(2)).await;
        assert_eq!(room.stats().account.active, Duration::ZERO);
        store.hold_commits();
        ada.send("put:k=1").await;
        room.advance(Duration::from_secs(3)).await;
        store.release_commits();
        room.settle().await;
        ada.send("spawn:t=task").await;
        room.advance(Duration::from_secs(4)).await;
        assert!(stage.open("task"));
        room.settle().await;
        room.advance(Duration::from_secs(1)).await;
        let account = room.stats().account;
        assert_eq!((account.active, account.resident), (Duration::from_secs(7), IDLE));
        assert_eq!(account.life, IDLE);
        assert_eq!(stage.journal().last().unwrap(), "task spawned task.");
        assert_eq!(heard(&ada), NOTHING);
    });
}
