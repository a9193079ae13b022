use partykit::http::{Method, Request};
use serde_json::{Value, json};

use crate::{
    Command, STRICT,
    suite::{Frame, Mode, Target},
};

pub(super) async fn a_message_is_dropped(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "rejected-message");
        let mut client = room.connect("ada").await;
        let before = client.ask(Command::Who).await;
        client.ask(Command::Count).await;
        for _ in 0..10 {
            client.tell(Command::Reject { put: Some("written".into()) }).await;
            client
                .tell(Command::All { commands: vec![Command::Count, reject()], fail: false })
                .await;
        }
        // Nothing was said, not by on_error either, and it is the same instance.
        assert_eq!(client.ask(Command::Who).await, before, "{room:?}");
        let written = client.ask(Command::Get { key: "written".into() }).await;
        assert_eq!(written["value"], Value::Null);
        assert_eq!(client.ask(Command::Count).await["said"], 2, "the state is rolled back");
    }
}

pub(super) async fn a_request_has_the_status(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "rejected-request");
        let _guest = room.connect("guest").await;
        let instance = room.instance().await;
        let answer = room.post(&Command::Reject { put: Some("written".into()) }).await;
        assert_eq!((answer.status(), answer.text().as_str()), (409, "taken\n"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let written = room.perform(Command::Get { key: "written".into() }).await;
        assert_eq!(written["value"], Value::Null);
        assert_eq!(room.instance().await, instance, "{room:?}");
    }
}

pub(super) async fn bad_json_is_400(target: &Target) {
    let room = target.room(Mode::Hibernating, "bad-json");
    let _guest = room.connect("guest").await;
    let instance = room.instance().await;
    for (body, problem) in [
        ("{", "the body is not JSON: "),
        ("", "the body is not JSON: "),
        ("no JSON", "the body is not JSON: "),
        (r#"{"do": "nothing"}"#, "the body does not fit: unknown variant `nothing`"),
    ] {
        let answer = target.send(Method::POST, &room.path("/do"), body).await;
        assert_eq!(answer.status(), 400, "{body:?}");
        assert!(answer.text().starts_with(problem), "{}", answer.text());
    }
    for (kind, status) in [
        ("application/x-www-form-urlencoded", 415),
        ("application/octet-stream", 415),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain;charset=UTF-8", 200),
    ] {
        let request = Request::post(room.path("/do")).header("content-type", kind);
        let request = request.body(r#"{"do": "who"}"#.into()).expect("a request");
        assert_eq!(target.send_request(request).await.status(), status, "{kind}");
    }
    assert_eq!(room.instance().await, instance);
}

/// What no party understands, and what it might.
const JUNK: &[&[u8]] = &[
    b"{",
    b"",
    b"\0",
    b"\xFF\xFE",
    b"null",
    b"[]",
    b"{}",
    b"[[[[",
    b"\"",
    b"1e400",
    b"18446744073709551616",
    b" ",
    b"{\"do\":7}",
    b"{\"do\":null}",
    b"{\"do\":\"reject\",\"put\":[]}",
    b"{\"text\":\"\\ud800\"}",
    "\u{feff}{}".as_bytes(),
];

/// A thousand times `{`, and each of the others once: as texts, as binary messages, as bodies.
pub(super) async fn junk_is_no_failure(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "junk");
        let mut guest = room.connect("guest").await;
        let mut client = room.connect("ada").await;
        let before = client.ask(Command::Who).await;
        let instance = room.instance().await;
        client.ask(Command::Count).await;
        for number in 0..1_000 + JUNK.len() {
            let junk = JUNK[number.saturating_sub(1_000)];
            if let Ok(text) = std::str::from_utf8(junk) {
                client.say(format!("{STRICT}{text}")).await;
            }
            client.say_bytes([STRICT.as_bytes(), junk].concat()).await;
            // So that a mailbox that closes who fills it is never full.
            if number % 50 == 49 {
                assert_eq!(client.ask(Command::Who).await, before, "{room:?}");
            }
        }
        for junk in JUNK {
            let request = Request::post(room.path("/do")).body(junk.to_vec().into());
            let answer = target.send_request(request.expect("a request")).await;
            assert_eq!(answer.status(), 400, "{:?}", String::from_utf8_lossy(junk));
        }
        assert_eq!(client.ask(Command::Who).await, before, "{room:?}");
        assert_eq!(client.ask(Command::Count).await["said"], 2);
        assert_eq!(room.instance().await, instance, "{room:?}");
        // `on_error` would have told all.
        assert_eq!(guest.ask(Command::Who).await["connections"], before["connections"]);
    }
}

pub(super) async fn a_connect_is_closed_with_the_code(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "rejected-connect");
        let mut guest = room.connect("guest").await;
        let mut client = room.connect_with("ada", "put=came&reject=connect").await;
        // On Workers the TCP connection stays as long as the object, which its guest keeps in memory.
        assert_eq!(client.next().await, Frame::Close(Some((4403, "not you".into()))));
        // Neither on_close nor on_error spoke to those who are here.
        let who = guest.ask(Command::Who).await;
        assert_eq!(who["connections"], json!(["guest"]));
        let came = guest.ask(Command::Get { key: "came".into() }).await;
        assert_eq!(came["value"], Value::Null);
    }
}

/// A page cannot see the status of a WebSocket that is refused.
pub(super) async fn a_hook_opens_and_closes(target: &Target) {
    let room = target.room(Mode::Hibernating, "rejecting-hook");
    let _guest = room.connect("guest").await;
    room.sleep().await;
    let before = room.stats().await;
    for offered in [&[][..], &[("sec-websocket-protocol", "v1, v2")]] {
        let mut client = room.try_connect("?_pk=ada&reject=hook", offered).await.expect("a 101");
        let named = (!offered.is_empty()).then_some("v1");
        assert_eq!(client.header("sec-websocket-protocol"), named);
        assert_eq!(client.next_close().await, Some((4401, "log in".into())));
    }
    let answer = room.get("?reject=hook").await;
    assert_eq!((answer.status(), answer.text().as_str()), (401, "log in\n"));
    assert_eq!(room.stats().await, before, "nobody is woken");
}

fn reject() -> Command {
    Command::Reject { put: None }
}
