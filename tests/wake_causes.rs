//! What wakes a sleeping room, and what does not, on the real runtime.

mod support;

use std::time::Duration;

use partykit::{
    Body, Request,
    stats::{RoomPhase, RoomStats, WakeCause},
};
use partykit_conformance::suite::{Client, Frame};
use serde_json::json;
use support::{House, log, who};

/// A sleeping room with two clients.
async fn asleep() -> (House, Client, Client) {
    let house = House::open().await;
    let (ada, bob) = two(&house).await;
    (house, ada, bob)
}

async fn two(house: &House) -> (Client, Client) {
    let mut ada = house.connect("ada").await;
    let bob = house.connect("bob").await;
    ada.next_json().await;
    house.sleep().await;
    assert_eq!(causes(house), [(WakeCause::Connect, 1)]);
    (ada, bob)
}

/// What the runtime says of the room.
fn stats(house: &House) -> RoomStats {
    let stats = house.server.handle().room_stats(House::PARTY, House::ROOM);
    stats.expect("the room is in memory")
}

/// What has woken the room so far.
fn causes(house: &House) -> Vec<(WakeCause, u64)> {
    stats(house).account.causes
}

fn assert_sleeps_on(house: &House) {
    let stats = stats(house);
    assert_eq!(stats.phase, RoomPhase::Asleep);
    assert_eq!((stats.account.wakes(), stats.account.sleeps), (1, 1), "it woke to connect only");
    assert_eq!(stats.connections, 2);
}

#[tokio::test]
async fn a_new_connection_wakes() {
    let (house, _ada, _bob) = asleep().await;
    let _eve = house.connect("eve").await;
    assert_eq!(causes(&house), [(WakeCause::Connect, 2)]);
}

#[tokio::test]
async fn a_close_wakes() {
    let (house, mut ada, mut bob) = asleep().await;
    ada.close(None).await;
    assert_eq!(bob.next_json().await["count"], 1);
    assert_eq!(causes(&house), [(WakeCause::Connect, 1), (WakeCause::Disconnect, 1)]);
}

#[tokio::test]
async fn a_lost_connection_wakes() {
    let (house, ada, mut bob) = asleep().await;
    ada.vanish();
    assert_eq!(bob.next_json().await["count"], 1);
    assert_eq!(causes(&house), [(WakeCause::Connect, 1), (WakeCause::Disconnect, 1)]);
}

#[tokio::test]
async fn a_message_wakes() {
    let (house, mut ada, _bob) = asleep().await;
    log::clear();
    assert_eq!(who(&mut ada).await["events"], 1);
    assert!(log::lines().iter().any(|line| line.contains("cause=message")), "it is logged");
    assert_eq!(causes(&house), [(WakeCause::Connect, 1), (WakeCause::Message, 1)]);
}

#[tokio::test]
async fn an_http_request_wakes() {
    let (house, _ada, _bob) = asleep().await;
    assert_eq!(house.room().get("").await.json()["events"], 1);
    assert_eq!(causes(&house), [(WakeCause::Connect, 1), (WakeCause::Request, 1)]);
}

#[tokio::test]
async fn a_request_from_the_handle_wakes() {
    let (house, _ada, _bob) = asleep().await;
    let request = Request::new(Body::empty());
    let answer = house.server.handle().request(House::PARTY, House::ROOM, request).await;
    assert_eq!(answer.expect("an answer").status(), 200);
    assert_eq!(causes(&house), [(WakeCause::Connect, 1), (WakeCause::Request, 1)]);
}

#[tokio::test]
async fn an_alarm_wakes() {
    let house = House::open().await;
    let mut ada = house.connect("ada").await;
    let mut bob = house.connect("bob").await;
    ada.next_json().await;
    ada.say("alarm").await;
    assert_eq!(ada.next_text().await, "the alarm is set");
    house.sleep().await;
    log::clear();
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.next_json().await, json!({ "alarm": 1 }), "a new instance rings");
    }
    assert!(log::lines().iter().any(|line| line.contains("cause=alarm")), "it is logged");
    assert_eq!(causes(&house), [(WakeCause::Alarm, 1), (WakeCause::Connect, 1)]);
    house.sleep().await;
    assert_eq!(stats(&house).account.sleeps, 2, "once");
}

#[tokio::test]
async fn an_alarm_that_waits_does_not_wake() {
    let (house, mut ada, _bob) = asleep().await;
    ada.say("alarm in an hour").await;
    assert_eq!(ada.next_text().await, "the alarm is set");
    house.sleep().await;
    let before = stats(&house).account;
    ada.ping(b"").await;
    ada.next().await;
    let after = stats(&house).account;
    assert_eq!((after.causes, after.sleeps), (before.causes, before.sleeps));
    assert_eq!(stats(&house).phase, RoomPhase::Asleep);
}

#[tokio::test]
async fn one_wake_serves_many_events() {
    let (house, mut ada, mut bob) = asleep().await;
    for _ in 0..10 {
        who(&mut ada).await;
        who(&mut bob).await;
    }
    assert_eq!(causes(&house), [(WakeCause::Connect, 1), (WakeCause::Message, 1)]);
}

#[tokio::test]
async fn a_ping_does_not_wake() {
    let (house, mut ada, _bob) = asleep().await;
    ada.ping(b"there?").await;
    assert_eq!(ada.next().await, Frame::Pong(b"there?".into()));
    assert_sleeps_on(&house);
}

#[tokio::test]
async fn a_pong_does_not_wake() {
    let (house, mut ada, _bob) = asleep().await;
    ada.pong(b"unasked").await;
    // Frames are read in order: when the ping is answered, the pong has been read.
    ada.ping(b"").await;
    assert_eq!(ada.next().await, Frame::Pong(Vec::new()));
    assert_sleeps_on(&house);
}

#[tokio::test]
async fn an_auto_response_does_not_wake() {
    let (house, mut ada, _bob) = asleep().await;
    ada.say("heartbeat").await;
    assert_eq!(ada.next_text().await, "alive");
    assert_sleeps_on(&house);
}

#[tokio::test]
async fn keep_alive_does_not_wake() {
    let house = House::open_with(|builder| builder.keep_alive(Duration::from_millis(200))).await;
    let (mut ada, mut bob) = two(&house).await;
    tokio::join!(ada.next_ping(), bob.next_ping());
    assert_sleeps_on(&house);
}

#[tokio::test]
async fn stats_do_not_wake() {
    let (house, _ada, _bob) = asleep().await;
    for _ in 0..100 {
        let party = &house.server.handle().stats().parties[House::PARTY];
        assert_eq!((party.rooms, party.asleep, party.connections), (1, 1, 2));
        assert_sleeps_on(&house);
    }
}

#[tokio::test]
async fn a_broadcast_from_the_handle_does_not_wake() {
    let (house, mut ada, mut bob) = asleep().await;
    let handle = house.server.handle();
    handle.broadcast(House::PARTY, House::ROOM, "news").expect("there is such a room");
    assert_eq!((ada.next_text().await, bob.next_text().await), ("news".into(), "news".into()));
    assert_sleeps_on(&house);
}

#[tokio::test]
async fn going_to_sleep_again_does_not_wake() {
    let (house, _ada, _bob) = asleep().await;
    house.sleep().await;
    assert_sleeps_on(&house);
}
