//! Input as no decent client sends it, byte for byte the same to both runtimes: the same answer, or one of
//! the list in `docs/src/workers.md`; and the memory of a neighbour is untouched after each.

use std::{net::SocketAddr, time::Duration};

use partykit::http::Method;
use partykit_conformance::{
    Command, SMALL, Server, serve,
    suite::{Client, Mode, Room, Target},
};
use partykit_workerd::{Project, Workerd};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// [`Command::Who`].
const WHO: &str = r#"{"do":"who"}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// An answer with this status, other than 101.
    Status(u16),
    /// A 101, and some time after it a Close with this code.
    Closed(u16),
    /// A 101, and some time after it a message.
    Said,
    /// A 101, and some time after it the end without a Close.
    Lost,
    /// Nothing for long.
    Silent,
    /// The end of the connection.
    Nothing,
}
use Heard::{Closed, Lost, Nothing, Said, Silent, Status};

/// What is sent, in two parts: the second when the first has been answered with 101.
struct Bad {
    what: String,
    head: Vec<u8>,
    frames: Vec<u8>,
    tokio: Heard,
    /// Default: as on Tokio.
    workers: Heard,
}

impl Bad {
    fn on_workers(self, workers: Heard) -> Self {
        Self { workers, ..self }
    }
}

fn bad(what: impl Into<String>, head: impl AsRef<[u8]>, tokio: Heard) -> Bad {
    let (what, head) = (what.into(), head.as_ref().to_vec());
    // A client that is let in says goodbye.
    Bad { what, head, frames: frame(0x88, b"\x03\xE8"), tokio, workers: tokio }
}

/// A handshake as it should be; the last line is missing.
fn handshake(path: &str) -> Vec<String> {
    [
        &*format!("GET {path} HTTP/1.1"),
        "host: HOST",
        "upgrade: websocket",
        "connection: Upgrade",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

fn text(lines: &[String]) -> String {
    lines.join("\r\n") + "\r\n\r\n"
}

/// A short frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short one");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// The header of a frame of which nothing more comes, masked.
fn announce(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xFF], &length.to_be_bytes()[..], &[0; 4]].concat()
}

