//! What is answered before a room hears of a request: the same texts, statuses and headers everywhere.

use partykit::http::{Method, Request};

use super::assert_is_generic;
use crate::{
    SMALL, SMALL_BODY,
    suite::{Answer, Mode, Room, Target},
};

fn check(answer: &Answer, status: u16, text: &str) {
    assert_eq!((answer.status(), answer.text().trim_end()), (status, text));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{text}");
    assert_eq!(answer.header("vary"), Some("origin"), "{text}");
}

pub(super) async fn addresses_have_texts(target: &Target) {
    let long = "x".repeat(1025);
    for (path, status, text) in [
        ("/parties", 404, "the URL names no party"),
        ("/parties/probe", 404, "the URL names no room"),
        ("/parties/no-such-party/room", 404, "no such party"),
        ("/parties/probe/a%zz", 400, "the URL has bad percent-encoding"),
        ("/parties/%ff/room", 400, "the URL has bad percent-encoding"),
        (
            &format!("/parties/probe/{long}"),
            400,
            "a room id has 1 to 1024 bytes, this one has 1025",
        ),
    ] {
        for method in [Method::GET, Method::POST] {
            check(&target.send(method, path, "").await, status, text);
        }
    }
}

pub(super) async fn handshakes_have_texts(target: &Target) {
    let room = target.room(Mode::Hibernating, "front-handshakes");
    let page = [("origin", "https://evil.example")];
    let empty = "a connection id has 1 to 256 bytes, this one has 0";
    for (room, query, headers, status, text) in [
        (&room, "?_pk=", &[][..], 400, empty),
        (&room, "?_pk=%zz", &[], 400, "the URL has bad percent-encoding"),
        (&room, "?_pk=a", &page, 403, "this page may not connect here"),
        (&room, "?_pk=", &page, 400, empty),
        (&target.room_of("no-such-party", "a"), "?_pk=", &page, 404, "no such party"),
    ] {
        let refused = room.try_connect(query, headers).await.expect_err("no 101");
        check(&refused, status, text);
    }
}

/// A page reads why it was refused, if it is one that may talk to rooms.
pub(super) async fn pages_may_read_refusals(target: &Target) {
    let long = "x".repeat(SMALL_BODY + 1);
    for (path, body, status, text) in [
        ("/parties/no-such-party/room", "", 404, "no such party"),
        ("/parties/probe", "", 404, "the URL names no room"),
        ("/parties/small/front-body", &*long, 413, "the body is too long"),
    ] {
        let send = async |origin: &str| {
            let request = Request::post(path).header("origin", origin);
            target.send_request(request.body(body.to_owned().into()).expect("a request")).await
        };
        let own = send(target.base()).await;
        check(&own, status, text);
        assert_eq!(own.header("access-control-allow-origin"), Some(target.base()), "{path}");
        let foreign = send("https://evil.example").await;
        check(&foreign, status, text);
        assert_eq!(foreign.header("access-control-allow-origin"), None, "{path}");
    }
    assert_eq!(target.room_of(SMALL, "front-body").stats().await.map_or(0, |it| it.wakes), 0);
}

pub(super) async fn failures_before_the_room_have_an_id(target: &Target) {
    let room = target.room(Mode::Hibernating, "front-failures");
    let offer = [("sec-websocket-protocol", "v1")];
    for answer in [
        room.get("?hook=fail").await,
        room.try_connect("?_pk=a&hook=fail", &[]).await.expect_err("no 101"),
        room.try_connect("?_pk=a&protocol=v2", &offer).await.expect_err("no 101"),
        // These are not answers.
        room.get("?refuse=101").await,
        room.get("?refuse=600").await,
        room.try_connect("?_pk=a&refuse=199", &[]).await.expect_err("no 101"),
    ] {
        let text = answer.text();
        let id = text.trim_end().strip_prefix("the request failed, error ");
        assert_eq!(id.map(str::len), Some(16), "{text:?}");
        assert_is_generic(&text);
        check(&answer, 500, text.trim_end());
    }
}

/// What a hook answers is an answer like a room's: it has no body where HTTP has none, and a length that
/// is its own.
pub(super) async fn hooks_answer_as_rooms_do(target: &Target) {
    let room = target.room(Mode::Hibernating, "front-hooks");
    for status in [200, 204, 304, 402, 599] {
        for answer in [
            room.get(&format!("?refuse={status}")).await,
            room.try_connect(&format!("?_pk=a&refuse={status}"), &[]).await.expect_err("no 101"),
        ] {
            assert_eq!((answer.status(), &*answer.text()), (status, ""));
            assert_eq!(answer.header("vary"), Some("origin"));
        }
    }
    assert_eq!(room.stats().await.map_or(0, |stats| stats.wakes), 0, "no room has seen it");
}

/// A proxy that takes `Upgrade` away makes a plain request of a handshake.
pub(super) async fn a_handshake_without_its_upgrade_is_told(target: &Target) {
    let room = target.room(Mode::Hibernating, "front-cut-short");
    let cut = async |room: &Room<'_>| {
        let request = Request::get(room.path("?_pk=a"));
        let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        target.send_request(request.body("".into()).expect("a request")).await
    };
    let line = "a WebSocket handshake needs `Upgrade: websocket` and `Connection: Upgrade`";
    check(&cut(&room).await, 426, line);
    check(&cut(&target.room_of("no-such-party", "a")).await, 404, "no such party");
}
