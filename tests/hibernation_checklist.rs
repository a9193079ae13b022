//! The checklist for hibernation that this project began with, a test for each line, in its order. On
//! the real runtime, over loopback; sleep is forced where a person would wait.

mod support;

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use partykit::{Connection, Message, Options, Result, Room, RoomPhase, Server};
use partykit_conformance::suite::{Client, Frame};
use partykit_core::testing::{TestRoom, TestRoomBuilder};
use serde_json::json;
use support::{House, Switchboard, log, who};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, yield_now},
    time::timeout,
};

/// "Connect with hibernation enabled"
#[tokio::test]
async fn line_01_connect_with_hibernation_enabled() {
    assert!(Switchboard::options().hibernates());
    let house = House::open().await;
    let mut ada = house.room().connect("ada").await;
    assert_eq!(ada.next_json().await, json!({ "count": 1, "mode": "solo" }));
    assert_eq!(house.stats().phase, RoomPhase::Awake);
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

    // Forced, on the real runtime; the socket stays.
    let house = House::open().await;
    let mut ada = house.connect("ada").await;
    house.sleep().await;
    assert_eq!(house.listed(), 1);
    ada.ping(b"").await;
    ada.next().await;
    assert_eq!(house.stats().phase, RoomPhase::Asleep);
}

/// "Send a message - verify it's received"
#[tokio::test]
async fn line_03_a_message_is_received() {
    let house = House::open().await;
    let mut ada = house.connect("ada").await;
    house.sleep().await;
    ada.say("hello").await;
    assert_eq!(ada.next_text().await, "hello");
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
    let house = House::open().await;
    let mut clients = Vec::new();
    for n in 0..5 {
        clients.push(house.connect(&n.to_string()).await);
    }
    clients.remove(0).vanish();
    clients[3].next_json().await;
    house.sleep().await;
    let who = who(&mut clients[3]).await;
    assert_eq!((&who["count"], &who["events"]), (&json!(4), &json!(1)), "a new instance counts");
    assert_eq!(who["connections"], json!(["1", "2", "3", "4"]));
}

/// "Connect 2nd client while DO hibernated"
#[tokio::test]
async fn line_06_a_second_client_connects_to_a_sleeping_room() {
    let house = House::open().await;
    let _ada = house.connect("ada").await;
    house.sleep().await;
    let mut bob = house.connect("bob").await;
    assert_eq!(who(&mut bob).await["connections"], json!(["ada", "bob"]));
}

/// "Verify mode switches (solo → multi)"
#[tokio::test]
async fn line_07_the_mode_switches_to_multi() {
    let house = House::open().await;
    let mut ada = house.room().connect("ada").await;
    assert_eq!(ada.next_json().await["mode"], "solo");
    house.sleep().await;
    let mut bob = house.room().connect("bob").await;
    assert_eq!(ada.next_json().await, json!({ "count": 2, "mode": "multi" }));
    assert_eq!(bob.next_json().await, json!({ "count": 2, "mode": "multi" }));
}

/// "Verify both clients receive broadcasts"
#[tokio::test]
async fn line_08_both_receive_broadcasts() {
    let (house, mut ada, mut bob) = two().await;
    for text in ["awake", "after a sleep"] {
        ada.say(text).await;
        assert_eq!((ada.next_text().await, bob.next_text().await), (text.into(), text.into()));
        house.sleep().await;
    }
}

/// "Disconnect 1 client"
#[tokio::test]
async fn line_09_one_client_disconnects() {
    let (house, mut ada, mut bob) = two().await;
    house.sleep().await;
    bob.close(Some((1000, "bye"))).await;
    assert_eq!(bob.next_close().await, Some((1000, "bye".into())), "answered while it sleeps");
    ada.next_json().await;
    assert_eq!(who(&mut ada).await["connections"], json!(["ada"]));
}

/// "Verify mode switches (multi → solo)"
#[tokio::test]
async fn line_10_the_mode_switches_to_solo() {
    let (house, mut ada, bob) = two().await;
    house.sleep().await;
    bob.vanish();
    assert_eq!(ada.next_json().await["mode"], "solo");
}

/// "Verify remaining client gets updated count"
#[tokio::test]
async fn line_11_who_stays_gets_the_count() {
    let (house, mut ada, bob) = two().await;
    let eve = house.connect("eve").await;
    assert_eq!(ada.next_json().await["count"], 3);
    for (leaver, count) in [(bob, 2), (eve, 1)] {
        house.sleep().await;
        leaver.vanish();
        assert_eq!(ada.next_json().await["count"], count);
    }
}

/// "Spam connect/disconnect rapidly"
#[tokio::test]
async fn line_12_spam_connect_and_disconnect() {
    spam(12, |settled| assert_eq!(settled.listed, settled.open, "the room counts wrong")).await;
}

/// "Verify last action wins"
#[tokio::test]
async fn line_13_the_last_action_wins() {
    spam(13, |settled| assert_eq!(settled.listed, usize::from(settled.last_intent))).await;
}

/// "Verify no double connections"
#[tokio::test]
async fn line_14_no_double_connections() {
    spam(14, |settled| assert!(settled.most_listed <= 1, "two at once")).await;
}

