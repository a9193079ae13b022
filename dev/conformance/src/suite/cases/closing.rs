use serde_json::{Value, json};

use crate::{
    Command,
    suite::{Client, Mode, Room, Target},
};

/// In both modes, awake and asleep: a witness, and somebody who is about to go.
async fn each_way<F: AsyncFn(Client) -> Value>(target: &Target, case: &str, go: F) {
    for mode in Mode::BOTH {
        for asleep in [false, true] {
            let room = target.room(mode, &format!("{case}-{asleep}"));
            let (mut witness, leaver) = (room.connect("witness").await, room.connect("ada").await);
            if asleep {
                room.sleep().await;
            }
            let expected = go(leaver).await;
            let event = witness.next_json().await;
            let mut seen = event.clone();
            seen.as_object_mut().expect("an event").retain(|key, _| expected.get(key).is_some());
            assert_eq!(seen, expected, "{room:?}, asleep: {asleep}");
            let rest = (&event["event"], &event["id"], &event["count"], &event["listed"]);
            assert_eq!(rest, (&json!("close"), &json!("ada"), &json!(1), &json!(false)));
            witness.has_seen_all().await;
        }
    }
}

pub(super) async fn a_code_and_reason_are_echoed(target: &Target) {
    each_way(target, "close-4321", async |mut leaver: Client| {
        leaver.close(Some((4321, "bye"))).await;
        assert_eq!(leaver.next_close().await, Some((4321, "bye".into())));
        json!({ "code": 4321, "reason": "bye", "clean": true })
    })
    .await;
}

pub(super) async fn without_a_code_is_1005(target: &Target) {
    each_way(target, "close-empty", async |mut leaver: Client| {
        leaver.close(None).await;
        assert_eq!(leaver.next_close().await, None);
        json!({ "code": 1005, "reason": "", "clean": true })
    })
    .await;
}

pub(super) async fn normal_is_1000(target: &Target) {
    each_way(target, "close-1000", async |mut leaver: Client| {
        leaver.close(Some((1000, ""))).await;
        assert_eq!(leaver.next_close().await, Some((1000, String::new())));
        json!({ "code": 1000, "reason": "", "clean": true })
    })
    .await;
}

pub(super) async fn a_drop_is_1006(target: &Target) {
    each_way(target, "drop", async |leaver: Client| {
        leaver.vanish();
        json!({ "code": 1006, "clean": false })
    })
    .await;
}

pub(super) async fn a_server_close_reaches_the_client(target: &Target) {
    each_way(target, "server-close", async |mut leaver: Client| {
        leaver.tell(Command::Close { code: 4001, reason: "srv".into() }).await;
        assert_eq!(leaver.next_close().await, Some((4001, "srv".into())));
        json!({ "code": 4001, "reason": "srv", "clean": true })
    })
    .await;
}

pub(super) async fn what_was_said_before_is_handled(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "said-before");
        let (mut witness, mut leaver) = (room.connect("witness").await, room.connect("ada").await);
        room.sleep().await;
        for n in 0..10 {
            let text = n.to_string();
            leaver.tell(Command::Broadcast { text, tag: None, except_me: true }).await;
        }
        leaver.close(Some((4000, ""))).await;
        for n in 0..10 {
            assert_eq!(witness.next_text().await, n.to_string());
        }
        assert_eq!(witness.next_json().await["code"], 4000);
    }
}

pub(super) async fn closed_is_not_listed(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "closed-not-listed");
        let mut witness = room.connect("witness").await;
        let mut leaver = room.connect("ada").await;
        leaver.tell(Command::Close { code: 4001, reason: String::new() }).await;
        // The client has not answered the Close: it has not read it.
        assert_is_alone(target, &room).await;
        assert_eq!(leaver.next_close().await.map(|(code, _)| code), Some(4001));
        assert_eq!(witness.next_json().await["event"], "close");
        assert_is_alone(target, &room).await;
    }
}

/// Asks until the message before the question has been handled, which came on another connection.
async fn assert_is_alone(target: &Target, room: &Room<'_>) {
    let asking = async {
        while room.perform(Command::Who).await["count"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    target.expect("end of a closed connection's being listed", asking).await;
}
