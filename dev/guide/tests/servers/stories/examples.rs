use partykit::{
    http::Method,
    storage::MemoryBackend,
    testing::{Step, TestRoomBuilder},
    yjs::Yjs,
};
use std::{sync::Arc, time::Duration};

use super::{a_talk, story};
use crate::Story;

story!(relay::Relay, a_talk());
story!(echo::Echo, a_talk());
story!(partykit_guide::example_axum::Chat, a_talk());
story!(partykit_guide::example_metrics::Chat, a_talk());

story!(
    small::Chat,
    [
        Step::connect("ada").query("name=Ada"),
        Step::say("ada", r#"{"text": "hello"}"#),
        Step::say("ada", "{").may_fail(),
        Step::connect("bob"),
        Step::say("bob", r#"{"text": "who are you?"}"#),
        Step::close("ada", 1000),
        Step::vanish("bob"),
        Step::connect("eve").query("name=Eve"),
    ]
);

story!(
    reminders::Reminders,
    [
        Step::connect("ada"),
        Step::say("ada", r#"{"remind": {"text": "tea", "when": {"after": 3000}}}"#),
        Step::say("ada", r#"{"remind": {"text": "stretch", "when": {"every": 5000}}}"#),
        Step::say("ada", r#"{"remind": {"text": "", "when": {"every": 5000}}}"#),
        Step::say("ada", "{").may_fail(),
        Step::connect("bob"),
        Step::advance(Duration::from_secs(30)),
        Step::say("bob", r#"{"cancel": {"id": "none"}}"#),
        Step::vanish("ada"),
        Step::close("bob", 1000),
        Step::advance(Duration::from_secs(30)),
        Step::connect("eve"),
    ]
);

impl Story for chat::Chat {
    type Room = Self;

    fn query() -> String {
        let (_, token) = with_ada();
        format!("token={token}")
    }

    fn rooms() -> TestRoomBuilder<Self> {
        let (backend, _) = with_ada();
        TestRoomBuilder::new(|_| Self::default()).backend(backend)
    }

    fn steps() -> Vec<Step> {
        let ada = Self::query();
        vec![
            Step::connect("a").query(&ada),
            Step::say("a", r#"{"say": "hello", "id": "1"}"#),
            Step::say("a", r#"{"say": "hello", "id": "1"}"#),
            Step::say("a", r#"{"typing": true}"#),
            Step::say("a", "{").may_fail(),
            Step::connect("b").query(&ada),
            Step::connect("eve").may_fail(),
            Step::vanish("b"),
            Step::say("a", r#"{"say": "who was that?", "id": "2"}"#),
            Step::post("", r#"{"name": "ada"}"#).may_fail(),
            Step::post("", r#"{"name": "Bob"}"#),
            Step::get(""),
            Step::close("a", 1000),
            Step::connect("c").query(&format!("{ada}&since=00000000-1")),
        ]
    }
}

/// What a chat has stored in which Ada has joined, and her token. The token is always the same, because a room
/// under test has the same random numbers each time.
fn with_ada() -> (Arc<MemoryBackend>, String) {
    let backend = Arc::new(MemoryBackend::default());
    let room = TestRoomBuilder::new(|_| chat::Chat::default()).backend(backend.clone()).build();
    let joined =
        futures_executor::block_on(room.post("", r#"{"name": "Ada"}"#)).expect("an answer");
    let joined: serde_json::Value =
        serde_json::from_slice(joined.body().bytes().expect("a body")).expect("JSON");
    (backend, joined["token"].as_str().expect("a token").to_owned())
}

story!(small::Presence, names());

/// Two tabs of Ada, and one of somebody who has no name.
pub(super) fn names() -> [Step; 6] {
    [
        Step::connect("1").query("name=Ada"),
        Step::connect("2").query("name=Ada"),
        Step::connect("3"),
        Step::close("1", 1000),
        Step::vanish("2"),
        Step::connect("4").query("name=Bob"),
    ]
}

story!(
    small::Webhook,
    [
        Step::connect("ada"),
        Step::post("", r#"{"repository": "partykit", "commits": 3}"#),
        Step::post("", "{").may_fail(),
        Step::vanish("ada"),
        Step::post("", r#"{"repository": "partykit", "commits": 1}"#),
    ]
);

story!(
    small::Poll,
    [
        Step::connect("ada"),
        Step::say("ada", "0").may_fail(),
        Step::post("", r#"{"text": "Tea?", "answers": ["yes", "no"], "seconds": 60}"#),
        Step::post("", r#"{"text": "Or?", "answers": [], "seconds": 1}"#).may_fail(),
        Step::connect("bob"),
        Step::say("ada", "1"),
        Step::say("ada", "0").may_fail(),
        Step::say("bob", "2").may_fail(),
        Step::say("bob", "{").may_fail(),
        Step::advance(Duration::from_secs(60)),
        Step::say("bob", "1").may_fail(),
        Step::connect("eve"),
    ]
);

impl Story for board::Board {
    type Room = Self;

    const PATHS: &[&str] = &["", "/items", "/items/00000000000000000001"];

    fn rooms() -> TestRoomBuilder<Self> {
        TestRoomBuilder::new(|_| Self)
    }

    fn steps() -> Vec<Step> {
        let item = r#""id":"00000000000000000001","text":"milk","column":"todo","color":"yellow","place":"1i""#;
        let create =
            format!(r#"{{"type":"change","op":1,"change":{{"do":"create","item":{{{item}}}}}}}"#);
        let delete =
            r#"{"type":"change","op":2,"change":{"do":"delete","id":"00000000000000000001"}}"#;
        vec![
            Step::connect("ada"),
            Step::connect("bob"),
            Step::say("ada", create.clone()),
            Step::say("ada", create),
            Step::say("ada", "{"),
            Step::say("bob", r#"{"type":"page","limit":1}"#),
            Step::get("/items"),
            Step::get("/items/00000000000000000001"),
            Step::request(Method::DELETE, "/items/00000000000000000002", ""),
            Step::say("bob", delete),
            Step::vanish("ada"),
            Step::say("bob", r#"{"type":"page"}"#),
            Step::close("bob", 1000),
        ]
    }
}

impl Story for editor::Editor {
    type Room = Yjs<Self>;

    fn rooms() -> TestRoomBuilder<Self::Room> {
        TestRoomBuilder::new(|_| Yjs::default())
    }

    fn steps() -> Vec<Step> {
        let mut steps = vec![Step::get("")];
        steps.extend(a_document("text"));
        steps
    }
}

/// A client connects, asks for the document, and writes `hi` into the text of this name.
pub(super) fn a_document(name: &str) -> Vec<Step> {
    let update = [
        &[1, 1, 7, 0, 4, 1, u8::try_from(name.len()).expect("a short name")][..],
        name.as_bytes(),
        &[2, b'h', b'i', 0],
    ];
    let update = update.concat();
    let length = u8::try_from(update.len()).expect("a short update");
    let sync = |kind: u8, bytes: &[u8]| [&[0, kind][..], bytes].concat();
    vec![
        Step::connect("ada").query("token=x"),
        Step::say("ada", sync(0, &[1, 0])),
        Step::say("ada", sync(2, &[&[length][..], &update].concat())),
        Step::get(""),
        Step::connect("bob"),
        Step::say("bob", sync(0, &[1, 0])),
        Step::vanish("ada"),
    ]
}
