//! The checklist for hibernation that this project began with, a test for each line, in its order. On
//! the real runtime, over loopback; sleep is forced where a person would wait. What holds for every
//! runtime is with the suite: [`checklist`].

mod support;

use std::{sync::Arc, time::Duration};

use partykit::{Connection, Message, Options, Result, Room, Server, stats::RoomPhase};
use partykit_conformance::{Switchboard, suite::checklist};
use partykit_core::testing::{TestRoom, TestRoomBuilder};
use support::{House, log, who};
use tokio::sync::Semaphore;

/// "Connect with hibernation enabled"
#[tokio::test]
async fn line_01_connect_with_hibernation_enabled() {
    checklist::line_01(&House::open().await.target).await;
}

/// "Wait 20+ seconds (force hibernation)"
#[tokio::test]
async fn line_02_wait_20_seconds() {
    // Twenty seconds of silence, on a virtual clock.
    log::install();
    let room = TestRoom::<Switchboard>::new();
    let ada = room.connect("ada").await;
    assert_eq!(room.stats().phase, RoomPhase::Awake);
    room.advance(Duration::from_secs(20)).await;
    assert_eq!(room.stats().phase, RoomPhase::Asleep);
    assert!(ada.is_open());

    // Forced, on the real runtime.
    checklist::line_02(&House::open().await.target).await;
}

/// "Send a message - verify it's received"
#[tokio::test]
async fn line_03_a_message_is_received() {
    checklist::line_03(&House::open().await.target).await;
}

/// "Check server logs show "hibernation wake""
#[tokio::test]
async fn line_04_the_log_shows_the_wake() {
    let house = House::open().await;
    let mut ada = house.connect("ada").await;
    house.sleep().await;
    log::clear();
    ada.say("hello").await;
    ada.next_text().await;
    let lines = log::lines();
    let wakes: Vec<_> = lines.iter().filter(|line| line.contains("the room wakes")).collect();
    assert_eq!(wakes.len(), 1, "{lines:#?}");
    for part in ["reason=Wake", "cause=message", House::PARTY, House::ROOM] {
        assert!(wakes[0].contains(part), "{part} is not in {}", wakes[0]);
    }
    assert!(!lines.iter().any(|line| line.contains("hello")), "never what was said: {lines:#?}");
}

/// "Verify connection count accurate after wake"
#[tokio::test]
async fn line_05_the_count_is_right_after_a_wake() {
    checklist::line_05(&House::open().await.target).await;
}

/// "Connect 2nd client while DO hibernated"
#[tokio::test]
async fn line_06_a_second_client_connects_to_a_sleeping_room() {
    checklist::line_06(&House::open().await.target).await;
}

/// "Verify mode switches (solo → multi)"
#[tokio::test]
async fn line_07_the_mode_switches_to_multi() {
    checklist::line_07(&House::open().await.target).await;
}

/// "Verify both clients receive broadcasts"
#[tokio::test]
async fn line_08_both_receive_broadcasts() {
    checklist::line_08(&House::open().await.target).await;
}

/// "Disconnect 1 client"
#[tokio::test]
async fn line_09_one_client_disconnects() {
    checklist::line_09(&House::open().await.target).await;
}

/// "Verify mode switches (multi → solo)"
#[tokio::test]
async fn line_10_the_mode_switches_to_solo() {
    checklist::line_10(&House::open().await.target).await;
}

/// "Verify remaining client gets updated count"
#[tokio::test]
async fn line_11_who_stays_gets_the_count() {
    checklist::line_11(&House::open().await.target).await;
}

/// "Spam connect/disconnect rapidly"
#[tokio::test]
async fn line_12_spam_connect_and_disconnect() {
    checklist::line_12(&House::open().await.target).await;
}

/// "Verify last action wins"
#[tokio::test]
async fn line_13_the_last_action_wins() {
    checklist::line_13(&House::open().await.target).await;
}

/// "Verify no double connections"
#[tokio::test]
async fn line_14_no_double_connections() {
    checklist::line_14(&House::open().await.target).await;
}

/// "Check `getConnections()` matches `ctx.getWebSockets()`"
#[tokio::test]
async fn line_15_the_room_lists_what_the_runtime_has() {
    checklist::line_15(&House::open().await.target).await;
}

/// "Confirm instance variables reset after hibernation"
#[tokio::test]
async fn line_16_instance_variables_are_reset() {
    checklist::line_16(&House::open().await.target).await;
}

/// "Confirm logs are buffered (delayed appearance)": ours are not. When a client has the answer, what
/// was logged on the way to it is there.
#[tokio::test]
async fn line_17_the_log_is_not_delayed() {
    let house = House::open().await;
    let mut ada = house.connect("ada").await;
    for _ in 0..10 {
        house.sleep().await;
        log::clear();
        who(&mut ada).await;
        let lines = log::lines();
        let at = |text: &str| lines.iter().position(|line| line.contains(text));
        let (woke, handled) = (at("the room wakes"), at("a message is handled"));
        assert!(woke.is_some() && woke < handled, "{lines:#?}");
    }
}

/// "Measure wall time savings (should be >99%)": a message a minute that takes 10 ms, for a virtual day.
#[tokio::test]
async fn line_18_wall_time_is_saved() {
    const DAY: u32 = 24 * 60;
    log::install();
    let work = Duration::from_millis(10);
    let done = Arc::new(Semaphore::new(0));
    let room = TestRoomBuilder::new({
        let done = done.clone();
        move |_| Worker { done: done.clone() }
    });
    let room = room.build();
    let ada = room.connect("ada").await;
    for _ in 0..DAY {
        ada.send("work").await;
        room.advance(work).await;
        done.add_permits(1);
        room.idle().await;
        room.advance(Duration::from_secs(60) - work).await;
    }
    let account = room.stats().account;
    let percent = |share: f64| 100.0 * share;
    let (active, resident) = (percent(account.active_saved()), percent(account.resident_saved()));
    println!("active time saved: {active:.2} %, resident time saved: {resident:.1} %");
    assert_eq!(account.life, Duration::from_secs(24 * 60 * 60));
    assert_eq!(account.active, work * DAY);
    assert_eq!(account.resident, (work + Duration::from_secs(10)) * DAY);
    assert_eq!((format!("{active:.2}"), format!("{resident:.1}")), ("99.98".into(), "83.3".into()));
    assert_eq!(ada.received().len(), DAY as usize);
}

/// Works until somebody else says that it is done.
struct Worker {
    done: Arc<Semaphore>,
}

impl Server for Worker {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        self.done.acquire().await?.forget();
        sender.send(message);
        Ok(())
    }
}
