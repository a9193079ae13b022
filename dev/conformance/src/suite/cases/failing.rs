use serde_json::json;

use super::assert_is_generic;
use crate::{
    Command,
    suite::{Client, Mode, Target},
};

async fn error_of(client: &mut Client) -> (String, String) {
    let event = client.next_json().await;
    assert_eq!((&event["event"], &event["handler"]), (&json!("error"), &json!("on_message")));
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    (text("kind"), text("id"))
}

pub(super) async fn an_error_keeps_the_instance(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "error");
        let mut client = room.connect("ada").await;
        let before = client.ask(Command::Who).await;
        client.tell(Command::Fail { put: None }).await;
        assert_eq!(error_of(&mut client).await, ("Error".into(), "ada".into()));
        assert_eq!(client.ask(Command::Who).await, before, "{room:?}");
    }
}

pub(super) async fn a_panic_renews_the_instance(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "panic");
        let mut client = room.connect("ada").await;
        client.ask(Command::Count).await;
        let before = client.ask(Command::Who).await;
        client.tell(Command::Panic { put: None }).await;
        assert_eq!(error_of(&mut client).await, ("Panic".into(), "ada".into()));
        let after = client.ask(Command::Who).await;
        assert_ne!(after["instance"], before["instance"], "{room:?}");
        assert_eq!((&after["reason"], &after["count"]), (&json!("Wake"), &json!(1)));
        assert_eq!(client.ask(Command::Count).await["said"], 2, "the state stays");
    }
}

pub(super) async fn nothing_is_left_of_an_error_after_a_write(target: &Target) {
    nothing_is_left(target, "error-after-write", |put| Command::Fail { put }).await;
}

pub(super) async fn nothing_is_left_of_a_panic_after_a_write(target: &Target) {
    nothing_is_left(target, "panic-after-write", |put| Command::Panic { put }).await;
}

async fn nothing_is_left(target: &Target, case: &str, fail: fn(Option<String>) -> Command) {
    for mode in Mode::BOTH {
        let room = target.room(mode, case);
        let mut client = room.connect("ada").await;
        let instance = room.instance().await;
        client.tell(fail(Some("written".into()))).await;
        // And not what was said after the write.
        error_of(&mut client).await;
        let written = client.ask(Command::Get { key: "written".into() }).await;
        assert_eq!(written["value"], json!(null), "{room:?}");
        assert_ne!(room.instance().await, instance, "{room:?}");
    }
}

pub(super) async fn others_are_not_touched(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "others");
        let other = target.room(mode, "others-of-another-room");
        let (mut ada, mut bob) = (room.connect("ada").await, room.connect("bob").await);
        // Somebody is there, so that it stays in memory.
        let _guest = other.connect("guest").await;
        let instance = other.instance().await;
        for _ in 0..3 {
            ada.tell(Command::Panic { put: Some("written".into()) }).await;
            bob.say("still here").await;
            error_of(&mut ada).await;
            let mut seen = [bob.next_text().await, bob.next_text().await];
            seen.sort();
            assert!(seen[0] == "still here" && seen[1].contains("error"), "{seen:?}");
        }
        assert_eq!(other.instance().await, instance);
    }
}

pub(super) async fn requests_fail_with_500(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "failing-request");
        for how in ["/fail", "/panic"] {
            let answer = room.get(how).await;
            assert_eq!(answer.status(), 500, "{how}");
            assert_is_generic(&answer.text());
        }
        let put = Some("written".to_owned());
        for command in [Command::Fail { put: put.clone() }, Command::Panic { put }] {
            let answer = room.post(&command).await;
            assert_eq!(answer.status(), 500, "{command:?}");
            assert_is_generic(&answer.text());
            let written = room.perform(Command::Get { key: "written".into() }).await;
            assert_eq!(written["value"], json!(null), "{command:?}");
        }
    }
}
