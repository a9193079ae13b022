//! A client that talks nonsense.

use partykit::{
    Body, Connection, Message, Request, RequestExt, Result, Room, Server,
    http::Method,
    testing::{Step, TestConnection, TestRoom, TestRoomBuilder},
};

use crate::{Story, log};

/// What no server understands, and what it might: each once, and the first a thousand times.
const JUNK: &[&[u8]] = &[
    b"{",
    b"",
    b"\0",
    b"\xFF\xFE",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[[[[",
    b"\"",
    b"\"\"",
    b"0",
    b"-1",
    b"1e400",
    b"18446744073709551616",
    b"99999999999999999999999999999999",
    b"NaN",
    b" ",
    b"4294967295 x",
    b"/",
    b"{\"type\":7}",
    b"{\"id\":null}",
    b"{\"text\":\"\\ud800\"}",
    b"{\"text\":\"\",\"answers\":[],\"seconds\":0}",
    b"{\"answer\":18446744073709551615}",
    "\u{feff}{}".as_bytes(),
    "\u{202e}".as_bytes(),
];

const QUERIES: &[&str] =
    &["", "name", "name=%FF", "name=%00&name=&name=x", "token=", "team=%", "=&&="];

const METHODS: &[Method] = &[
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Sends all of it to a server that shows none of it as a failure: no error, no line above `debug`, no
/// instance lost, no answer of 500 or more.
pub(crate) fn is_no_failure<S: Story>() {
    log::install();
    crate::block_on(async {
        let room = S::rooms().build();
        let mut client = come::<S>(&room).await;
        for number in 0..1_000 + JUNK.len() {
            let junk = JUNK[number.saturating_sub(1_000)];
            for is_text in [true, false] {
                if !client.is_open() {
                    client = come::<S>(&room).await;
                }
                match String::from_utf8(junk.to_vec()) {
                    Ok(text) if is_text => client.send(text).await,
                    _ => client.send(junk).await,
                }
                client.received();
            }
        }
        // More than fits into the attachment of a connection, with its uri.
        let long = format!("name={0}&token={0}", "x".repeat(16_400));
        for query in QUERIES.iter().copied().chain([&*long]) {
            let request = Request::builder().uri(format!("/?_pk=eve&{query}"));
            let request = request.body(Body::empty()).expect("a request");
            // It may be refused.
            drop(room.try_connect("eve", request).await);
        }
        for (path, method) in
            S::PATHS.iter().flat_map(|path| METHODS.iter().map(move |m| (path, m)))
        {
            for junk in JUNK {
                let uri = format!("/parties/main/room{path}?name=%FF");
                let request = Request::builder().method(method).uri(uri);
                let request = request.body(Body::from(junk.to_vec())).expect("a request");
                let answer = room.request(request).await;
                let status = answer.map(|answer| answer.status().as_u16());
                assert!(matches!(status, Ok(..500)), "{method} {path:?} {junk:?}: {status:?}");
            }
        }
        judge(&room);
    });
}

fn judge<S: Server>(room: &TestRoom<S>) {
    assert_eq!(room.errors(), [""; 0]);
    let account = room.stats().account;
    assert_eq!((account.resets, account.dropped_messages, account.overruns), (0, 0, 0));
    let lines = log::lines();
    let loud: Vec<_> = lines.iter().filter(|line| !line.starts_with("DEBUG")).collect();
    assert_eq!(loud, [""; 0]);
    // That is heard what is said:
    assert!(log::count(&lines, "DEBUG") as u64 > account.rejected, "{lines:?}");
}

/// Connects a client that may come in.
async fn come<S: Story>(room: &TestRoom<S::Room>) -> TestConnection {
    let request = Request::builder().uri(format!("/?_pk=mallory&{}", S::query()));
    room.connect_with("mallory", request.body(Body::empty()).expect("a request")).await
}

/// Takes what a client sends for a failure of its own.
#[derive(Default)]
struct Touchy;

impl Server for Touchy {
    async fn on_message(&mut self, _: &Room, _: &Connection, message: Message) -> Result {
        let _: u32 = serde_json::from_slice(message.as_bytes())?;
        Ok(())
    }
}

impl Story for Touchy {
    type Room = Self;

    fn rooms() -> TestRoomBuilder<Self> {
        TestRoomBuilder::new(|_| Self)
    }

    fn steps() -> Vec<Step> {
        vec![Step::connect("ada")]
    }
}

#[test]
#[should_panic(expected = "on_message failed: ")]
fn a_server_that_takes_it_for_a_failure_is_found() {
    is_no_failure::<Touchy>();
}
