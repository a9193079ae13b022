//! The guide's party of `docs/src/tokens.md`, which looks tokens up in SQLite before any room exists: in the
//! test kit, in a server of its own, and inside axum.

use partykit::{Runtime, server::Handle};
use partykit_conformance::{
    serve,
    suite::{self, Frame, Target},
};
use partykit_core::testing::TestRoom;
use tokio::net::TcpListener;

include!("guide/members.rs");

#[test]
fn the_guide_shows_this_party() {
    let (page, party) = (include_str!("../docs/src/tokens.md"), include_str!("guide/members.rs"));
    assert!(page.contains(party), "docs/src/tokens.md and tests/guide/members.rs differ");
}

/// A database of Ada's token, and of one of hers that has expired.
fn tokens() -> Tokens {
    let tokens = Tokens::open(":memory:").unwrap();
    let add = "INSERT INTO tokens VALUES ('t0ken', 'Ada', unixepoch() + 3600), ('0ld', 'Ada', unixepoch())";
    tokens.0.lock().unwrap().execute_batch(add).unwrap();
    tokens
}

#[tokio::test]
async fn in_the_test_kit() {
    let tokens = tokens();
    let room = TestRoom::<Members>::builder().state(tokens.clone()).build();
    let with = |query: &str| Request::builder().uri(format!("/?{query}")).body("".into()).unwrap();
    for (query, why) in [
        ("", "401 Unauthorized, log in first"),
        ("token=guessed", "401 Unauthorized, log in again"),
        ("token=0ld", "401 Unauthorized, log in again"),
    ] {
        let refused = room.try_connect("eve", with(query)).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("on_before_connect rejected: {why}"));
    }
    assert_eq!(room.stats().account.wakes(), 0, "nobody who has no token wakes a room");

    let ada = room.connect_with("1", with("token=t0ken")).await;
    room.hibernate().await.unwrap();
    ada.send("I was here").await;
    assert_eq!(ada.received(), [Message::from("Ada: I was here")]);
    assert!(room.errors().is_empty());

    // A database that fails is the server's fault: no client learns why.
    tokens.0.lock().unwrap().execute_batch("DROP TABLE tokens").unwrap();
    assert!(room.try_connect("2", with("token=t0ken")).await.is_err());
    assert!(room.errors()[0].to_string().contains("no such table"), "{:?}", room.errors());
}

#[tokio::test]
async fn in_a_server_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let builder = Runtime::builder().party::<Members>("members").state(tokens()).in_memory();
    let server = serve(builder, listener).unwrap();
    only_members_come_in(&server.url(), server.handle()).await;
}

#[tokio::test]
async fn inside_axum() {
    let builder = Runtime::builder().party::<Members>("members").state(tokens()).in_memory();
    let runtime = builder.build().unwrap();
    let handle = runtime.handle();
    let app = axum::Router::new().route_service("/parties/{*rest}", runtime.service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    only_members_come_in(&url, &handle).await;
    serving.abort();
}

async fn only_members_come_in(url: &str, handle: &Handle) {
    let target = Target::new(url);
    let room = suite::Room::new(&target, "members", "lobby".to_owned());
    for (query, why) in
        [("", "log in first"), ("token=guessed", "log in again"), ("token=0ld", "log in again")]
    {
        let mut eve = room.connect_with("eve", query).await;
        assert_eq!(eve.next_close().await, Some((4401, why.to_owned())), "{query:?}");
        let answer = room.get(&format!("?{query}")).await;
        assert_eq!((answer.status(), answer.text().trim_end()), (401, why), "{query:?}");
    }
    assert!(handle.room_stats("members", "lobby").is_none(), "no room was made for them");

    let mut ada = room.connect_with("1", "token=t0ken").await;
    handle.evict("members", "lobby").await.unwrap();
    ada.say("I was here").await;
    assert_eq!(ada.next().await, Frame::Text("Ada: I was here".to_owned()));
    let answer = room.get("?token=t0ken").await;
    assert_eq!((answer.status(), &*answer.text()), (200, "Ada asks, 1 are here\n"));
}