/// What is wrong about frames.
fn frames() -> Vec<Bad> {
    // A client that is let through says goodbye.
    let sent = |what: &str, frames: Vec<u8>, tokio| Bad {
        frames: [frames, frame(0x88, b"\x03\xE8")].concat(),
        ..bad(what, text(&handshake("/parties/probe/hostile?_pk=eve")), tokio)
    };
    let long = [announce(0x82, (1 << 20) + 1), vec![0; (1 << 20) + 1]].concat();
    vec![
        sent("a message over the limit", long, Closed(1009)),
        sent("a text that is not UTF-8", frame(0x81, b"\xFF\xFE"), Closed(1007)).on_workers(Said),
        sent("a frame without a mask", b"\x81\x02hi".to_vec(), Closed(1002)).on_workers(Said),
        sent("an opcode that means nothing", frame(0x83, b""), Closed(1002)),
        sent("a reserved bit", frame(0xA1, b"hi"), Closed(1002)),
        sent("compression that nobody agreed on", frame(0xC1, b"\xAA\x00"), Closed(1002)),
        sent("a continuation of nothing", frame(0x80, b"hi"), Closed(1002)),
        sent(
            "a message within another",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            Closed(1002),
        ),
        sent("a ping in pieces", frame(0x09, b""), Closed(1002)),
        sent(
            "a long ping",
            [&[0x89, 0xFE, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat(),
            Closed(1002),
        )
        .on_workers(Closed(1000)),
        sent("a Close of one byte", frame(0x88, b"\x03"), Closed(1002)).on_workers(Closed(1005)),
        sent("a Close with code 0", frame(0x88, b"\0\0"), Closed(1002)),
        sent("a Close with code 999", frame(0x88, b"\x03\xE7"), Closed(1002)),
        sent("a Close with code 1004", frame(0x88, b"\x03\xEC"), Closed(1002)),
        sent("a Close with code 1005", frame(0x88, b"\x03\xED"), Closed(1002))
            .on_workers(Closed(1005)),
        sent("a Close with code 1006", frame(0x88, b"\x03\xEE"), Closed(1002)),
        sent("a Close with code 1015", frame(0x88, b"\x03\xF7"), Closed(1002)),
        sent("a Close with code 2999", frame(0x88, b"\x0B\xB7"), Closed(1002)),
        sent("a Close with code 5000", frame(0x88, b"\x13\x88"), Closed(1002)),
        sent("a reason that is no text", frame(0x88, b"\x03\xE8\xFF"), Closed(1007))
            .on_workers(Closed(1000)),
        sent("64 MiB announced", announce(0x82, 64 << 20), Closed(1009)),
        sent("all bytes that there are announced", announce(0x82, u64::MAX), Closed(1009)),
    ]
}

/// What is wrong about addresses and ids.
fn addresses() -> Vec<Bad> {
    let long = "x".repeat(1025);
    let far = format!("/parties/probe/hostile?_pk=eve&x={}", "x".repeat(16_320));
    let tags = format!("/parties/probe/hostile?tags={}", "t".repeat(257));
    let get = |path: &str, tokio| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n");
        bad(format!("GET {path:.60}"), head, tokio)
    };
    let connect =
        |path: &str, tokio| bad(format!("a connect to {path:.60}"), text(&handshake(path)), tokio);
    let mut all = Vec::new();
    for (path, answer) in [
        ("/parties/probe/%zz", 400),
        ("/parties/probe/%ff", 400),
        ("/parties/probe/%2", 400),
        ("/parties/%ff/hostile", 400),
        ("/parties/probe/", 404),
        ("/parties/nobody/hostile", 404),
        ("/parties/__proto__/hostile", 404),
        ("/parties/constructor/hostile", 404),
        (&*format!("/parties/probe/{long}"), 400),
        (&*format!("/parties/probe/{}", "x".repeat(10_240)), 400),
        ("/parties/probe/%00", 200),
    ] {
        all.push(get(path, Status(answer)));
        all.push(connect(path, if answer == 200 { Closed(1000) } else { Status(answer) }));
    }
    for (pk, answer) in [
        (String::new(), Status(400)),
        ("x".repeat(257), Status(400)),
        ("%C3%A9".repeat(129), Status(400)),
        ("%ff".to_owned(), Status(400)),
        ("%00".to_owned(), Closed(1000)),
        ("__proto__".to_owned(), Closed(1000)),
    ] {
        all.push(connect(&format!("/parties/probe/hostile?_pk={pk}"), answer));
    }
    // On Workers, the platform takes longer addresses; a room keeps a part of each.
    all.push(connect(&far, Status(431)).on_workers(Closed(1000)));
    all.push(connect(&tags, Closed(1011)));
    all.push(connect("/parties/probe/hostile?tags=1,2,3,4,5,6,7,8,9,10", Closed(1011)));
    all
}

/// What is wrong about handshakes and requests.
fn heads() -> Vec<Bad> {
    let with = |what: &str, tokio, edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines = handshake("/parties/probe/hostile");
        edit(&mut lines);
        bad(what, text(&lines), tokio)
    };
    let set =
        |n: usize, line: &'static str| move |lines: &mut Vec<String>| lines[n] = line.to_owned();
    let add = |line: &'static str| move |lines: &mut Vec<String>| lines.push(line.to_owned());
    let body = "POST /parties/probe/hostile/echo HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\
                content-length: 2097153\r\n\r\n";
    vec![
        with("a POST that upgrades", Status(400), &set(0, "POST /parties/probe/hostile HTTP/1.1")),
        with("no key", Status(400), &|lines| drop(lines.remove(5))),
        with("a short key", Status(400), &set(5, "sec-websocket-key: AAAA"))
            .on_workers(Closed(1000)),
        with("version 12", Status(426), &set(4, "sec-websocket-version: 12")),
        with("no version", Status(426), &|lines| drop(lines.remove(4))),
        with("no connection header", Status(400), &|lines| drop(lines.remove(3)))
            .on_workers(Closed(1000)),
        with("two hosts", Status(400), &add("host: HOST")),
        with("a NUL", Status(400), &add("x-a: \0")),
        with("both lengths", Status(400), &add("content-length: 5\r\ntransfer-encoding: chunked"))
            .on_workers(Closed(1002)),
        with("a length that is not a number", Status(400), &add("content-length: +5")),
        with("101 headers", Status(431), &|lines| lines.extend(vec!["x-a: b".to_owned(); 101]))
            .on_workers(Closed(1000)),
        with("a long header", Status(431), &|lines| {
            lines.push(format!("x-a: {}", "b".repeat(20_000)));
        })
        .on_workers(Closed(1000)),
        bad("a long body", [body.as_bytes(), &vec![b'x'; 2_097_153]].concat(), Status(413)),
        bad("no HTTP at all", b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03\r\n\r\n", Status(400)),
    ]
}

/// What is wrong about where pages come from.
fn origins() -> Vec<Bad> {
    let from = |origin: &str, tokio| {
        let mut lines = handshake("/parties/probe/hostile");
        lines.push(format!("origin: {origin}"));
        bad(format!("a page of {origin:?}"), text(&lines), tokio)
    };
    let mut all = vec![from("http://HOST", Closed(1000)), from("HTTP://HOST", Closed(1000))];
    all.push(from("", Status(403)).on_workers(Closed(1000)));
    for origin in [
        "http://127.0.0.1",
        "http://HOST/",
        "ftp://HOST",
        "HOST",
        "null",
        "http://HOST.evil.example",
        "http://HOST@evil.example",
        "http://evil.example#HOST",
        "https://xn--pp-6kc.example",
    ] {
        all.push(from(origin, Status(403)));
    }
    all
}

fn all() -> Vec<Bad> {
    [frames(), addresses(), heads(), origins()].into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_answers_and_its_rooms_go_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = serve(Server::parties(), listener).expect("an address");
    attack(&Target::new(&server.url()), server.address(), |bad| bad.tokio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn workers_answer_the_same_but_for_the_list() {
    let project = Project::open(env!("CARGO_MANIFEST_DIR")).expect("a project");
    let workerd = Workerd::start(&project).expect("`cargo xtask workerd` builds it first");
    // Nothing here is put to sleep.
    attack(&Target::new(&workerd.url()), workerd.address(), |bad| bad.workers).await;
}

async fn attack(target: &Target, address: SocketAddr, expected: impl Fn(&Bad) -> Heard) {
    let mut neighbour = Neighbour::of(target).await;
    let mut wrong = Vec::new();
    for (number, bad) in all().into_iter().enumerate() {
        let (heard, expected) = (hear(address, number, &bad).await, expected(&bad));
        if heard != expected {
            wrong.push(format!("{}: {heard:?}, not {expected:?}", bad.what));
        }
        neighbour.is_untouched(&bad.what).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    names_are_nothing_but_names(target).await;
    neighbour.is_untouched("names").await;
    headers_of_ours_are_nothing_from_outside(target).await;
    neighbour.is_untouched("headers of ours").await;
    too_many_are_refused(target).await;
    neighbour.is_untouched("a flood of connections").await;
}

/// Somebody in another room of the same process, whose instance has a name that is only in its memory.
struct Neighbour {
    client: Client,
    instance: Value,
}

impl Neighbour {
    async fn of(target: &Target) -> Self {
        let mut client = target.room(Mode::InMemory, "neighbour").connect("neighbour").await;
        let instance = client.ask(Command::Who).await["instance"].take();
        assert!(instance.is_string());
        Self { client, instance }
    }

    async fn is_untouched(&mut self, after: &str) {
        let who = self.client.ask(Command::Who).await;
        assert_eq!(who["instance"], self.instance, "after {after}");
    }
}

async fn hear(address: SocketAddr, number: usize, bad: &Bad) -> Heard {
    let exchanged = timeout(PATIENCE, exchange(address, number, bad)).await;
    exchanged.unwrap_or(Silent)
}

async fn exchange(address: SocketAddr, number: usize, bad: &Bad) -> Heard {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    // Bytes: not all of it is text.
    let host = address.to_string();
    let head = replace(&bad.head, b"HOST", host.as_bytes());
    // A room for each.
    let head = replace(&head, b"hostile", format!("hostile-{number}").as_bytes());
    // The server may hang up before it has read all of it, and has answered before.
    let _ = stream.write_all(&head).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match status {
        None => Nothing,
        Some(101) => {
            let _ = stream.write_all(&bad.frames).await;
            close(&mut stream).await.unwrap_or(Lost)
        }
        Some(status) => Status(status),
    }
}

/// What comes next, behind Pongs at most; `None` when nothing does.
async fn close(stream: &mut TcpStream) -> Option<Heard> {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.ok()?;
        // The platform says more than fits into a Close.
        let length = match head[1] {
            126 => stream.read_u16().await.ok()?,
            short => short.into(),
        };
        let mut payload = vec![0; length.into()];
        stream.read_exact(&mut payload).await.ok()?;
        match head[0] {
            0x8A => {}
            // Without a code, 1005.
            0x88 => {
                let code = payload.first_chunk().copied().map_or(1005, u16::from_be_bytes);
                return Some(Closed(code));
            }
            _ => return Some(Said),
        }
    }
}

fn replace(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(what.len()).position(|window| window == what) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// Rooms are told apart by their whole names and nothing else, whatever an address would make of them.
async fn names_are_nothing_but_names(target: &Target) {
    for (path, name) in [
        ("%2e%2e", ".."),
        ("..", ".."),
        ("%2e%2e%2f%2e%2e%2fetc%2fpasswd", "../../etc/passwd"),
        ("..%5c..%5cboot.ini", r"..\..\boot.ini"),
        ("a%00b", "a\0b"),
        ("%c3%a9", "\u{e9}"),
        ("e%cc%81", "e\u{301}"),
        ("%252e%252e", "%2e%2e"),
        ("%20", " "),
        ("%e2%80%ae", "\u{202e}"),
        ("%ef%bf%bd", "\u{fffd}"),
        ("constructor", "constructor"),
        ("%F0%9F%8E%88", "\u{1f388}"),
    ] {
        let answer = target.send(Method::POST, &format!("/parties/probe/{path}/do"), WHO).await;
        assert_eq!((answer.status(), &answer.json()["room"]), (200, &name.into()), "{path}");
    }
}

/// A client that writes what our own parts tell each other gets no further with it.
async fn headers_of_ours_are_nothing_from_outside(target: &Target) {
    let room = target.room(Mode::Hibernating, "forged");
    let envelope = r#"{"kind":"Call","method":"POST","uri":"http://x/parties/probe/x/fail","headers":[],"props":{"name":"eve","party":"x","room":"x"},"chain":[]}"#;
    let forged = [
        ("x-partykit-envelope", envelope),
        ("x-partykit-props", r#"{"name":"eve","party":"x","room":"x"}"#),
        ("x-partykit-chain", "probe/x"),
        ("x-partykit-streams", "1"),
        ("x-partykit-refusal", "full"),
    ];
    let mut client = room.try_connect("?_pk=eve&show=request", &forged).await.expect("a 101");
    let mut request = partykit::http::Request::builder().method(Method::GET).uri(room.path(""));
    for (name, value) in forged {
        request = request.header(name, value);
    }
    let answer = target.send_request(request.body("".into()).expect("a request")).await;
    assert_eq!(answer.status(), 200);
    for seen in [client.next_json().await, answer.json()] {
        assert_eq!(seen["props"], Value::Null, "{seen}");
        assert!(!seen["headers"].to_string().contains("x-partykit"), "{seen}");
    }
}

/// More connections than a room holds, and again when they are gone.
async fn too_many_are_refused(target: &Target) {
    let room: Room<'_> = target.room_of(SMALL, "flood");
    let mut inside = Vec::new();
    for n in 0..2 {
        inside.push(room.connect(&n.to_string()).await);
    }
    for n in 0..100 {
        let refused = room.try_connect(&format!("?_pk=more{n}"), &[]).await;
        assert_eq!(refused.expect_err("no 101").status(), 503);
    }
    for client in &mut inside {
        client.has_seen_all().await;
    }
}
