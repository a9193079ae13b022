//! The chat's rules, without a browser.
#![allow(missing_docs)]

use std::time::Duration;

use chat::Chat;
use futures_executor::block_on;
use partykit::{
    Request, RequestExt,
    testing::{Step, TestConnection, TestRoom, TestRoomBuilder, transparency},
};
use serde_json::{Value, json};

/// Makes a member, and returns the token.
async fn member(room: &TestRoom<Chat>, name: &str) -> String {
    let body = join(room, name).await.1;
    serde_json::from_str::<Value>(&body).unwrap()["token"].as_str().unwrap().to_owned()
}

/// Asks to become a member, and returns status and body.
async fn join(room: &TestRoom<Chat>, name: &str) -> (u16, String) {
    let request = Request::builder().method("POST").uri("/parties/chat/test");
    let request = request.header("content-type", "application/json");
    let request = request.body(json!({ "name": name }).to_string().into()).unwrap();
    let answer = room.request(request).await.unwrap();
    let body = answer.body().bytes().unwrap();
    (answer.status().as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

async fn connect(room: &TestRoom<Chat>, id: &str, query: &str) -> TestConnection {
    let uri = format!("/parties/chat/test?_pk={id}&{query}");
    room.connect_with(id, Request::builder().uri(uri).body("".into()).unwrap()).await
}

/// The texts of what was said, and the position of the last.
fn said(client: &TestConnection) -> (Vec<String>, Option<String>) {
    let heard: Vec<Value> = client.received().iter().map(|it| it.json().unwrap()).collect();
    let said: Vec<&Value> = heard.iter().filter(|it| it["event"] == "said").collect();
    let text =
        |it: &&Value| format!("{}: {}", it["from"].as_str().unwrap(), it["text"].as_str().unwrap());
    let last = said.last().map(|it| it["at"].as_str().unwrap().to_owned());
    (said.iter().map(text).collect(), last)
}

fn say(text: &str, id: &str) -> String {
    json!({ "say": text, "id": id }).to_string()
}

#[test]
fn only_members_are_let_in() {
    block_on(async {
        let room = TestRoom::<Chat>::new();
        member(&room, "Ada").await;
        let none = "0".repeat(32);
        for query in ["", "token=", "token=x", &format!("token={none}"), "token=Ada"] {
            let client = connect(&room, "eve", query).await;
            assert_eq!(client.closed().unwrap().code(), 4401.into(), "{query}");
        }
        assert_eq!(room.errors(), [""; 0]);
        assert_eq!(room.get("").await.unwrap(), "{}");
    });
}

#[test]
fn a_name_is_one_member() {
    block_on(async {
        let room = TestRoom::<Chat>::new();
        member(&room, " Ada ").await;
        for name in ["Ada", "ADA", "ada "] {
            assert_eq!(join(&room, name).await, (409, "this name is taken\n".to_owned()));
        }
        for name in ["", "  ", "a\nb", &"x".repeat(41)] {
            assert_eq!(join(&room, name).await.0, 400, "{name:?}");
        }
        assert_ne!(member(&room, &"\u{1f31d}".repeat(40)).await, member(&room, "Grace").await);
    });
}

#[test]
fn what_was_missed_comes_once() {
    block_on(async {
        let room = TestRoom::<Chat>::new();
        let (ada, grace) = (member(&room, "Ada").await, member(&room, "Grace").await);
        let here = connect(&room, "a", &format!("token={ada}")).await;
        let there = connect(&room, "g", &format!("token={grace}")).await;
        here.send(say("one", "1")).await;
        let (heard, last) = said(&there);
        assert_eq!(heard, ["Ada: one"]);
        there.vanish().await;
        room.crash().await;
        let here = connect(&room, "a", &format!("token={ada}")).await;
        here.send(say("two", "2")).await;
        // The page did not hear of it, and says it again.
        here.send(say("two", "2")).await;
        let again = format!("token={grace}&since={}", last.unwrap());
        let there = connect(&room, "g", &again).await;
        let began = there.received();
        let first: Value = began[0].json().unwrap();
        assert_eq!((first["text"].as_str(), began.len()), (Some("two"), 2));
        let new = connect(&room, "n", &format!("token={grace}")).await;
        assert_eq!(said(&new).0, ["Ada: one", "Ada: two"]);
    });
}

#[test]
fn a_member_speaks_slowly_however_often_they_connect() {
    block_on(async {
        let room = TestRoom::<Chat>::new();
        let token = format!("token={}", member(&room, "Ada").await);
        let refusals = |client: &TestConnection| {
            let heard = client.received();
            heard.iter().filter(|it| it.json::<Value>().unwrap()["event"] == "refused").count()
        };
        let ada = connect(&room, "a", &token).await;
        for n in 0..5 {
            ada.send(say("hi", &format!("{n}"))).await;
        }
        assert_eq!(refusals(&ada), 0);
        ada.send(say("hi", "5")).await;
        assert_eq!(refusals(&ada), 1);
        room.hibernate().await.unwrap_err();
        room.advance(Duration::from_millis(100)).await;
        room.hibernate().await.unwrap();
        let again = connect(&room, "b", &token).await;
        again.send(say("hi", "5")).await;
        assert_eq!(refusals(&again), 1);
        room.advance(Duration::from_secs(10)).await;
        again.send(say("hi", "5")).await;
        assert_eq!(refusals(&again), 0);
        for wrong in
            [say(" ", "6"), say(&"x".repeat(2_001), "7"), say("x", ""), say("x", &"7".repeat(65))]
        {
            again.send(wrong).await;
            assert_eq!(refusals(&again), 1);
        }
        again.send("no json").await;
        again.send("{}").await;
        assert!(again.is_open());
        assert_eq!(room.errors(), [""; 0]);
    });
}

#[test]
fn sleep_does_not_show() {
    // The test's random numbers are the same each time, and so is the first token.
    let token = block_on(async { member(&TestRoom::<Chat>::new(), "Ada").await });
    let ada = format!("token={token}");
    let steps = [
        Step::post("", json!({ "name": "Ada" }).to_string())
            .header("content-type", "application/json"),
        Step::connect("a").query(&ada),
        Step::say("a", say("one", "1")),
        Step::say("a", r#"{"typing":true}"#),
        Step::connect("b").query(&ada),
        Step::vanish("b"),
        Step::say("a", say("two", "2")),
        Step::get(""),
        Step::connect("c").query(&format!("{ada}&since=00000000-1")),
        Step::close("a", 1000),
    ];
    block_on(transparency(|| TestRoomBuilder::new(|_| Chat::default()), &steps)).unwrap();
}
