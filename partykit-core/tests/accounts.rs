//! What a room's stats say of how it spent its time, on a virtual clock.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_channel::oneshot;
use partykit_core::{
    AwakeReason, Body, Connection, KeepAwake, Message, Options, Request, Response, Result, Room,
    Server, TaskResult, WakeCause,
    testing::{TestRoom, TestRoomBuilder},
};

const SECOND: Duration = Duration::from_secs(1);

/// Ends what the server waits for.
type End = Arc<Mutex<Option<oneshot::Sender<()>>>>;

#[derive(Default)]
struct Busy {
    end: End,
    guard: Option<KeepAwake>,
}

impl Busy {
    fn wait(&self) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        *self.end.lock().unwrap() = Some(end);
        ended
    }
}

impl Server for Busy {
    fn options() -> Options {
        Options::new().hibernate(true).handler_timeout(1000 * SECOND)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, said: Message) -> Result {
        let ended = self.wait();
        match said.as_text().unwrap_or_default() {
            "task" => room.spawn("polish", ended),
            "guard" => self.guard = Some(room.keep_awake("playing")),
            "let go" => self.guard = None,
            "handler" => ended.await?,
            "write" => {
                room.storage().put("said", &1)?;
                sender.send("held");
                ended.await?;
            }
            "panic" => panic!("on purpose"),
            _ => {}
        }
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(Body::stream(futures_util::stream::pending())))
    }

    async fn on_task(&mut self, _: &Room, _: TaskResult) -> Result {
        Ok(())
    }
}

fn room() -> (TestRoom<Busy>, End) {
    let end = End::default();
    let server = end.clone();
    let make = move |_: &_| Busy { end: server.clone(), guard: None };
    (TestRoomBuilder::new(make).build(), end)
}

fn end(end: &End) {
    end.lock().unwrap().take().unwrap().send(()).unwrap();
}

#[test]
fn time_awake_has_its_reasons() {
    futures_executor::block_on(async {
        let (room, ending) = room();
        let ada = room.connect("ada").await;
        room.advance(100 * SECOND).await;
        let account = room.stats().account;
        assert_eq!((account.life, account.resident), (100 * SECOND, 10 * SECOND));
        assert_eq!((account.awake.idle, account.active), (10 * SECOND, Duration::ZERO));
        let longest = account.longest_awake.unwrap();
        assert_eq!((longest.duration, longest.held_by), (10 * SECOND, None));

        ada.send("handler").await;
        room.advance(3 * SECOND).await;
        end(&ending);
        room.advance(20 * SECOND).await;
        let awake = room.stats().account.awake;
        assert_eq!((awake.handler, awake.idle), (3 * SECOND, 20 * SECOND));

        ada.send("task").await;
        room.advance(5 * SECOND).await;
        assert_eq!(room.stats().account.longest_awake.unwrap().duration, 13 * SECOND);
        room.advance(10 * SECOND).await;
        let longest = room.stats().account.longest_awake.unwrap();
        assert_eq!((longest.duration, longest.held), (15 * SECOND, 15 * SECOND), "it lasts");
        end(&ending);
        room.advance(20 * SECOND).await;
        let account = room.stats().account;
        let longest = account.longest_awake.unwrap();
        assert_eq!((longest.duration, longest.held), (25 * SECOND, 15 * SECOND));
        let Some(AwakeReason::Task { name, location }) = longest.held_by else { panic!() };
        assert_eq!((name, location.file()), ("polish", file!()));
        assert_eq!(account.awake.task, 15 * SECOND);
        assert_eq!(account.active, 18 * SECOND);

        ada.send("guard").await;
        room.advance(30 * SECOND).await;
        ada.send("let go").await;
        room.advance(20 * SECOND).await;
        let account = room.stats().account;
        let longest = account.longest_awake.unwrap();
        assert_eq!((longest.duration, longest.held), (40 * SECOND, 30 * SECOND));
        let Some(AwakeReason::Guard { name, location }) = longest.held_by else { panic!() };
        assert_eq!((name, location.file()), ("playing", file!()));
        assert_eq!((account.awake.guard, account.awake.idle), (30 * SECOND, 40 * SECOND));

        let answer = room.request(Request::default()).await.unwrap();
        room.advance(7 * SECOND).await;
        drop(answer);
        room.advance(20 * SECOND).await;
        let account = room.stats().account;
        assert_eq!(account.awake.response_body, 7 * SECOND);
        assert_eq!(
            account.resident,
            10 * SECOND + 13 * SECOND + 25 * SECOND + 40 * SECOND + 17 * SECOND
        );
        assert_eq!((account.sleeps, account.resets), (5, 0));
        let causes = [(WakeCause::Connect, 1), (WakeCause::Message, 3), (WakeCause::Request, 1)];
        assert_eq!(account.causes, causes);
    });
}

