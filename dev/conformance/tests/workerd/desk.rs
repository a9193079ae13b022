//! What only this runtime has to be asked: its own party, the desk.

use std::sync::Arc;

use partykit::http::Method;
use partykit_conformance::{
    Command,
    suite::{Frame, Mode},
};
use partykit_workerd::Workerd;

use crate::support::{project, start, target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn an_alarm_rings_whether_the_room_sleeps_or_not() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "alarm");
    let mut client = room.connect("ada").await;
    client.say("alarm").await;
    assert_eq!(client.next_text().await, "alarm, retries: 0, First");
    client.say("alarm").await;
    target.control().put_to_sleep("desk", room.id()).await;
    let rung = client.next_text().await;
    assert!(rung.starts_with("alarm, retries: 0"), "{rung}");
    client.say("rows").await;
    assert_eq!(client.next_text().await, "[], an alarm: false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn an_alarm_that_fails_rings_again() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "failing-alarm");
    let mut client = room.connect("ada").await;
    client.say("failing alarm").await;
    // Asleep meanwhile: only the platform knows of it.
    target.control().put_to_sleep("desk", room.id()).await;
    let rung = client.next_text().await;
    assert!(rung.starts_with("alarm, retries: 1"), "{rung}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn nothing_is_left_of_a_handler_that_fails() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "atom");
    let mut client = room.connect("ada").await;
    client.say("write and fail").await;
    client.say("rows").await;
    assert_eq!(client.next_text().await, "[], an alarm: false", "what followed the write is gone");
    target.control().put_to_sleep("desk", room.id()).await;
    client.say("rows").await;
    assert_eq!(client.next_text().await, "[], an alarm: false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn bodies_stream_and_the_fallback_knows_the_bindings() {
    let workerd = start();
    let target = target(&workerd);
    let room = target.room_of("desk", "stream");
    let answer = target.send(Method::GET, &room.path(""), "").await;
    assert_eq!((answer.status(), &*answer.text()), (200, "abc"));
    assert_eq!(answer.header("x-partykit-streams"), None, "that is between our own parts");
    let answer = target.send(Method::GET, "/elsewhere", "").await;
    assert_eq!((answer.status(), &*answer.text()), (418, "hello"));
}

/// One build, two environments: each has its own pages and its own state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn settings_and_state_come_from_the_environment() {
    let pages = ["https://staging.example", "https://www.example"];
    for (own, other, motto) in
        [(pages[0], pages[1], "all for one"), (pages[1], pages[0], "each for all")]
    {
        let project = project().var("PAGES", own).var("MOTTO", motto);
        let workerd = Arc::new(Workerd::start(&project).expect("a built Worker"));
        let target = target(&workerd);
        let room = target.room(Mode::Hibernating, "environment");
        let mut client = room.try_connect("?_pk=ada", &[("origin", own)]).await.expect("a 101");
        assert_eq!(client.ask(Command::Motto).await["motto"], motto);
        target.control().put_to_sleep(room.party(), room.id()).await;
        assert_eq!(client.ask(Command::Motto).await["motto"], motto, "also after a sleep");
        let refused = room.try_connect("?_pk=eve", &[("origin", other)]).await;
        assert_eq!(
            refused.expect_err("no 101").status(),
            403,
            "{other} is the other environment's"
        );
        let seen = room.get("?motto=tell").await.json();
        assert_eq!(seen["props"]["name"], motto, "the hook has it too");
    }
}

/// As `tests/tokens.rs` of the library does it on Tokio, with a table of tokens from the Worker's `Env`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs workerd: cargo xtask workerd"]
async fn tokens_are_looked_up_before_any_room_exists() {
    let project = project().var("TOKENS", r#"{"t0ken":"Ada"}"#);
    let workerd = Arc::new(Workerd::start(&project).expect("a built Worker"));
    let target = target(&workerd);
    let room = target.room_of("members", "lobby");
    for (query, why) in [("", "log in first"), ("token=guessed", "log in again")] {
        let mut eve = room.connect_with("eve", query).await;
        assert_eq!(eve.next().await, Frame::Close(Some((4401, why.into()))), "{query:?}");
        let answer = room.get(&format!("?{query}")).await;
        assert_eq!((answer.status(), answer.text().trim_end()), (401, why), "{query:?}");
    }
    let mut ada = room.connect_with("1", "token=t0ken").await;
    target.control().put_to_sleep("members", room.id()).await;
    ada.say("I was here").await;
    assert_eq!(ada.next_text().await, "Ada: I was here");
    let answer = room.get("?token=t0ken").await;
    assert_eq!((answer.status(), &*answer.text()), (200, "Ada asks, 1 are here"));
}
