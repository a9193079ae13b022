use serde_json::json;

use crate::{
    Command,
    suite::{Mode, Target},
};

fn everybody(text: &str) -> Command {
    Command::Broadcast { text: text.into(), tag: None, except_me: false }
}

pub(super) async fn a_broadcast_can_leave_out(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "broadcast");
        let mut ada = room.connect_with("ada", "tags=team").await;
        let mut bob = room.connect_with("bob", "tags=team").await;
        let mut eve = room.connect("eve").await;
        for _ in 0..2 {
            ada.tell(everybody("all")).await;
            ada.tell(Command::Broadcast { text: "not me".into(), tag: None, except_me: true })
                .await;
            let tag = Some("team".to_owned());
            ada.tell(Command::Broadcast {
                text: "team".into(),
                tag: tag.clone(),
                except_me: false,
            })
            .await;
            ada.tell(Command::Broadcast { text: "my team".into(), tag, except_me: true }).await;
            let to_eve = Some("eve".to_owned());
            ada.tell(Command::Broadcast { text: "eve".into(), tag: to_eve, except_me: true }).await;
            for (client, texts) in [
                (&mut ada, &["all", "team"][..]),
                (&mut bob, &["all", "not me", "team", "my team"]),
                (&mut eve, &["all", "not me", "eve"]),
            ] {
                for text in texts {
                    assert_eq!(client.next_text().await, *text);
                }
                client.has_seen_all().await;
            }
            room.sleep().await;
        }
    }
}

pub(super) async fn connections_come_in_order(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "connection-order");
        let mut clients = Vec::new();
        for id in ["c", "a", "d", "b"] {
            clients.push(room.connect(id).await);
            room.sleep().await;
        }
        let who = room.perform(Command::Who).await;
        assert_eq!((&who["connections"], &who["count"]), (&json!(["c", "a", "d", "b"]), &json!(4)));
        clients[1].close(Some((1000, ""))).await;
        clients[1].next_close().await;
        assert_eq!(clients[0].next_json().await["event"], "close");
        room.sleep().await;
        clients.push(room.connect("a").await);
        let who = room.perform(Command::Who).await;
        assert_eq!((&who["connections"], &who["count"]), (&json!(["c", "d", "b", "a"]), &json!(4)));
    }
}

pub(super) async fn tags_select(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "tags");
        let _clients = [
            room.connect_with("c", "tags=red").await,
            room.connect_with("a", "tags=blue,red").await,
            room.connect_with("b", "tags=blue").await,
        ];
        room.sleep().await;
        for (tag, ids) in [
            ("red", json!(["c", "a"])),
            ("blue", json!(["a", "b"])),
            ("b", json!(["b"])),
            ("x", json!([])),
        ] {
            let tagged = room.perform(Command::Tagged { tag: tag.into() }).await;
            assert_eq!(tagged["ids"], ids, "{tag} in {room:?}");
        }
    }
}

pub(super) async fn state_survives_sleep(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "state");
        let mut ada = room.connect("ada").await;
        let mut bob = room.connect("bob").await;
        for said in 1..=3 {
            assert_eq!(ada.ask(Command::Count).await["said"], said);
            room.sleep().await;
        }
        assert_eq!(bob.ask(Command::Count).await["said"], 1);
        assert_eq!(bob.ask(Command::Find { id: "ada".into() }).await["said"], 3);
    }
}

/// Both stay, the newest is found, and what is said to one is not said to the other.
pub(super) async fn one_id_twice(target: &Target) {
    for mode in Mode::BOTH {
        let room = target.room(mode, "one-id-twice");
        let mut old = room.connect_with("ada", "tags=old").await;
        let mut new = room.connect_with("ada", "tags=new").await;
        room.sleep().await;
        let who = old.ask(Command::Who).await;
        assert_eq!(who["connections"], json!(["ada", "ada"]));
        let found = old.ask(Command::Find { id: "ada".into() }).await;
        assert_eq!(found["tags"], json!(["ada", "new"]));
        old.tell(everybody("both")).await;
        old.tell(Command::Broadcast { text: "the other".into(), tag: None, except_me: true }).await;
        assert_eq!(old.next_text().await, "both");
        old.has_seen_all().await;
        assert_eq!(new.next_text().await, "both");
        assert_eq!(new.next_text().await, "the other");

        new.close(Some((1000, ""))).await;
        new.next_close().await;
        assert_eq!(old.next_json().await["id"], "ada");
        let found = old.ask(Command::Find { id: "ada".into() }).await;
        assert_eq!(found["tags"], json!(["ada", "old"]), "in {room:?}");
    }
}