#[test]
fn a_reset_ends_the_time_awake_and_begins_another() {
    futures_executor::block_on(async {
        let (room, _) = room();
        let ada = room.connect("ada").await;
        ada.send("task").await;
        room.advance(50 * SECOND).await;
        ada.send("panic").await;
        room.advance(5 * SECOND).await;
        let account = room.stats().account;
        let longest = account.longest_awake.unwrap();
        assert_eq!((longest.duration, longest.held), (50 * SECOND, 50 * SECOND));
        assert!(matches!(longest.held_by, Some(AwakeReason::Task { name: "polish", .. })));
        assert_eq!((account.resets, account.awake.task), (1, 50 * SECOND));
        assert_eq!((account.resident, account.awake.idle), (55 * SECOND, 5 * SECOND));
    });
}

/// Somebody is here, and that is all.
#[derive(Default)]
struct Wakeful;

impl Server for Wakeful {}

#[test]
fn a_server_that_does_not_hibernate_is_awake_for_its_connections() {
    futures_executor::block_on(async {
        let room = TestRoom::<Wakeful>::new();
        let ada = room.connect("ada").await;
        room.advance(60 * SECOND).await;
        ada.close(1000, "").await.unwrap();
        room.advance(60 * SECOND).await;
        let account = room.stats().account;
        assert_eq!((account.awake.connections, account.awake.idle), (60 * SECOND, 10 * SECOND));
        assert_eq!(account.resident, 70 * SECOND);
    });
}

#[test]
fn depths_of_queues() {
    futures_executor::block_on(async {
        let (room, ending) = room();
        let ada = room.connect("ada").await;
        ada.send("write").await;
        ada.push("12345");
        ada.push("678");
        let stats = room.stats();
        assert_eq!(stats.mailbox, 2);
        // With what the queue and their allocations take.
        assert!((8 + 100..1000).contains(&stats.mailbox_bytes), "{}", stats.mailbox_bytes);
        assert_eq!((stats.held, stats.held_bytes, stats.undelivered_bytes), (1, 4 + 272, 0));
        end(&ending);
        room.settle().await;
        let stats = room.stats();
        assert_eq!(
            (stats.mailbox, stats.mailbox_bytes, stats.held, stats.held_bytes),
            (0, 0, 0, 0)
        );
        assert_eq!(ada.received(), ["held".into()]);
    });
}

#[test]
fn accounts_add_up() {
    futures_executor::block_on(async {
        let (room, _) = room();
        let ada = room.connect("ada").await;
        room.advance(20 * SECOND).await;
        ada.send("hello").await;
        let one = room.stats().account;
        let mut sum = one.clone();
        assert!(!sum.add(&one), "as long is not longer");
        assert_eq!(sum.life, 2 * one.life);
        assert_eq!(sum.awake.idle, 2 * one.awake.idle);
        assert_eq!((sum.wakes(), sum.sleeps, sum.last_wake), (4, 2, None));
        assert_eq!(sum.longest_awake, one.longest_awake);
        assert!(partykit_core::Account::default().add(&one));
    });
}
