use serde_json::json;

use super::assert_is_generic;
use crate::{
    Command, Motto, PROBE,
    suite::{Mode, Target},
};

pub(super) async fn a_refusal_wakes_nobody(target: &Target) {
    let room = target.room(Mode::Hibernating, "refusal");
    let _client = room.connect("ada").await;
    room.sleep().await;
    let before = room.stats().await;
    assert_eq!(room.get("?refuse=402").await.status(), 402);
    let refused = room.try_connect("?_pk=bob&refuse=403", &[]).await;
    assert_eq!(refused.expect_err("no 101").status(), 403);
    assert_eq!(room.stats().await, before);
}

pub(super) async fn a_failing_hook_is_500(target: &Target) {
    let room = target.room(Mode::Hibernating, "failing-hook");
    let plain = room.get("?hook=fail").await;
    let upgrade = room.try_connect("?_pk=a&hook=fail", &[]).await.expect_err("no 101");
    for answer in [plain, upgrade] {
        assert_eq!(answer.status(), 500);
        assert_is_generic(&answer.text());
    }
}

pub(super) async fn props_reach_the_room(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "props");
        let props = json!({ "name": "Jürgen 日本", "party": room.party(), "room": room.id() });
        let name = "J%C3%BCrgen+%E6%97%A5%E6%9C%AC";
        let seen = room.get(&format!("?as={name}")).await.json();
        assert_eq!(seen["props"], props);
        let mut client = room.connect_with("ada", &format!("show=request&as={name}")).await;
        assert_eq!(client.next_json().await["props"], props);
    }
}

pub(super) async fn forged_headers_never_arrive(target: &Target) {
    let room = target.room(Mode::Hibernating, "forged");
    let forged = [
        ("x-partykit-props", r#"{"name":"admin","party":"probe","room":"x"}"#),
        ("X-PartyKit-Room", "elsewhere"),
        ("x-partykit-chain", "probe/elsewhere"),
        ("x-mine", "kept"),
    ];
    let mut request = partykit::http::Request::get(room.path(""));
    for (name, value) in forged {
        request = request.header(name, value);
    }
    let request = request.body("".into()).expect("a request");
    let plain = target.send_request(request).await.json();
    let mut client = room.try_connect("?show=request", &forged).await.expect("a 101");
    for seen in [plain, client.next_json().await] {
        let headers = seen["headers"].as_array().expect("headers");
        let names: Vec<_> = headers.iter().filter_map(|header| header[0].as_str()).collect();
        assert!(names.contains(&"x-mine"), "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with("x-partykit")), "{names:?}");
        assert_eq!(seen["props"], json!(null));
    }
    assert_eq!(room.party(), PROBE);
}

pub(super) async fn the_chosen_protocol_is_named(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "protocol");
        let offer = [("sec-websocket-protocol", "v1, v2")];
        let client = room.try_connect("?_pk=a&protocol=v2", &offer).await.expect("a 101");
        assert_eq!(client.header("sec-websocket-protocol"), Some("v2"));
        let client = room.connect("b").await;
        assert_eq!(client.header("sec-websocket-protocol"), None);
    }
}

pub(super) async fn unoffered_protocol_is_500(target: &Target) {
    let room = target.room(Mode::Hibernating, "unoffered");
    let offer = [("sec-websocket-protocol", "v1")];
    let answer = room.try_connect("?_pk=a&protocol=v2", &offer).await.expect_err("no 101");
    assert_eq!(answer.status(), 500);
}

pub(super) async fn state_of_the_application_reaches_hooks_and_rooms(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "motto");
        let seen = room.get("?motto=tell").await.json();
        assert_eq!(seen["props"]["name"], Motto::DEFAULT, "by before-request");
        let mut client = room.connect_with("ada", "show=request&motto=tell").await;
        assert_eq!(client.next_json().await["props"]["name"], Motto::DEFAULT, "by before-connect");
        assert_eq!(client.ask(Command::Motto).await["motto"], Motto::DEFAULT);
        room.sleep().await;
        assert_eq!(client.ask(Command::Motto).await["motto"], Motto::DEFAULT);
    }
}
