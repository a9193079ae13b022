use serde_json::json;

use super::assert_is_generic;
use crate::{
    Command,
    suite::{Frame, Mode, Target},
};

pub(super) async fn greetings_come_first(target: &Target) {
    for mode in Mode::BOTH {
        for asleep in [false, true] {
            let room = target.room(mode, &format!("greetings-{asleep}"));
            room.instance().await;
            if asleep {
                room.sleep().await;
            }
            let mut client = room.connect_with("ada", "greet=5").await;
            client.say("me").await;
            for n in 0..5 {
                assert_eq!(client.next_text().await, format!("greet {n}"));
            }
            assert_eq!(client.next_text().await, "me");
            client.has_seen_all().await;
        }
    }
}

pub(super) async fn writes_are_stored_at_open(target: &Target) {
    let room = target.room(Mode::Hibernating, "stored-at-open");
    let _client = room.connect_with("ada", "put=came").await;
    room.sleep().await;
    let came = room.perform(Command::Get { key: "came".into() }).await;
    assert_eq!(came["value"], true);
}

pub(super) async fn tags_and_uri_are_kept(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "tags-and-uri");
        let mut client = room.connect_with("ada", "tags=red,ada,blue,red").await;
        let found = client.ask(Command::Find { id: "ada".into() }).await;
        assert_eq!(found["tags"], json!(["ada", "red", "blue"]), "the id first, each once");
        let uri = found["uri"].as_str().expect("an address");
        assert!(uri.ends_with(&room.path("?_pk=ada&tags=red,ada,blue,red")), "{uri}");
        room.sleep().await;
        assert_eq!(client.ask(Command::Find { id: "ada".into() }).await, found);
    }
}

pub(super) async fn ten_tags_with_the_id(target: &Target) {
    let room = target.room(Mode::Hibernating, "ten-tags");
    let long = "t".repeat(256);
    let mut client = room.connect_with("ada", &format!("tags=1,2,3,4,5,6,7,8,{long}")).await;
    let found = client.ask(Command::Find { id: "ada".into() }).await;
    assert_eq!(found["tags"].as_array().map(Vec::len), Some(10));
}

pub(super) async fn too_many_tags_fail_the_connect(target: &Target) {
    let room = target.room(Mode::Hibernating, "too-many-tags");
    let long = format!("tags={}", "t".repeat(257));
    for tags in ["tags=1,2,3,4,5,6,7,8,9,10", &long] {
        let mut client = room.connect_with("ada", tags).await;
        let (code, reason) = client.next_close().await.expect("a code");
        assert_eq!(code, 1011);
        assert_is_generic(&reason);
    }
    assert_eq!(room.perform(Command::Who).await["count"], 0);
}

/// 1011 with an error id and no detail; not listed; no `on_close`; nothing that it sent or wrote.
pub(super) async fn a_failed_on_connect_was_never_here(target: &Target) {
    for mode in Mode::BOTH {
        for (how, kind) in [("fail", "Error"), ("panic", "Panic")] {
            let room = target.room(mode, &format!("failed-connect-{how}"));
            let mut witness = room.connect("witness").await;
            let query = format!("greet=2&put=written&connect={how}");
            let mut client = room.connect_with("ada", &query).await;
            let (code, reason) = client.next_close().await.expect("a code");
            assert_eq!(code, 1011, "{room:?}, {how}");
            assert_is_generic(&reason);
            let error = witness.next_json().await;
            assert_eq!(
                error,
                json!({ "event": "error", "handler": "on_connect", "kind": kind, "id": "ada" })
            );
            let who = witness.ask(Command::Who).await;
            assert_eq!(who["connections"], json!(["witness"]), "no on_close, not listed");
            let written = witness.ask(Command::Get { key: "written".into() }).await;
            assert_eq!(written["value"], json!(null));
        }
    }
}

pub(super) async fn a_close_comes_at_once(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "close-on-connect");
        let mut witness = room.connect("witness").await;
        let mut client = room.connect_with("ada", "greet=2&close=4001").await;
        assert_eq!(client.next().await, Frame::Text("greet 0".into()));
        assert_eq!(client.next().await, Frame::Text("greet 1".into()));
        assert_eq!(client.next_close().await, Some((4001, "as asked".into())));
        let event = witness.next_json().await;
        assert_eq!((&event["event"], &event["code"]), (&json!("close"), &json!(4001)));
        assert_eq!(event["count"], 1);
    }
}
