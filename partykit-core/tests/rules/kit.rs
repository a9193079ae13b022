//! The test kit tells the truth: what it runs is what a runtime runs.

use std::{collections::HashMap, time::Duration};

use partykit_core::{
    Admission, Admit, Body, Connection, Lobby, Message, Options, OrReject, Refusal, Reject,
    Request, RequestExt, Response, ResponseExt, Result, Room, Server,
    testing::{NotConnected, TestRoom, TestRoomBuilder},
};

use crate::script::{heard, test};

type Tokens = HashMap<&'static str, &'static str>;

/// Knows its users by their tokens.
#[derive(Default)]
struct Members;

impl Server for Members {
    fn options() -> Options {
        Options::new().max_message_rate(5, 10)
    }

    async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
        let token = request.query("token").or_reject("a token is missing")?;
        let user = lobby.state::<Tokens>()?.get(&*token);
        let user = user.or_reject(Reject::unauthorized("log in"))?;
        let mut admission = Admission::new(request).props(user)?;
        if let Some(protocol) = lobby.var("PROTOCOL") {
            admission = admission.protocol(protocol);
        }
        Ok(admission.into())
    }

    async fn on_before_request(request: Request, _: &Lobby) -> Result<Admit> {
        match request.headers().get("authorization") {
            None => Err(Reject::unauthorized("log in").into()),
            Some(value) if value == "broken" => Err("the database is away".into()),
            Some(value) if value == "moved" => Ok(Response::redirect("/elsewhere")?.into()),
            Some(_) => Ok(request.into()),
        }
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
        new.set_state(&request.props::<String>()?)?;
        room.broadcast_json(&room.states::<String>()?)?.send();
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let users = room.state::<Tokens>()?.len();
        sender.send(format!("{} of {users}", message.text()?));
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, request: Request) -> Result<Response> {
        Ok(Response::text(request.text()?))
    }
}

fn members() -> TestRoomBuilder<Members> {
    TestRoom::builder().state(Tokens::from([("t0", "Ada"), ("t1", "Bob")]))
}

fn with(query: &str) -> Request {
    Request::builder().uri(format!("/parties/main/room?{query}")).body(Body::empty()).unwrap()
}

#[test]
fn a_token_is_looked_up_in_the_state_of_the_application() {
    test(async |_| {
        let room = members().build();
        let ada = room.connect_with("a", with("token=t0")).await;
        let bob = room.connect_with("b", with("token=t1")).await;
        assert_eq!(heard(&bob), [r#"["Ada","Bob"]"#]);
        ada.received();
        ada.send("one").await;
        assert_eq!(heard(&ada), ["one of 2"]);
        let why = room.try_connect("eve", with("token=wrong")).await.unwrap_err();
        assert!(matches!(why, NotConnected::Rejected(reject) if reject.status() == 401));
        let why = room.try_connect("eve", with("")).await.unwrap_err();
        assert!(matches!(why, NotConnected::Rejected(reject) if reject.status() == 400));
        assert_eq!(room.stats().connections, 2);

        let room = TestRoom::<Members>::new();
        let why = room.try_connect("a", with("token=t0")).await.unwrap_err();
        assert!(why.to_string().contains("the application has no state of type"), "{why}");
        assert_eq!(room.errors().len(), 1);
    });
}

#[test]
#[should_panic = "eve cannot connect to main/room: on_before_connect rejected: 401 Unauthorized, log in"]
fn the_panic_says_why() {
    test(async |_| drop(members().build().connect_with("eve", with("token=x")).await));
}

#[test]
fn hooks_run_before_requests() {
    test(async |_| {
        let room = members().build();
        let ask = async |who: Option<&str>| {
            let mut request = Request::builder().method("POST").uri("/parties/main/room");
            if let Some(who) = who {
                request = request.header("authorization", who);
            }
            room.request(request.body("hi".into()).unwrap()).await
        };
        assert_eq!(ask(None).await.unwrap().status(), 401);
        assert_eq!(ask(Some("moved")).await.unwrap().status(), 303);
        assert_eq!(ask(Some("ada")).await.unwrap().body().bytes().unwrap(), "hi");
        assert!(matches!(ask(Some("broken")).await, Err(Refusal::Failed(_))));
        assert_eq!(room.errors(), ["on_before_request failed: the database is away"]);
        assert_eq!(room.post("", "hi").await.unwrap().status(), 401);

        let room = members().without_hooks().build();
        assert_eq!(room.post("", "hi").await.unwrap().body().bytes().unwrap(), "hi");
        let props = Admission::new(with("")).props("Eve").unwrap().into_request();
        assert_eq!(heard(&room.connect_with("eve", props).await), [r#"["Eve"]"#]);
    });
}

#[test]
fn a_protocol_has_to_be_offered() {
    test(async |_| {
        let room = members().var("PROTOCOL", "v2").build();
        let mut request = with("token=t0");
        request.headers_mut().insert("sec-websocket-protocol", "v1, v2".parse().unwrap());
        assert_eq!(room.connect_with("a", request).await.protocol(), Some("v2"));
        let why = room.try_connect("a", with("token=t0")).await.unwrap_err();
        assert!(matches!(why, NotConnected::Failed(_)), "{why}");
    });
}

#[test]
fn who_talks_too_fast_is_closed() {
    test(async |_| {
        let room = members().build();
        let ada = room.connect_with("a", with("token=t0")).await;
        ada.received();
        for n in 0..9 {
            ada.send(n.to_string()).await;
        }
        room.advance(Duration::from_secs(1)).await;
        for n in 0..6 {
            ada.send(n.to_string()).await;
        }
        assert_eq!((ada.received().len(), ada.is_open()), (15, true));
        ada.send("one too many").await;
        assert_eq!(ada.closed().map(|close| u16::from(close.code())), Some(1008));
        assert_eq!((ada.received().len(), room.stats().connections), (0, 0));
    });
}

/// A message on a connection of an ended process reached the instance of that process, which went on.
#[test]
fn a_crash_ends_all_connections() {
    test(async |_| {
        let room = members().build();
        let ada = room.connect_with("ada", with("token=t0")).await;
        assert!(ada.is_open());
        ada.received();
        room.crash().await;
        assert!(!ada.is_open());
        ada.send("hello?").await;
        ada.vanish().await;
        assert_eq!((heard(&ada), room.stats().connections), (vec![], 0));
        let again = room.connect_with("ada", with("token=t0")).await;
        again.send("hello").await;
        assert_eq!(heard(&again).last().unwrap(), "hello of 2");
    });
}
