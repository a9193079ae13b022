use partykit::http::Method;

use crate::{
    SMALL, SMALL_BODY, SMALL_CONNECTIONS, SMALL_MESSAGE,
    suite::{Frame, Target},
};

pub(super) async fn messages_have_a_limit(target: &Target) {
    let room = target.room_of(SMALL, "message-limit");
    let mut client = room.connect("ada").await;
    let fits = "x".repeat(SMALL_MESSAGE);
    client.say(&*fits).await;
    assert_eq!(client.next_text().await, fits);
    room.sleep().await;
    client.say("x".repeat(SMALL_MESSAGE + 1)).await;
    assert!(matches!(client.next().await, Frame::Close(Some((1009, _)))));
}

pub(super) async fn bodies_have_a_limit(target: &Target) {
    let room = target.room_of(SMALL, "body-limit");
    let send = |len| async move { "x".repeat(len) };
    let fits = target.send(Method::POST, &room.path(""), &send(SMALL_BODY).await).await;
    assert_eq!(fits.status(), 404, "as the party answers");
    let over = target.send(Method::POST, &room.path(""), &send(SMALL_BODY + 1).await).await;
    assert_eq!(over.status(), 413);
}

pub(super) async fn rooms_have_a_limit(target: &Target) {
    let room = target.room_of(SMALL, "room-limit");
    let mut clients = Vec::new();
    for n in 0..SMALL_CONNECTIONS {
        clients.push(room.connect(&n.to_string()).await);
    }
    room.sleep().await;
    let refused = room.try_connect("?_pk=more", &[]).await;
    assert_eq!(refused.expect_err("no 101").status(), 503);
    let mut left = clients.remove(0);
    left.close(Some((1000, ""))).await;
    left.next_close().await;
    let mut late = room.connect("late").await;
    late.has_seen_all().await;
}
