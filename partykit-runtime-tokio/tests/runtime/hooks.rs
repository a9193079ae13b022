use std::{collections::HashSet, sync::Mutex};

use partykit_core::{
    Admission, Admit, Body, Connection, Lobby, Request, RequestExt, Response, Result, Room, Server,
};
use partykit_runtime_tokio::Runtime;
use tokio::task;

use crate::support::{Site, header, serve, tells_only_an_id};

/// Does in its hooks what the query says.
#[derive(Default)]
struct Guarded;

impl Guarded {
    fn admit(request: Request, lobby: &Lobby) -> Result<Admit> {
        let doing = request.query("do").unwrap_or_default();
        match doing.as_str() {
            "refuse" => Ok(Admit::refuse(http::StatusCode::UNAUTHORIZED)),
            "respond" => {
                let text = format!("{}/{} {:?}", lobby.party(), lobby.id(), lobby.var("TOKEN"));
                Ok(Response::new(text.into()).into())
            }
            "switch" => Ok(Admit::refuse(http::StatusCode::SWITCHING_PROTOCOLS)),
            "fail" => Err("the secret detail".into()),
            "panic" => panic!("the secret detail"),
            "props" => Ok(Admission::new(request).props(&"real")?.into()),
            protocol if !protocol.is_empty() => {
                Ok(Admission::new(request).protocol(protocol).into())
            }
            _ => Ok(request.into()),
        }
    }
}

fn describe(request: &Request) -> String {
    let props: Option<String> = request.props().unwrap();
    let internal = request.headers().keys().any(|name| name.as_str().starts_with("x-partykit-"));
    format!("props {props:?}, internal {internal}")
}

impl Server for Guarded {
    async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
        assert!(!describe(&request).contains("internal true"));
        Self::admit(request, lobby)
    }

    async fn on_before_request(request: Request, lobby: &Lobby) -> Result<Admit> {
        assert!(!describe(&request).contains("internal true"));
        Self::admit(request, lobby)
    }

    async fn on_connect(&mut self, _: &Room, connection: &Connection, request: &Request) -> Result {
        connection.send(format!("{} {}", describe(request), connection.uri()));
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, request: Request) -> Result<Response> {
        Ok(Response::new(Body::from(describe(&request))))
    }
}

async fn site() -> Site {
    serve(Runtime::builder().party::<Guarded>("main").var("TOKEN", "t")).await
}

#[tokio::test]
async fn a_hook_answers_in_place_of_the_room() {
    let site = site().await;
    for (doing, status, body) in [("refuse", 401, ""), ("respond", 200, "main/a Some(\"t\")")] {
        let path = format!("/parties/main/a?do={doing}");
        let answer = site.get(&path).await;
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (status, body));
        let answer = site.try_connect(&path, &[]).await.err().unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (status, body));
    }
    assert!(site.handle.room_stats("main", "a").is_none(), "no room was made for it");
}

#[tokio::test]
async fn props_cannot_be_forged() {
    let site = site().await;
    let forged = ("x-partykit-props", "eyJhZG1pbiI6dHJ1ZX0=");
    let forgeries = [forged, ("X-PartyKit-Room", "other"), ("x-partykit-anything", "1")];
    for (path, props) in
        [("/parties/main/a", "None"), ("/parties/main/a?do=props", "Some(\"real\")")]
    {
        let expected = format!("props {props}, internal false");
        let answer = site.request("GET", path, &forgeries, "").await;
        assert_eq!(answer.body(), &expected);
        let (mut client, _) = site.try_connect(path, &[forged]).await.unwrap();
        assert_eq!(client.text().await, format!("{expected} {}{path}", site.base()));
    }
}

#[tokio::test]
async fn a_broken_hook_tells_only_an_id() {
    let site = site().await;
    for doing in ["fail", "panic", "switch"] {
        let path = format!("/parties/main/a?do={doing}");
        let answers = [site.get(&path).await, site.try_connect(&path, &[]).await.err().unwrap()];
        for answer in answers {
            assert_eq!(answer.status(), 500, "{doing}");
            assert!(tells_only_an_id(answer.body(), "secret"), "{}", answer.body());
        }
    }
    assert!(site.handle.room_stats("main", "a").is_none());
    assert_eq!(site.get("/parties/main/a").await.status(), 200);
}

#[tokio::test]
async fn a_chosen_protocol_is_echoed() {
    let site = site().await;
    let offers = ("sec-websocket-protocol", "chat.v1, chat.v2");
    let path = "/parties/main/a?do=chat.v2";
    let (_client, answer) = site.try_connect(path, &[offers]).await.unwrap();
    assert_eq!(header(&answer, "sec-websocket-protocol"), Some("chat.v2"));
    assert_eq!(header(&answer, "sec-websocket-extensions"), None);
}

#[tokio::test]
async fn no_protocol_is_echoed_that_was_not_chosen() {
    let site = site().await;
    // tungstenite's client insists on an answer to its offer, so this one reads the wire.
    let answer = upgrade_head(&site, "/parties/main/a", "sec-websocket-protocol: chat\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(!answer.to_lowercase().contains("sec-websocket-protocol"), "{answer}");
}

#[tokio::test]
async fn a_protocol_that_was_not_offered_is_an_error() {
    let site = site().await;
    let path = "/parties/main/a?do=chat.v3";
    for offers in [&[][..], &[("sec-websocket-protocol", "chat.v1, chat.v2")]] {
        let answer = site.try_connect(path, offers).await.err().unwrap();
        assert_eq!(answer.status(), 500);
        assert!(tells_only_an_id(answer.body(), "chat"), "{}", answer.body());
    }
}

/// Notes in which task its hook runs.
#[derive(Default)]
struct Noting;

static TASKS: Mutex<Vec<task::Id>> = Mutex::new(Vec::new());

impl Server for Noting {
    async fn on_before_connect(request: Request, _: &Lobby) -> Result<Admit> {
        TASKS.lock().unwrap().push(task::id());
        Ok(request.into())
    }
}

/// So a hook that blocks its thread does not keep other clients from being accepted.
#[tokio::test]
async fn each_hook_runs_in_a_task_of_its_own() {
    let site = serve(Runtime::builder().party::<Noting>("main")).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(site.connect("/parties/main/a").await);
    }
    let tasks: HashSet<_> = TASKS.lock().unwrap().drain(..).collect();
    assert_eq!(tasks.len(), clients.len());
}

/// The head of the answer to an upgrade.
async fn upgrade_head(site: &Site, path: &str, more: &str) -> String {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let mut stream = site.stream().await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
        site.addr
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut head = String::new();
    while let Some(line) = crate::support::within(lines.next_line()).await.unwrap() {
        if line.is_empty() {
            break;
        }
        head += &line;
        head += "\n";
    }
    head
}
