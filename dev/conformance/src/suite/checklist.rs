//! The checklist for hibernation that this project began with: the lines that hold for any runtime that can be
//! connected to and looked at, by their numbers. The others need more than a [`Target`], and are with the
//! tests of each runtime.
//!
//! They talk to a [`Switchboard`], and panic when something is not as it has to be.

use fastrand::Rng;
use partykit::{Server as _, runtime::Chosen};
use serde_json::{Value, json};
use tokio::task::yield_now;

use super::{Client, Frame, Room, RoomView, Target, clicker::Clicker};
use crate::{SWITCHBOARD, Switchboard};

/// "Connect with hibernation enabled"
pub async fn line_01(target: &Target) {
    assert!(Chosen::of(&Switchboard::options()).hibernate);
    let house = House::open(target, "line-01");
    let mut ada = house.room.connect("ada").await;
    assert_eq!(ada.next_json().await, json!({ "count": 1, "mode": "solo" }));
    assert!(!house.view().await.asleep);
}

/// "Wait 20+ seconds (force hibernation)": forced. The socket stays.
pub async fn line_02(target: &Target) {
    let house = House::open(target, "line-02");
    let mut ada = house.connect("ada").await;
    house.room.sleep().await;
    assert_eq!(house.listed().await, 1);
    ada.ping(b"").await;
    ada.next().await;
    assert!(house.view().await.asleep);
}

/// "Send a message - verify it's received"
pub async fn line_03(target: &Target) {
    let house = House::open(target, "line-03");
    let mut ada = house.connect("ada").await;
    house.room.sleep().await;
    ada.say("hello").await;
    assert_eq!(ada.next_text().await, "hello");
}

/// "Verify connection count accurate after wake"
pub async fn line_05(target: &Target) {
    let house = House::open(target, "line-05");
    let mut clients = Vec::new();
    for n in 0..5 {
        clients.push(house.connect(&n.to_string()).await);
    }
    clients.remove(0).vanish();
    assert_eq!(clients[3].next_json().await["count"], 4);
    house.room.sleep().await;
    let who = who(&mut clients[3]).await;
    assert_eq!((&who["count"], &who["events"]), (&json!(4), &json!(1)), "a new instance counts");
    assert_eq!(who["connections"], json!(["1", "2", "3", "4"]));
}

/// "Connect 2nd client while DO hibernated"
pub async fn line_06(target: &Target) {
    let house = House::open(target, "line-06");
    let _ada = house.connect("ada").await;
    house.room.sleep().await;
    let mut bob = house.connect("bob").await;
    assert_eq!(who(&mut bob).await["connections"], json!(["ada", "bob"]));
}

/// "Verify mode switches (solo → multi)"
pub async fn line_07(target: &Target) {
    let house = House::open(target, "line-07");
    let mut ada = house.room.connect("ada").await;
    assert_eq!(ada.next_json().await["mode"], "solo");
    house.room.sleep().await;
    let mut bob = house.room.connect("bob").await;
    assert_eq!(ada.next_json().await, json!({ "count": 2, "mode": "multi" }));
    assert_eq!(bob.next_json().await, json!({ "count": 2, "mode": "multi" }));
}

/// "Verify both clients receive broadcasts"
pub async fn line_08(target: &Target) {
    let house = House::open(target, "line-08");
    let (mut ada, mut bob) = house.two().await;
    for text in ["awake", "after a sleep"] {
        ada.say(text).await;
        assert_eq!((ada.next_text().await, bob.next_text().await), (text.into(), text.into()));
        house.room.sleep().await;
    }
}

/// "Disconnect 1 client"
pub async fn line_09(target: &Target) {
    let house = House::open(target, "line-09");
    let (mut ada, mut bob) = house.two().await;
    house.room.sleep().await;
    bob.close(Some((1000, "bye"))).await;
    assert_eq!(bob.next_close().await, Some((1000, "bye".into())), "answered while it sleeps");
    ada.next_json().await;
    assert_eq!(who(&mut ada).await["connections"], json!(["ada"]));
}

/// "Verify mode switches (multi → solo)"
pub async fn line_10(target: &Target) {
    let house = House::open(target, "line-10");
    let (mut ada, bob) = house.two().await;
    house.room.sleep().await;
    bob.vanish();
    assert_eq!(ada.next_json().await["mode"], "solo");
}

