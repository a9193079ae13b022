use partykit_runtime_tokio::Runtime;

use crate::{
    support::{header, parse, serve},
    witness::{Echo, Witness},
};

const KEY: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

/// A handshake with one thing wrong: `edit` gets its lines.
fn handshake(host: &str, edit: impl FnOnce(&mut Vec<String>)) -> String {
    let mut lines = vec![
        "GET /parties/echo/a HTTP/1.1".to_owned(),
        format!("host: {host}"),
        "upgrade: websocket".to_owned(),
        "connection: Upgrade".to_owned(),
        "sec-websocket-version: 13".to_owned(),
        KEY.to_owned(),
    ];
    edit(&mut lines);
    lines.join("\r\n") + "\r\n\r\n"
}

/// Each gets one response and the end of the connection, whatever is sent behind it: what looks like a
/// request there must not be answered.
#[tokio::test]
async fn threat_09_a_malformed_handshake_gets_one_answer() {
    let site = serve(Runtime::builder().party::<Echo>("echo")).await;
    let host = site.addr.to_string();
    let smuggled = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    type Edit = Box<dyn FnOnce(&mut Vec<String>)>;
    let set = |n: usize, line: &str| -> Edit {
        let line = line.to_owned();
        Box::new(move |lines| lines[n] = line)
    };
    let add = |line: &str| -> Edit {
        let line = line.to_owned();
        Box::new(move |lines| lines.push(line))
    };
    let drop_line = |n: usize| -> Edit { Box::new(move |lines| drop(lines.remove(n))) };
    let cases: Vec<(&str, u16, Edit)> = vec![
        ("POST", 400, set(0, "POST /parties/echo/a HTTP/1.1")),
        ("HTTP/1.0", 400, set(0, "GET /parties/echo/a HTTP/1.0")),
        ("HTTP/3.0", 400, set(0, "GET /parties/echo/a HTTP/3.0")),
        ("another authority", 400, set(0, "GET http://evil.com/parties/echo/a HTTP/1.1")),
        ("no host", 400, drop_line(1)),
        ("two hosts", 400, add(&format!("host: {host}"))),
        ("an impossible host", 400, set(1, "host: a/b")),
        ("two upgrades", 400, add("upgrade: websocket")),
        ("no connection header", 400, drop_line(3)),
        ("connection without upgrade", 400, set(3, "connection: keep-alive")),
        ("no version", 426, drop_line(4)),
        ("version 12", 426, set(4, "sec-websocket-version: 12")),
        ("version 8 and 13", 426, set(4, "sec-websocket-version: 8, 13")),
        ("two versions", 400, add("sec-websocket-version: 13")),
        ("no key", 400, drop_line(5)),
        ("a short key", 400, set(5, "sec-websocket-key: AAAA")),
        ("a key that is no base64", 400, set(5, "sec-websocket-key: !!!!!!!!!!!!!!!!!!!!!!==")),
        ("two keys", 400, add(KEY)),
        ("a body", 400, add("content-length: 5")),
        ("chunks", 400, add("transfer-encoding: chunked")),
        ("both", 400, add("content-length: 5\r\ntransfer-encoding: chunked")),
        ("a space before the colon", 400, add("x-a : b")),
        ("a folded line", 400, add("x-a: b\r\n c")),
        ("a NUL", 400, add("x-a: \0")),
        ("101 headers", 431, add(&vec!["x-a: b"; 101].join("\r\n"))),
        ("a long header", 431, add(&format!("x-a: {}", "b".repeat(20_000)))),
        ("bare line feeds in it", 400, add("x-a: b\nhost: evil.com")),
        ("a chunked body in disguise", 400, add("transfer-encoding: xchunked")),
        ("two lengths", 400, add("content-length: 5\r\ncontent-length: 6")),
        ("a length that is not a number", 400, add("content-length: +5")),
        ("CONNECT", 400, set(0, &format!("CONNECT {host} HTTP/1.1"))),
        ("no target", 400, set(0, "GET HTTP/1.1")),
        ("a header without a name", 400, add(": b")),
        ("an empty id", 400, set(0, "GET /parties/echo/a?_pk= HTTP/1.1")),
        ("a foreign origin", 403, add("origin: http://evil.com")),
        ("nobody's party", 404, set(0, "GET /parties/nobody/a HTTP/1.1")),
    ];
    assert!(cases.len() >= 30);
    let mut witness = Witness::of(&site).await;
    let attack = async {
        for (what, status, edit) in cases {
            let closes = !matches!(status, 403 | 404) && what != "an empty id";
            let more = if closes { smuggled.as_str() } else { "" };
            let close = if closes { "" } else { "x-done: 1\r\nconnection: close" };
            let text = handshake(&host, |lines| {
                edit(lines);
                if !close.is_empty() {
                    lines[3] = "connection: Upgrade, close".to_owned();
                }
            });
            let answer = parse(&site.raw((text + more).as_bytes()).await);
            assert_eq!(answer.status(), status, "{what}: {answer:?}");
            if status == 426 {
                assert_eq!(header(&answer, "sec-websocket-version"), Some("13"), "{what}");
            }
        }
    };
    witness.during(attack).await;
    witness.is_alone().await;
    assert_eq!(site.handle.stats().parties["echo"].rooms, 1, "no room saw any of it");
}
