//! The log as it is printed: who is turned away is named, with what to configure, and nobody writes lines
//! of their own into it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use partykit_core::{
    Admit, Connection, Lobby, Message, Options, Request, Response, Result, Room, Server,
};
use partykit_runtime_tokio::{Builder, Runtime};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Site, eventually, header, serve};

#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "runtime/support.rs"]
mod support;
#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "runtime/transport.rs"]
mod transport;

const TRANSPORT: transport::Transport = transport::Transport::Tcp;

/// A line as the log has them, behind a line break.
const FORGED: &str =
    "x\n2026-01-01T00:00:00.000000Z ERROR partykit: FORGED\r\nFORGED\u{2028}FORGED";

/// Fails with what it is told.
#[derive(Default)]
struct Parrot;

impl Server for Parrot {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_before_request(request: Request, _: &Lobby) -> Result<Admit> {
        match request.uri().query() {
            Some("refuse") => Ok(Admit::refuse(http::StatusCode::UNAUTHORIZED)),
            Some("fail") => Err(FORGED.into()),
            Some("panic") => panic!("{FORGED}"),
            _ => Ok(request.into()),
        }
    }

    async fn on_connect(&mut self, _: &Room, _: &Connection, request: &Request) -> Result {
        match request.uri().query() {
            Some(query) if query.contains("fail") => Err(FORGED.into()),
            _ => Ok(()),
        }
    }

    async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
        match message.as_text() {
            Some("panic") => panic!("{FORGED}"),
            Some("task") => {
                room.spawn("parrot", async { panic!("{FORGED}") });
                Ok(())
            }
            text => Err(format!("no such command: {text:?} {FORGED}").into()),
        }
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Err(FORGED.into())
    }
}

/// What is printed.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Printed {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Printed {
    /// From this level on.
    fn begin(level: tracing::Level) -> (Self, tracing::subscriber::DefaultGuard) {
        let printed = Self::default();
        let log = tracing_subscriber::fmt().with_ansi(false).with_max_level(level);
        let guard = tracing::subscriber::set_default(log.with_writer(printed.clone()).finish());
        (printed, guard)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines that hold this.
    fn lines(&self, text: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(text)).map(Into::into).collect()
    }

    fn one(&self, text: &str) -> String {
        let lines = self.lines(text);
        assert_eq!(lines.len(), 1, "{text:?} in {}", self.text());
        lines[0].clone()
    }
}

async fn refused(site: &Site, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    let answer = site.try_connect(path, headers).await.err().expect("it is refused");
    assert_eq!(header(&answer, "connection"), Some("close"), "{path}");
    answer.status().as_u16()
}

fn site() -> Builder {
    Runtime::builder().party::<Parrot>("main")
}

