use serde_json::json;

use crate::{
    AUTO_REQUEST, AUTO_RESPONSE, Command,
    suite::{Cannot, Client, Frame, Mode, Room, RoomView, Target},
};

/// A sleeping room with two clients, and how it is.
async fn asleep<'a>(
    target: &'a Target,
    case: &str,
) -> Result<(Room<'a>, [Client; 2], RoomView), Cannot> {
    let room = target.room(Mode::Hibernating, case);
    let clients = [room.connect("ada").await, room.connect("bob").await];
    room.sleep().await;
    let view = room.stats().await.ok_or(Cannot("stats"))?;
    assert!(view.asleep && view.connections == 2, "{view:?}");
    Ok((room, clients, view))
}

/// The room woke once, for this.
async fn assert_woke(room: &Room<'_>, before: RoomView, cause: &str) {
    let now = room.stats().await.expect("it could say before");
    assert_eq!((now.wakes, now.last_wake.as_deref()), (before.wakes + 1, Some(cause)));
}

/// The room sleeps on.
async fn assert_sleeps(room: &Room<'_>, before: &RoomView) {
    assert_eq!(room.stats().await.as_ref(), Some(before), "{room:?}");
}

pub(super) async fn a_connect_wakes(target: &Target) -> Result<(), Cannot> {
    let (room, _clients, before) = asleep(target, "wake-connect").await?;
    let mut eve = room.connect("eve").await;
    assert_woke(&room, before, "connect").await;
    assert_eq!(eve.ask(Command::Who).await["reason"], "Wake");
    Ok(())
}

pub(super) async fn a_disconnect_wakes(target: &Target) -> Result<(), Cannot> {
    let (room, [mut ada, mut bob], before) = asleep(target, "wake-disconnect").await?;
    ada.close(Some((1000, ""))).await;
    assert_eq!(bob.next_json().await["event"], "close");
    assert_woke(&room, before, "disconnect").await;
    Ok(())
}

pub(super) async fn a_drop_wakes(target: &Target) -> Result<(), Cannot> {
    let (room, [ada, mut bob], before) = asleep(target, "wake-drop").await?;
    ada.vanish();
    assert_eq!(bob.next_json().await["event"], "close");
    assert_woke(&room, before, "disconnect").await;
    Ok(())
}

pub(super) async fn a_message_wakes(target: &Target) -> Result<(), Cannot> {
    let (room, [mut ada, _bob], before) = asleep(target, "wake-message").await?;
    let instance = ada.ask(Command::Who).await["instance"].clone();
    assert_woke(&room, before, "message").await;
    room.sleep().await;
    let next = ada.ask(Command::Who).await;
    assert_ne!(next["instance"], instance, "there was a sleep between");
    assert_eq!(next["count"], 2);
    Ok(())
}

pub(super) async fn a_request_wakes(target: &Target) -> Result<(), Cannot> {
    let (room, _clients, before) = asleep(target, "wake-request").await?;
    assert_eq!(room.perform(Command::Who).await["reason"], "Wake");
    assert_woke(&room, before, "request").await;
    Ok(())
}

pub(super) async fn a_ping_does_not(target: &Target) -> Result<(), Cannot> {
    let (room, [mut ada, _bob], before) = asleep(target, "ping-asleep").await?;
    ada.ping(b"there?").await;
    assert_eq!(ada.next().await, Frame::Pong(b"there?".into()));
    assert_sleeps(&room, &before).await;
    Ok(())
}

pub(super) async fn a_pong_does_not(target: &Target) -> Result<(), Cannot> {
    let (room, [mut ada, _bob], before) = asleep(target, "pong-asleep").await?;
    ada.pong(b"").await;
    // Frames are read in order: when this is answered, the pong has been read.
    ada.ping(b"").await;
    assert_eq!(ada.next().await, Frame::Pong(Vec::new()));
    assert_sleeps(&room, &before).await;
    Ok(())
}

pub(super) async fn auto_response_does_not(target: &Target) -> Result<(), Cannot> {
    let (room, [mut ada, _bob], before) = asleep(target, "auto-response-asleep").await?;
    for _ in 0..3 {
        ada.say(AUTO_REQUEST).await;
        assert_eq!(ada.next_text().await, AUTO_RESPONSE);
    }
    assert_sleeps(&room, &before).await;
    Ok(())
}

pub(super) async fn a_broadcast_from_outside_does_not(target: &Target) -> Result<(), Cannot> {
    let (room, mut clients, before) = asleep(target, "broadcast-asleep").await?;
    if !target.control().broadcast(room.party(), room.id(), "news").await {
        return Err(Cannot("broadcast from outside"));
    }
    for client in &mut clients {
        assert_eq!(client.next_text().await, "news");
        assert_sleeps(&room, &before).await;
    }
    Ok(())
}

/// To look at a sleeping room does not wake it, however often.
pub(super) async fn asking_does_not(target: &Target) -> Result<(), Cannot> {
    let (room, _clients, before) = asleep(target, "asked-asleep").await?;
    for _ in 0..20 {
        assert_sleeps(&room, &before).await;
    }
    let who = room.perform(Command::Who).await;
    assert_eq!(who["connections"], json!(["ada", "bob"]));
    Ok(())
}
