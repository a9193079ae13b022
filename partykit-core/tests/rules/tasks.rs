//! A task runs beside its room, begins when its handler has committed, and its values come back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_channel::mpsc;
use futures_util::{FutureExt, StreamExt};
use partykit_core::{AwakeReason, Result, Room, Server, TaskError, TaskResult, WakeCause};

use crate::script::{NOTHING, heard, inside, test};

#[test]
fn the_value_of_a_task_comes_back_as_an_event() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.on("task", "put:done=yes all:done");
        stage.journal();
        ada.send("spawn:t=value say:started").await;
        assert_eq!(heard(&ada), ["started"], "the room goes on meanwhile");
        ada.send("note:meanwhile").await;
        assert!(stage.open("value"));
        room.settle().await;
        assert_eq!(stage.journal(), ["meanwhile", "task spawned value."]);
        assert_eq!(heard(&ada), ["done"]);
        assert_eq!(room.stored::<String>("done").await.as_deref(), Some("yes"));
    });
}

#[test]
fn a_task_starts_when_its_handler_has_committed_and_not_before() {
    test(async |stage| {
        let (room, store) = stage.faulty();
        let started = Arc::new(AtomicUsize::new(0));
        let count = |started: &Arc<AtomicUsize>| {
            let started = started.clone();
            async move {
                started.fetch_add(1, Ordering::Relaxed);
            }
        };
        store.hold_commits();
        let (work, latch) = (count(&started), stage.wait("end"));
        let act = |room: &Room| {
            room.storage().put("k", "1").unwrap();
            room.spawn("counter", work);
        };
        let (request, _) = crate::script::act(|room| {
            Box::pin(async move {
                act(room);
                latch.await;
            })
        });
        let mut answer = std::pin::pin!(room.request(request));
        assert!(answer.as_mut().now_or_never().is_none());
        assert_eq!(started.load(Ordering::Relaxed), 0, "the handler runs");
        assert!(stage.open("end"));
        room.settle().await;
        assert_eq!(started.load(Ordering::Relaxed), 0, "the commit is in flight");
        store.release_commits();
        room.settle().await;
        assert_eq!(started.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_task_of_a_handler_that_fails_never_starts() {
    for failure in ["fail", "panic"] {
        test(async |stage| {
            let room = stage.room();
            let ada = room.connect("ada").await;
            ada.send(format!("spawn:t=never {failure}")).await;
            assert!(!stage.open("never"), "its future is dropped");
            assert!(room.stats().reasons.is_empty());
            room.settle().await;
            assert!(!stage.journal().iter().any(|line| line.starts_with("task")));
        });
    }
}

#[test]
fn a_task_that_panics_says_so() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async { room.spawn("broken", async { panic!("oh no") as String }) })
        })
        .await;
        room.settle().await;
        assert_eq!(
            stage.journal(),
            ["start First", "task broken task \"broken\" panicked: oh no."]
        );
        assert_eq!(room.stats().account.resets, 0, "the room is not harmed");
    });
}

#[test]
fn a_failure_that_takes_the_instance_cancels_its_tasks() {
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    test(async |stage| {
        let room = stage.room();
        let dropped = Arc::new(AtomicUsize::new(0));
        let (alive, latch) = (Alive(dropped.clone()), stage.wait("task"));
        inside(&room, |room| {
            Box::pin(async {
                room.spawn("cancelled", async move {
                    latch.await;
                    drop(alive);
                    String::from("late")
                });
            })
        })
        .await;
        room.settle().await;
        let ada = room.connect("ada").await;
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        ada.send("panic").await;
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert!(!stage.open("task"));
        assert!(room.stats().reasons.is_empty());
        assert!(!stage.journal().iter().any(|line| line.starts_with("task")));
        room.hibernate().await.unwrap();
    });
}

#[test]
fn an_err_that_keeps_the_instance_keeps_its_tasks() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("spawn:t=value").await;
        ada.send("fail").await;
        assert!(stage.open("value"));
        room.settle().await;
        assert_eq!(stage.journal().last().unwrap(), "task spawned value.");
    });
}