/// "Check `getConnections()` matches `ctx.getWebSockets()`"
#[tokio::test]
async fn line_15_the_room_lists_what_the_runtime_has() {
    let house = House::open().await;
    let mut rng = Rng::with_seed(15);
    let mut asking = house.connect("0").await;
    let mut clients = Vec::new();
    for n in 1..=30 {
        if clients.is_empty() || rng.u8(..3) > 0 {
            clients.push(house.room().connect(&n.to_string()).await);
        } else {
            let mut leaver: Client = clients.swap_remove(rng.usize(..clients.len()));
            leaver.close(None).await;
        }
        let announced = asking.next_json().await["count"].clone();
        if rng.bool() {
            house.sleep().await;
        }
        let who = who(&mut asking).await;
        let ids = who["connections"].as_array().expect("ids");
        assert_eq!(ids.len(), clients.len() + 1);
        assert_eq!((&who["count"], house.listed()), (&announced, ids.len()));
    }
}

/// "Confirm instance variables reset after hibernation"
#[tokio::test]
async fn line_16_instance_variables_are_reset() {
    let house = House::open().await;
    let mut ada = house.connect("ada").await;
    assert_eq!(who(&mut ada).await["events"], 2);
    assert_eq!(who(&mut ada).await["events"], 3);
    house.sleep().await;
    assert_eq!(who(&mut ada).await["events"], 1);
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

/// A room with Ada and Bob, who have heard of one another.
async fn two() -> (House, Client, Client) {
    let house = House::open().await;
    let mut ada = house.connect("ada").await;
    let bob = house.connect("bob").await;
    ada.next_json().await;
    (house, ada, bob)
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

/// How things are when a client has done what was wanted of it.
struct Settled {
    /// What was wanted last: a connection, or none.
    last_intent: bool,
    /// How many connections the client has.
    open: usize,
    /// How many the room has.
    listed: usize,
    /// The most that the room ever had at once.
    most_listed: usize,
}

/// Somebody clicks connect and disconnect at random, 200 times, faster than the network; the room is
/// put to sleep now and then. Sometimes they stop and look.
async fn spam(seed: u64, check: impl Fn(Settled)) {
    let house = Arc::new(House::open().await);
    let (mut rng, mut settles) = (Rng::with_seed(seed), 0);
    let client = StateMachine::start(house.clone());
    let mut most_listed = 0;
    for click in 1..=200 {
        client.intend(rng.bool());
        for _ in 0..rng.u8(..20) {
            yield_now().await;
            most_listed = most_listed.max(house.listed());
        }
        if rng.u8(..8) == 0 {
            house.sleep().await;
        }
        if rng.u8(..5) == 0 || click == 200 {
            let open = client.settled().await;
            // The server may hear of a Close a moment after the client thinks that it is done.
            let agrees = until(|| house.listed() == open).await;
            let listed = house.listed();
            assert!(agrees, "{open} open, {listed} listed");
            check(Settled { last_intent: client.intent(), open, listed, most_listed });
            settles += 1;
        }
    }
    assert!(settles > 20, "{settles}");
}

/// What a page with a connect button does: the click changes what is intended, at once; a task makes
/// what is actual follow, one step at a time, and looks again what is intended after each.
struct StateMachine {
    /// The number of the click, and what was clicked.
    intended: watch::Sender<(u32, bool)>,
    /// The number of the click that was followed, and how many connections are open since.
    actual: watch::Receiver<(u32, usize)>,
    task: JoinHandle<()>,
}

impl StateMachine {
    fn start(house: Arc<House>) -> Self {
        let (intended, mut wanted) = watch::channel((0, false));
        let (report, actual) = watch::channel((0, 0));
        let task = tokio::spawn(async move {
            let mut connections: Vec<Client> = Vec::new();
            loop {
                let (click, want) = *wanted.borrow_and_update();
                let is_open = !connections.is_empty();
                if want == is_open {
                    report.send_replace((click, connections.len()));
                    if wanted.changed().await.is_err() {
                        return;
                    }
                } else if want {
                    connections.push(house.room().connect("spammer").await);
                } else if let Some(mut open) = connections.pop() {
                    open.close(Some((1000, ""))).await;
                    while open.next().await != Frame::End {}
                }
            }
        });
        Self { intended, actual, task }
    }

    fn intend(&self, connected: bool) {
        self.intended
            .send_modify(|(click, intended)| (*click, *intended) = (*click + 1, connected));
    }

    fn intent(&self) -> bool {
        self.intended.borrow().1
    }

    /// Waits until what is actual is what is intended; says how many connections are open.
    async fn settled(&self) -> usize {
        let mut actual = self.actual.clone();
        let (last, _) = *self.intended.borrow();
        let settled = actual.wait_for(|(followed, _)| *followed == last);
        let settled = timeout(DEADLINE, settled).await.expect("the client settles");
        settled.expect("the client lives").1
    }
}

impl Drop for StateMachine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long anything is waited for: far longer than it takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// Whether something comes to hold.
async fn until(holds: impl Fn() -> bool) -> bool {
    let polling = async {
        while !holds() {
            yield_now().await;
        }
    };
    timeout(DEADLINE, polling).await.is_ok()
}
