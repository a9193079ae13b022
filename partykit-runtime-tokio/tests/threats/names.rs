use std::{
    io,
    sync::{Arc, Mutex},
};

use partykit_core::{Request, RequestExt, Response, Result, Room, Server};
use partykit_runtime_tokio::Runtime;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    support::serve,
    witness::{Echo, Witness},
};

/// Says its name, and stores something: a room that holds nothing would be gone at once.
#[derive(Default)]
struct Named;

impl Server for Named {
    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        room.storage().put("here", &true)?;
        Ok(Response::new(room.id().to_owned().into()))
    }
}

/// Rooms are told apart by their whole names and nothing else, whatever a file system would make of them.
#[tokio::test]
async fn threat_12_a_name_is_nothing_but_a_name() {
    let site = serve(Runtime::builder().party::<Echo>("echo").party::<Named>("named")).await;
    let mut witness = Witness::of(&site).await;
    let attack = async {
        for (path, name) in [
            ("%2e%2e", ".."),
            ("..", ".."),
            ("%2e%2e%2f%2e%2e%2fetc%2fpasswd", "../../etc/passwd"),
            ("..%5c..%5cboot.ini", r"..\..\boot.ini"),
            ("%00", "\0"),
            ("a%00b", "a\0b"),
            ("CON", "CON"),
            ("con", "con"),
            ("%c3%a9", "\u{e9}"),
            ("e%cc%81", "e\u{301}"),
            ("%252e%252e", "%2e%2e"),
            ("%20", " "),
            ("%e2%80%ae", "\u{202e}"),
        ] {
            let answer = site.get(&format!("/parties/named/{path}")).await;
            assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, name), "{path}");
            assert!(site.handle.room_stats("named", name).is_some(), "{path}");
        }
        for (path, status) in [
            ("%zz", 400),
            ("%ff", 400),
            ("", 404),
            (&*"x".repeat(1025), 400),
            (&*"x".repeat(10_240), 400),
        ] {
            let answer = site.get(&format!("/parties/echo/{path}")).await;
            assert_eq!(answer.status(), status, "{path}");
        }
    };
    witness.during(attack).await;
    assert_eq!(site.handle.stats().parties["named"].rooms, 12);
    witness.is_alone().await;
}

/// Fails at everything.
#[derive(Default)]
struct Broken;

impl Server for Broken {
    async fn on_request(&mut self, _: &Room, request: Request) -> Result<Response> {
        Err(format!("cannot do {:?}", request.query("do")).into())
    }
}

/// A log that can be read afterwards.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Each line of a log is one event as the runtime meant it, and holds nothing of a query or a cookie that
/// no handler has put there.
#[tokio::test]
async fn threat_13_log_injection() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let site = serve(Runtime::builder().party::<Echo>("echo").party::<Broken>("broken")).await;
    let mut witness = Witness::of(&site).await;
    let attack = async {
        let name = "a%0a%7b%22level%22%3a%22FORGED%22%7d%0d%1b%5b31m%e2%80%ae";
        let secrets = [("cookie", "session=SECRET"), ("authorization", "Bearer SECRET")];
        for party in ["echo", "broken"] {
            let path = format!("/parties/{party}/{name}?_pk=x%0ay&token=SECRET");
            site.request("GET", &path, &secrets, "").await;
            let (client, _) = site.try_connect(&path, &secrets).await.unwrap();
            client.close().await;
        }
    };
    witness.during(attack).await;
    witness.is_alone().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let mut events = 0;
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_ne!(event["level"], "FORGED");
        assert!(!line.contains("SECRET") && !line.contains('\u{1b}'), "{line}");
        events += 1;
    }
    assert!(events > 5 && log.contains("cannot do"), "{log}");
}