#[test]
fn a_failing_on_task_is_told_to_on_error() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        stage.on("task", "put:k=1 fail");
        ada.send("spawn:t=value").await;
        stage.journal();
        assert!(stage.open("value"));
        room.settle().await;
        assert_eq!(stage.journal(), ["task spawned value.", "start Wake", "error on_task Error"]);
        assert_eq!(room.stored::<String>("k").await, None);
    });
}

#[test]
fn a_result_of_another_type_is_an_error() {
    #[derive(Default)]
    struct Typed;
    impl Server for Typed {
        async fn on_start(&mut self, room: &Room) -> Result {
            room.spawn("number", async { 7_u32 });
            Ok(())
        }
        async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
            let error = result.value::<String>().unwrap_err();
            assert!(matches!(error, TaskError::Type { task: "number", .. }));
            room.storage().put("error", &error.to_string())?;
            Ok(())
        }
    }
    futures_executor::block_on(async {
        let room = partykit_core::testing::TestRoom::<Typed>::new();
        room.connect("ada").await;
        let error = room.stored::<String>("error").await.unwrap();
        assert_eq!(error, "task \"number\" has no value of type alloc::string::String");
    });
}

#[test]
fn what_a_task_emits_arrives_in_order_and_waits_while_the_mailbox_is_full() {
    test(async |stage| {
        let room = stage.builder().options(|options| options.mailbox(2, 1 << 20)).build();
        let ada = room.connect("ada").await;
        let (emitted, emits) = (Arc::new(AtomicUsize::new(0)), 10);
        let counter = emitted.clone();
        let latch = stage.wait("emit");
        inside(&room, move |room| {
            Box::pin(async move {
                room.spawn_streaming("numbers", async move |emitter| {
                    latch.await;
                    for number in 0..emits {
                        emitter.emit(number.to_string()).await;
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    String::from("end")
                });
            })
        })
        .await;
        stage.journal();
        // A handler that runs holds everything up: two events fit, and no more.
        ada.send("wait:end").await;
        assert!(stage.open("emit"));
        room.settle().await;
        assert_eq!(emitted.load(Ordering::Relaxed), 2);
        assert_eq!(room.stats().mailbox, 2);

        assert!(stage.open("end"));
        room.settle().await;
        let expected: Vec<_> = (0..emits).map(|n| format!("task numbers {n}..")).collect();
        assert_eq!(stage.journal(), [expected, vec!["task numbers end.".to_owned()]].concat());
    });
}

#[test]
fn a_task_that_outlives_its_idle_room_finds_it_awake() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        ada.send("spawn:t=value").await;
        ada.vanish().await;
        room.advance(std::time::Duration::from_secs(3600)).await;
        assert!(matches!(room.stats().reasons[..], [AwakeReason::Task { name: "spawned", .. }]));
        stage.journal();
        assert!(stage.open("value"));
        room.settle().await;
        assert_eq!(stage.journal(), ["task spawned value."], "no new start");
        assert!(room.stats().account.causes.iter().all(|(cause, _)| *cause != WakeCause::Task));
    });
}

#[test]
fn the_values_of_a_cancelled_task_do_not_arrive() {
    test(async |stage| {
        let room = stage.room();
        let ada = room.connect("ada").await;
        let (feed, mut pieces) = mpsc::unbounded::<String>();
        inside(&room, move |room| {
            Box::pin(async move {
                room.spawn_streaming("relay", async move |emitter| {
                    while let Some(piece) = pieces.next().await {
                        emitter.emit(piece).await;
                    }
                    String::from("end")
                });
            })
        })
        .await;
        feed.unbounded_send("one".to_owned()).unwrap();
        room.settle().await;
        assert_eq!(stage.journal().last().unwrap(), "task relay one..");
        // It emits while the handler that takes the instance with it runs.
        ada.send("put:k=1 wait:end fail").await;
        feed.unbounded_send("two".to_owned()).unwrap();
        room.settle().await;
        assert!(stage.open("end"));
        room.settle().await;
        assert!(feed.unbounded_send("three".to_owned()).is_err(), "nobody listens any more");
        let journal = stage.journal();
        assert!(!journal.iter().any(|line| line.contains("three") || line.contains("end")));
        assert_eq!(heard(&ada), NOTHING);
    });
}
