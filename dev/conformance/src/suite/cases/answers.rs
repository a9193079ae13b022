//! What a room answers reaches its client as it is: no runtime follows, decodes or joins anything of it.

use partykit::http::{Method, Request};
use serde_json::json;

use crate::{
    Command, Wanted,
    suite::{Answer, Mode, Room, Target},
};

/// Asks a room for an answer.
async fn ask(target: &Target, room: &Room<'_>, method: Method, wanted: &Wanted) -> Answer {
    let path = room.path(&format!("/answer?status={}", wanted.status));
    let mut request = Request::builder().method(method).uri(path);
    for (n, (name, value)) in wanted.headers.iter().enumerate() {
        request = request.header(format!("x-answer-{n}-{name}"), value);
    }
    let request = request.body(wanted.body.clone().into()).expect("a request");
    target.send_request(request).await
}

fn wanted(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Wanted {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Wanted { status, headers: headers.collect(), body: body.to_vec() }
}

async fn answered(room: &Room<'_>) -> serde_json::Value {
    room.perform(Command::Get { key: "answered".into() }).await["value"].clone()
}

pub(super) async fn redirects_reach_the_client(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "redirect");
        let mut count = 0;
        for status in [301, 302, 303, 307, 308] {
            // To itself, which a follower would go round; to elsewhere; and to nowhere.
            let itself = room.path(&format!("/answer?status={status}"));
            for location in [&itself[..], "https://example.com/away?x=%20", "/"] {
                let redirect = wanted(status, &[("location", location)], b"gone there");
                for method in [Method::GET, Method::POST] {
                    let answer = ask(target, &room, method, &redirect).await;
                    assert_eq!(answer.status(), status);
                    assert_eq!(answer.header("location"), Some(location));
                    assert_eq!(answer.text(), "gone there");
                    count += 1;
                }
            }
        }
        assert_eq!(answered(&room).await, json!(count), "each request runs the handler once");
    }
}

pub(super) async fn hooks_may_redirect(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "hook-redirect");
        for status in [302, 307] {
            let answer = room.get(&format!("?refuse={status}")).await;
            assert_eq!(answer.status(), status);
            let refused = room.try_connect(&format!("?refuse={status}"), &[]).await;
            assert_eq!(refused.expect_err("a redirect is no connection").status(), status);
        }
    }
}

pub(super) async fn encoded_bodies_are_left_alone(target: &Target) {
    // A text in gzip, and bytes that are not what their header says.
    let gzip: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10,
        0x36, 5, 0, 0, 0,
    ];
    for mode in Mode::BOTH {
        let room = target.room(mode, "encoded");
        for (encoding, body) in
            [("gzip", gzip), ("gzip", b"no gzip"), ("br", b"no br"), ("mine", b"x")]
        {
            let headers = [("content-encoding", encoding), ("content-type", "text/plain")];
            let answer = ask(target, &room, Method::POST, &wanted(200, &headers, body)).await;
            assert_eq!(answer.header("content-encoding"), Some(encoding));
            assert_eq!(&answer.body()[..], body, "{encoding}");
        }
    }
}

pub(super) async fn answers_may_be_alike(target: &Target) {
    let many = [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-encoding", "gzip"),
        ("x-mine", "1"),
    ];
    for mode in Mode::BOTH {
        let room = target.room(mode, "alike");
        // On Workers, an answer whose head is that of the one before has its head copied.
        for (status, headers) in [(201, &many[..]), (418, &[]), (201, &many[..])] {
            for body in ["one", "two", "", "three"] {
                let wanted = wanted(status, headers, body.as_bytes());
                let answer = ask(target, &room, Method::POST, &wanted).await;
                assert_eq!((answer.status(), &answer.text()[..]), (status, body));
                let is_many = !headers.is_empty();
                assert_eq!(answer.header("content-encoding"), is_many.then_some("gzip"));
                assert_eq!(answer.header("x-mine"), is_many.then_some("1"));
                assert_eq!(answer.headers("set-cookie").len(), if is_many { 2 } else { 0 });
            }
        }
    }
}

pub(super) async fn cookies_stay_apart(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "cookies");
        let cookies = ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/", "b=2; HttpOnly"];
        let headers = cookies.map(|cookie| ("set-cookie", cookie));
        let answer = ask(target, &room, Method::POST, &wanted(200, &headers, b"")).await;
        assert_eq!(answer.headers("set-cookie"), cookies);
    }
}

pub(super) async fn some_statuses_have_no_body(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "no-body");
        for status in [204, 205, 304] {
            let answer =
                ask(target, &room, Method::POST, &wanted(status, &[("x-kept", "1")], b"lost"))
                    .await;
            assert_eq!((answer.status(), answer.header("x-kept")), (status, Some("1")));
            assert_eq!(answer.text(), "", "{status}");
        }
        for status in [200, 299, 418, 599] {
            let answer = ask(target, &room, Method::POST, &wanted(status, &[], b"body")).await;
            assert_eq!((answer.status(), &answer.text()[..]), (status, "body"));
        }
    }
}

pub(super) async fn heads_have_no_body(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "head");
        let answer = ask(target, &room, Method::HEAD, &wanted(200, &[("x-kept", "1")], b"")).await;
        assert_eq!((answer.status(), answer.header("x-kept")), (200, Some("1")));
        assert_eq!(answer.text(), "");
    }
}

pub(super) async fn internal_headers_stay_inside(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "internal");
        let headers =
            [("x-partykit-refusal", "full"), ("x-partykit-streams", "1"), ("x-mine", "1")];
        let answer = ask(target, &room, Method::POST, &wanted(200, &headers, b"body")).await;
        assert_eq!((answer.status(), answer.header("x-mine")), (200, Some("1")));
        assert_eq!(answer.header("x-partykit-refusal"), None);
        assert_eq!(answer.header("x-partykit-streams"), None);
    }
}

pub(super) async fn calls_hear_what_was_answered(target: &Target) {
    for mode in Mode::BOTH {
        let (room, other) = (target.room(mode, "ask"), target.room(mode, "ask-other"));
        let cookies = [("set-cookie", "a=1, 2"), ("set-cookie", "b=2")];
        for (n, wanted) in [
            wanted(302, &[("location", "/parties/main/elsewhere")], b"there"),
            wanted(200, &[("content-encoding", "gzip")], b"no gzip"),
            wanted(200, &cookies, b""),
            wanted(404, &[("x-odd", "a%20b")], b"\x00\xff"),
        ]
        .into_iter()
        .enumerate()
        {
            let (party, id) = (other.party().to_owned(), other.id().to_owned());
            let ask = Command::Ask { party, room: id, wanted: wanted.clone() };
            let answer = room.perform(ask).await;
            assert_eq!(answer["status"], wanted.status, "{answer}");
            assert_eq!(answer["body"], json!(wanted.body));
            let headers = answer["headers"].as_array().expect("headers");
            for header in &wanted.headers {
                assert!(headers.contains(&json!(header)), "{header:?} in {headers:?}");
            }
            assert_eq!(answered(&other).await, json!(n + 1));
        }
    }
}