/// "Verify remaining client gets updated count"
pub async fn line_11(target: &Target) {
    let house = House::open(target, "line-11");
    let (mut ada, bob) = house.two().await;
    let eve = house.connect("eve").await;
    assert_eq!(ada.next_json().await["count"], 3);
    for (leaver, count) in [(bob, 2), (eve, 1)] {
        house.room.sleep().await;
        leaver.vanish();
        assert_eq!(ada.next_json().await["count"], count);
    }
}

/// "Spam connect/disconnect rapidly"
pub async fn line_12(target: &Target) {
    let agrees = |it: Settled| assert_eq!(it.listed, it.open, "the room counts wrong");
    spam(target, "line-12", 12, agrees).await;
}

/// "Verify last action wins"
pub async fn line_13(target: &Target) {
    let wins = |it: Settled| assert_eq!(it.listed, usize::from(it.last_intent));
    spam(target, "line-13", 13, wins).await;
}

/// "Verify no double connections"
pub async fn line_14(target: &Target) {
    spam(target, "line-14", 14, |it| assert!(it.most_listed <= 1, "two at once")).await;
}

/// "Check `getConnections()` matches `ctx.getWebSockets()`"
pub async fn line_15(target: &Target) {
    let house = House::open(target, "line-15");
    let mut rng = Rng::with_seed(15);
    let mut asking = house.connect("0").await;
    let mut clients = Vec::new();
    for n in 1..=30 {
        if clients.is_empty() || rng.u8(..3) > 0 {
            clients.push(house.room.connect(&n.to_string()).await);
        } else {
            let mut leaver: Client = clients.swap_remove(rng.usize(..clients.len()));
            leaver.close(None).await;
            // `workerd` evicts no room with a connection that is closed on one side alone.
            while leaver.next().await != Frame::End {}
        }
        let announced = asking.next_json().await["count"].clone();
        if rng.bool() {
            house.room.sleep().await;
        }
        let who = who(&mut asking).await;
        let ids = who["connections"].as_array().expect("ids");
        assert_eq!(ids.len(), clients.len() + 1);
        assert_eq!((&who["count"], house.listed().await), (&announced, ids.len()));
    }
}

/// "Confirm instance variables reset after hibernation"
pub async fn line_16(target: &Target) {
    let house = House::open(target, "line-16");
    let mut ada = house.connect("ada").await;
    assert_eq!(who(&mut ada).await["events"], 2);
    assert_eq!(who(&mut ada).await["events"], 3);
    house.room.sleep().await;
    assert_eq!(who(&mut ada).await["events"], 1);
}

/// Asks a [`Switchboard`] who is there.
pub async fn who(client: &mut Client) -> Value {
    client.say("who").await;
    client.next_json().await
}

/// A room of a line's own.
struct House<'a> {
    target: &'a Target,
    room: Room<'a>,
}

impl<'a> House<'a> {
    fn open(target: &'a Target, line: &str) -> Self {
        Self { target, room: target.room_of(SWITCHBOARD, line) }
    }

    /// Connects, and hears the announcement of it.
    async fn connect(&self, id: &str) -> Client {
        let mut client = self.room.connect(id).await;
        client.next_json().await;
        client
    }

    /// Ada and Bob, who have heard of one another.
    async fn two(&self) -> (Client, Client) {
        let mut ada = self.connect("ada").await;
        let bob = self.connect("bob").await;
        ada.next_json().await;
        (ada, bob)
    }

    async fn view(&self) -> RoomView {
        self.room.stats().await.expect("the runtime can say how a room is")
    }

    /// How many connections the room has, as the runtime knows. None where it knows no such room.
    async fn listed(&self) -> usize {
        self.room.stats().await.map_or(0, |view| view.connections)
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
async fn spam(target: &Target, line: &str, seed: u64, check: impl Fn(Settled)) {
    let house = House::open(target, line);
    let (mut rng, mut settles) = (Rng::with_seed(seed), 0);
    let client = Clicker::start(target, &house.room);
    let mut most_listed = 0;
    for click in 1..=200 {
        client.intend(rng.bool());
        for look in 0..rng.u8(..20) {
            if look % 5 == 0 {
                most_listed = most_listed.max(house.listed().await);
            }
            yield_now().await;
        }
        if rng.u8(..8) == 0 {
            house.room.sleep().await;
        }
        if rng.u8(..5) == 0 || click == 200 {
            let open = client.settled().await;
            // The server may hear of a Close a moment after the client thinks that it is done.
            let agreeing = async { while house.listed().await != open {} };
            house.target.expect("agreement of the room and its client", agreeing).await;
            check(Settled { last_intent: client.intent(), open, listed: open, most_listed });
            settles += 1;
        }
    }
    assert!(settles > 20, "{settles}");
}
