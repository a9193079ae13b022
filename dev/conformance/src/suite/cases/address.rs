use partykit::http::Method;

use crate::{
    ANNEX, ANNEX_PREFIX, Command, PROBE,
    suite::{Mode, Room, Target},
};

pub(super) async fn extra_path_reaches_the_same_room(target: &Target) {
    let room = target.room(Mode::Hibernating, "extra-path");
    let mut client = room.try_connect("/one/two?_pk=ada", &[]).await.expect("a 101");
    assert_eq!(client.ask(Command::Who).await["instance"], room.instance().await);
    let seen = room.get("/one/two%20three?x=1").await.json();
    assert_eq!(seen["path"], room.path("/one/two%20three"));
    assert_eq!(seen["query"], "x=1");
}

pub(super) async fn double_slashes_are_one(target: &Target) {
    let room = target.room(Mode::Hibernating, "double-slash");
    // Somebody is there, so that the room stays in memory.
    let _ada = room.connect("ada").await;
    let instance = room.instance().await;
    let path = format!("/parties//{}//{}/do", room.party(), room.id());
    let who = target.send(Method::POST, &path, r#"{"do":"who"}"#).await;
    assert_eq!((who.status(), &who.json()["instance"]), (200, &instance.into()));
}

pub(super) async fn a_room_is_percent_decoded(target: &Target) {
    let plain = target.room(Mode::Hibernating, "decoded");
    let encoded = |more: &str| Room::new(target, PROBE, format!("{}{more}", plain.id()));
    let room = encoded("%20caf%C3%A9%2F%25");
    let mut client = encoded("%20caf%c3%a9%2f%25").connect("ada").await;
    let who = room.perform(Command::Who).await;
    assert_eq!(who["room"], format!("{} café/%", plain.id()));
    assert_eq!(client.ask(Command::Who).await["instance"], who["instance"]);

    let path = format!("/parties/%70robe/{}/do", plain.id());
    let who = target.send(Method::POST, &path, r#"{"do":"who"}"#).await;
    assert_eq!(who.json()["party"], PROBE, "a party's name is decoded, too");
}

pub(super) async fn missing_room_is_404(target: &Target) {
    for path in ["/parties/probe", "/parties/probe/", "/parties/probe//", "/parties/", "/parties"] {
        assert_eq!(target.send(Method::GET, path, "").await.status(), 404, "{path}");
    }
    let refused = Room::new(target, PROBE, String::new()).try_connect("?_pk=a", &[]).await;
    assert_eq!(refused.expect_err("no 101").status(), 404);
}

pub(super) async fn unknown_party_is_404(target: &Target) {
    let room = target.room_of("no-such-party", "unknown");
    assert_eq!(room.get("").await.status(), 404);
    assert_eq!(room.try_connect("?_pk=a", &[]).await.expect_err("no 101").status(), 404);
}

pub(super) async fn bad_encoding_is_400(target: &Target) {
    for id in ["a%zz", "a%2", "a%", "a%FF"] {
        let room = Room::new(target, PROBE, id.to_owned());
        assert_eq!(room.get("").await.status(), 400, "{id}");
        let refused = room.try_connect("?_pk=a", &[]).await;
        assert_eq!(refused.expect_err("no 101").status(), 400, "{id}");
    }
}

pub(super) async fn pk_has_1_to_256_bytes(target: &Target) {
    let room = target.room(Mode::Hibernating, "pk");
    for pk in [String::new(), "x".repeat(257), "%C3%A9".repeat(129)] {
        let refused = room.try_connect(&format!("?_pk={pk}"), &[]).await;
        assert_eq!(refused.expect_err("no 101").status(), 400, "_pk={pk}");
    }
    assert_eq!(room.stats().await.map_or(0, |stats| stats.wakes), 0, "no room has seen it");
    let mut clients = Vec::new();
    for (pk, id) in [
        ("x".repeat(256), "x".repeat(256)),
        ("%C3%A9".repeat(128), "é".repeat(128)),
        ("a+b".to_owned(), "a b".to_owned()),
    ] {
        let mut client = room.connect(&pk).await;
        assert_eq!(client.ask(Command::Find { id }).await["found"], true, "{pk}");
        clients.push(client);
    }
}

pub(super) async fn without_pk_an_id_is_made(target: &Target) {
    let room = target.room(Mode::Hibernating, "no-pk");
    let one = room.try_connect("", &[]).await.expect("a 101");
    let mut two = room.try_connect("?other=1", &[]).await.expect("a 101");
    let who = two.ask(Command::Who).await;
    let ids = who["connections"].as_array().expect("ids");
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| id.as_str().is_some_and(|id| id.len() >= 16)), "{ids:?}");
    drop(one);
}

pub(super) async fn a_party_can_have_a_prefix(target: &Target) {
    let annex = target.room_of(ANNEX, "prefix");
    annex.connect("ada").await;
    let elsewhere = format!("/parties/{ANNEX}/{}", annex.id());
    assert_eq!(target.send(Method::GET, &elsewhere, "").await.status(), 404, "it is nowhere else");
    let other = format!("/{ANNEX_PREFIX}/{PROBE}/{}", annex.id());
    let answer = target.send(Method::GET, &other, "").await;
    assert_ne!(answer.status(), 200, "other parties are not there: the fallback answers");
}
