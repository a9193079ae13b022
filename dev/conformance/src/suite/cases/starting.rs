use futures_util::future::join_all;
use serde_json::json;

use super::assert_is_generic;
use crate::{
    Command, STARTER,
    suite::{Mode, Room, Target},
};

pub(super) async fn a_hundred_at_once_see_one_start(target: &Target) {
    let room = target.room_of(STARTER, "hundred");
    let requests = join_all((0..80).map(|_| async { room.get("").await.json() }));
    let sockets = join_all((0..20).map(|n| {
        let room = room.clone();
        async move { room.connect(&n.to_string()).await.next_json().await }
    }));
    let (mut answers, more) = tokio::join!(requests, sockets);
    answers.extend(more);
    assert_eq!(answers.len(), 100);
    assert_eq!(answers[0]["starts"], 1);
    assert!(answers[0]["instance"].as_str().is_some_and(|it| !it.is_empty()));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

pub(super) async fn a_failing_start_is_tried_again(target: &Target) {
    let room = target.room_of(STARTER, "retried");
    let switch = Room::new(target, Mode::Hibernating.party(), room.id().to_owned());
    let set = |open: bool| Command::Put { key: "open".into(), value: open.into() };
    switch.perform(set(false)).await;

    let answer = room.get("").await;
    assert_eq!(answer.status(), 500);
    assert_is_generic(&answer.text());
    let mut client = room.connect("ada").await;
    let (code, reason) = client.next_close().await.expect("a code");
    assert_eq!(code, 1011);
    assert_is_generic(&reason);

    switch.perform(set(true)).await;
    let answer = room.get("").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.json()["starts"], 1, "the starts that failed have left nothing");
    let mut client = room.connect("ada").await;
    assert_eq!(client.next_json().await, answer.json());
}

pub(super) async fn the_reason_is_told(target: &Target) {
    let room = target.room(Mode::Hibernating, "reason");
    let reason = async || room.perform(Command::Who).await["reason"].clone();
    assert_eq!(reason().await, "First");
    room.sleep().await;
    assert_eq!(reason().await, "First", "nothing was stored, nobody was here");

    let mut client = room.connect("ada").await;
    room.sleep().await;
    assert_eq!(reason().await, "Wake");

    room.perform(Command::Put { key: "a".into(), value: json!(1) }).await;
    let mut witness = room.connect("witness").await;
    for leaver in [&mut client, &mut witness] {
        leaver.close(None).await;
    }
    until_empty(target, &room).await;
    room.sleep().await;
    assert_eq!(reason().await, "Restart");
    room.perform(Command::Delete { key: "a".into() }).await;
    room.sleep().await;
    assert_eq!(reason().await, "First");
}

async fn until_empty(target: &Target, room: &Room<'_>) {
    let asking = async {
        while room.perform(Command::Who).await["count"] != 0 {
            tokio::task::yield_now().await;
        }
    };
    target.expect("empty room", asking).await;
}