#[tokio::test]
async fn no_text_of_an_application_or_a_client_begins_a_line() {
    let (printed, _guard) = Printed::begin(tracing::Level::TRACE);
    let site = serve(site().hosts(["app.example"])).await;
    let host = site.addr.to_string();
    let name = "a%0a2026-01-01T00:00:00.000000Z%20ERROR%20partykit:%20FORGED";
    for query in ["refuse", "fail", "panic", "none"] {
        site.get(&format!("/parties/main/{name}?{query}")).await;
    }
    site.get(&format!("/parties/{name}/{name}")).await;
    site.get(&format!("/parties/main/{name}?_pk=%zz")).await;
    let mut told = site.connect(&format!("/parties/main/{name}?_pk={name}")).await;
    for text in ["panic", "task", FORGED] {
        told.send(text).await;
    }
    let (mut failed, _) =
        site.try_connect(&format!("/parties/main/{name}?_pk={name}&fail"), &[]).await.unwrap();
    assert_eq!(failed.closed().await.0, 1011);
    refused(&site, &format!("/parties/main/{name}"), &[("origin", "http://evil.example")]).await;
    // Bytes that a header may have and text may not, and names that are no names.
    for head in [
        format!(
            "GET /parties/main/{name} HTTP/1.1\r\nhost: {host}\r\norigin: http://\u{2028}FORGED\r\n"
        ),
        format!("GET /parties/main/{name} HTTP/1.1\r\nhost: evil.example\r\norigin: null\r\n"),
    ] {
        let handshake = "upgrade: websocket\r\nconnection: Upgrade, close\r\n\
                         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        site.raw(format!("{head}{handshake}").as_bytes()).await;
    }
    drop(told);
    eventually(|| !printed.lines("a task panicked").is_empty()).await;
    support::within(site.handle.shutdown()).await;

    let text = printed.text();
    for seen in [
        "on_message failed",
        "on_message panicked",
        "on_request failed",
        "on_connect failed",
        "on_before_request failed",
        "on_before_request panicked",
        "a task panicked",
        "refused a page of another site",
        "refused a request for another host",
        "refused a request: no party has this name",
        "a hook refused a client",
    ] {
        assert!(text.contains(seen), "{seen:?} is not tried: {text}");
    }
    assert!(text.contains("FORGED"), "it is in the log, quoted");
    for line in text.split(['\n', '\r', '\u{2028}', '\u{85}']).filter(|line| !line.is_empty()) {
        // What tracing prints begins with a time that is not the forged one.
        assert!(!line.starts_with("2026-01-01T") && !line.starts_with("FORGED"), "{line}");
    }
}

#[tokio::test]
async fn at_the_level_of_errors_a_line_says_in_which_room() {
    let (printed, _guard) = Printed::begin(tracing::Level::ERROR);
    let site = serve(site()).await;
    let mut client = site.connect("/parties/main/lobby?_pk=ada").await;
    client.send("nonsense").await;
    site.get("/parties/main/lobby?fail").await;
    eventually(|| !printed.lines("on_message failed").is_empty()).await;
    for said in ["on_message failed", "on_before_request failed"] {
        let line = printed.one(said);
        assert!(line.contains(r#"party="main" room="lobby""#), "{line}");
    }
}

#[tokio::test]
async fn who_is_turned_away_is_named_with_what_to_configure() {
    let (printed, _guard) = Printed::begin(tracing::Level::WARN);
    let builder = site().hosts(["app.example"]).max_new_rooms_per_minute(1);
    let site = serve(builder).await;
    let page = [("origin", "http://page.example:5173")];
    for _ in 0..3 {
        assert_eq!(refused(&site, "/parties/main/a", &page).await, 403);
    }
    let line = printed.one("refused a page of another site");
    assert!(line.contains(r#"origin="http://page.example:5173""#), "{line}");
    assert!(line.contains("Builder::allow_origins") && line.contains(r#"room="a""#), "{line}");
    refused(&site, "/parties/main/a", &[("origin", "http://page.example:3000")]).await;
    assert_eq!(printed.lines("refused a page of another site").len(), 2, "another page");

    assert_eq!(refused(&site, "/parties/none/a", &[]).await, 404);
    assert!(printed.one("no party has this name").contains(r#"party="none""#));
    drop(site.connect("/parties/main/a").await);
    assert_eq!(refused(&site, "/parties/main/b", &[]).await, 429);
    assert!(printed.one("Builder::max_new_rooms_per_minute").contains("127.0.0.1"));

    let evil = "GET /parties/main/a HTTP/1.1\r\nhost: evil.example\r\n\r\n";
    assert!(site.raw(evil.as_bytes()).await.starts_with("HTTP/1.1 421"));
    assert!(printed.one("refused a request for another host").contains("evil.example"));

    // A proxy that does not pass the upgrade on.
    let cut = format!(
        "GET /parties/main/a HTTP/1.1\r\nhost: {}\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        site.addr
    );
    assert!(site.raw(cut.as_bytes()).await.starts_with("HTTP/1.1 426"));
    assert!(printed.one("without `Upgrade: websocket`").contains(" WARN "));
}
