//! The reminders, without a network.

use std::time::Duration;

use futures_executor::block_on;
use partykit::testing::{TestConnection, TestRoom};
use reminders::Reminders;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// The last that a client was told.
fn told(client: &TestConnection) -> Value {
    let received = client.received();
    serde_json::from_str(received.last().expect("something").as_text().expect("text")).unwrap()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["text"].as_str().unwrap()).collect()
}

#[test]
fn rings_for_everybody_while_the_room_sleeps_and_after_a_crash() {
    block_on(async {
        let room = TestRoom::<Reminders>::new();
        let (ada, bob) = (room.connect("ada").await, room.connect("bob").await);
        assert_eq!(told(&bob)["reminders"], json!([]));
        ada.send(r#"{"remind": {"text": " tea ", "when": {"after": 60000}}}"#).await;
        ada.send(r#"{"remind": {"text": "stretch", "when": {"every": 40000}}}"#).await;
        assert_eq!(texts(&told(&bob)["reminders"]), ["stretch", "tea"], "the next one first");
        room.hibernate().await.unwrap();
        room.advance(60 * SECOND).await;
        let shown = told(&bob);
        assert_eq!(texts(&shown["rang"]), ["tea", "stretch"], "the last one first");
        assert_eq!(texts(&shown["reminders"]), ["stretch"]);
        room.crash().await;
        room.advance(25 * SECOND).await;
        let eve = room.connect("eve").await;
        assert_eq!(texts(&told(&eve)["rang"]), ["stretch", "tea", "stretch"]);
        let id = told_id(&room).await;
        eve.send(format!(r#"{{"cancel": {{"id": "{id}"}}}}"#)).await;
        assert_eq!(told(&eve)["reminders"], json!([]));
        assert_eq!(room.wake_up().await, None);
    });
}

async fn told_id(room: &TestRoom<Reminders>) -> String {
    room.schedules().await[0].name.clone()
}

#[test]
fn refuses_what_is_no_reminder_and_keeps_what_rang_within_bounds() {
    block_on(async {
        let room = TestRoom::<Reminders>::new();
        let ada = room.connect("ada").await;
        for when in [
            r#"{"every": 4999}"#,
            r#"{"at": 99999999999999}"#,
            r#"{"cron": {"expression": "* * * * *"}}"#,
        ] {
            ada.send(format!(r#"{{"remind": {{"text": "x", "when": {when}}}}}"#)).await;
            assert!(told(&ada)["refused"].is_string(), "{when}");
            room.advance(SECOND).await;
        }
        for text in [" ".to_owned(), "é".repeat(201)] {
            let wish = json!({ "remind": { "text": text, "when": { "after": 1 } } });
            ada.send(wish.to_string()).await;
            assert!(told(&ada)["refused"].is_string());
        }
        assert!(room.errors().is_empty());
        ada.send(r#"{"remind": {"text": "tick", "when": {"every": 5000}}}"#).await;
        room.advance(500 * SECOND).await;
        let eve = room.connect("eve").await;
        assert_eq!(told(&eve)["rang"].as_array().unwrap().len(), 20);
        for _ in 0..60 {
            ada.send(r#"{"remind": {"text": "more", "when": {"after": 900000}}}"#).await;
            room.advance(SECOND).await;
        }
        assert_eq!(room.schedules().await.len(), 50);
    });
}
