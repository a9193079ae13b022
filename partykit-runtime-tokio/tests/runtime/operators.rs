//! What an operator sees and does from outside of rooms, and that none of it wakes one.

use std::{sync::atomic::Ordering, time::Duration};

use partykit_core::{
    Body, CallError, Connection, Message, Options, Request, RequestExt, Response, Result, Room,
    RoomPhase, Server, WakeCause,
};
use partykit_runtime_tokio::{Builder, Handle, Runtime};
use serde_json::{Value, json};
use std::sync::{Arc, atomic::AtomicUsize};

use crate::support::{eventually, serve, within};

/// Stores what it is told under the next key, and counts its starts.
struct Desk(Arc<AtomicUsize>);

impl Server for Desk {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::from_secs(3600))
    }

    fn connection_tags(&mut self, _: &Room, _: &str, request: &Request) -> Result<Vec<String>> {
        Ok(request.query("tag").into_iter().collect())
    }

    async fn on_start(&mut self, _: &Room) -> Result {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn on_connect(&mut self, _: &Room, new: &Connection, _: &Request) -> Result {
        Ok(new.set_state(&json!({ "name": new.query("name") }))?)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, said: Message) -> Result {
        room.storage().append("said:", said.text()?).await?;
        sender.send("stored");
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        let key = room.storage().append("said:", "by request").await?;
        Ok(Response::new(key.into()))
    }
}

fn builder() -> (Builder, Arc<AtomicUsize>) {
    let starts = Arc::new(AtomicUsize::new(0));
    let count = starts.clone();
    let make = move |_: &partykit_core::RoomId| Desk(count.clone());
    (Runtime::builder().party_with("desk", make.clone()).party_with("other", make), starts)
}

async fn fill(handle: &Handle, room: &str) {
    handle.request("desk", room, Request::new(Body::empty())).await.unwrap();
    within(handle.evict("desk", room)).await.unwrap();
}

#[tokio::test]
async fn rooms_are_listed_from_memory_and_store_page_by_page_and_none_wakes() {
    let (builder, starts) = builder();
    let site = serve(builder).await;
    let handle = &site.handle;
    for n in [1, 2, 3, 10, 11] {
        fill(handle, &format!("room-{n}")).await;
    }
    eventually(|| handle.stats().parties["desk"].rooms == 0).await;
    let _ada = site.connect("/parties/desk/room-2?_pk=ada").await;
    let _bob = site.connect("/parties/desk/lobby?_pk=bob").await;
    let _eve = site.connect("/parties/other/lobby?_pk=eve").await;
    within(handle.evict("desk", "lobby")).await.unwrap();
    let before = starts.load(Ordering::SeqCst);

    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = handle.rooms("desk", after.as_deref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.id.to_string());
        seen.extend(page);
    }
    let seen: Vec<_> =
        seen.iter().map(|room| (room.id.as_str(), room.phase, room.connections)).collect();
    let stored = |id| (id, None, 0);
    assert_eq!(
        seen,
        [
            ("lobby", Some(RoomPhase::Asleep), 1),
            stored("room-1"),
            ("room-2", Some(RoomPhase::Awake), 1),
            stored("room-3"),
            stored("room-10"),
            stored("room-11"),
        ]
    );
    let ids = |rooms: Vec<partykit_runtime_tokio::RoomListing>| -> Vec<String> {
        rooms.iter().map(|room| room.id.to_string()).collect()
    };
    assert_eq!(ids(handle.loaded_rooms("desk", None, 9).unwrap()), ["lobby", "room-2"]);
    assert_eq!(ids(handle.loaded_rooms("desk", None, 1).unwrap()), ["lobby"]);
    assert_eq!(ids(handle.loaded_rooms("desk", Some("lobby"), 9).unwrap()), ["room-2"]);
    assert!(handle.rooms("desk", None, 0).await.unwrap().is_empty());
    assert!(handle.loaded_rooms("desk", None, 0).unwrap().is_empty());
    assert_eq!(starts.load(Ordering::SeqCst), before, "nothing has started");
    assert!(matches!(handle.rooms("no", None, 1).await, Err(CallError::UnknownParty(_))));
    assert!(matches!(handle.rooms("desk", Some(""), 1).await, Err(CallError::InvalidRoom(_))));
}

#[tokio::test]
async fn connections_are_listed_with_their_states_page_by_page_and_none_wakes() {
    let (builder, starts) = builder();
    let site = serve(builder).await;
    let mut clients = Vec::new();
    for name in ["ada", "bob", "ada", "eve"] {
        clients.push(
            site.connect(&format!("/parties/desk/a?_pk={name}&name={name}&tag=people")).await,
        );
    }
    within(site.handle.evict("desk", "a")).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = site.handle.connections("desk", "a", after, 3).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.number);
        seen.extend(page);
    }
    let ids: Vec<_> = seen.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["ada", "bob", "ada", "eve"]);
    let base = site.base();
    assert_eq!(
        serde_json::to_value(&seen[1]).unwrap(),
        json!({
            "number": seen[1].number,
            "id": "bob",
            "uri": format!("{base}/parties/desk/a?_pk=bob&name=bob&tag=people"),
            "tags": ["people"],
            "buffered": 0,
            "state": { "name": "bob" },
        })
    );
    let state: Option<Value> = seen[3].state().unwrap();
    assert_eq!(state, Some(json!({ "name": "eve" })));
    assert!(seen[3].state::<u32>().is_err());
    assert_eq!(starts.load(Ordering::SeqCst), 1);
    assert!(site.handle.connections("desk", "nobody", None, 9).unwrap().is_empty());
    assert!(site.handle.connections("no", "a", None, 9).is_err());
}

#[tokio::test]
async fn an_operator_closes_clients_by_id_by_tag_and_all() {
    let (builder, _) = builder();
    let site = serve(builder).await;
    let connect = async |id: &str, tag: &str| {
        site.connect(&format!("/parties/desk/a?_pk={id}&tag={tag}")).await
    };
    let (mut ada, mut again) = (connect("ada", "x").await, connect("ada", "x").await);
    let (mut bob, mut eve) = (connect("bob", "ada").await, connect("eve", "x").await);
    within(site.handle.evict("desk", "a")).await.unwrap();

    assert_eq!(site.handle.disconnect("desk", "a", "ada", 4001, "kicked").unwrap(), 2);
    assert_eq!(ada.closed().await, (4001, "kicked".to_owned()));
    assert_eq!(again.closed().await, (4001, "kicked".to_owned()));
    let left = site.handle.connections("desk", "a", None, 9).unwrap();
    assert_eq!(left.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["bob", "eve"]);
    assert_eq!(site.handle.disconnect_tagged("desk", "a", "ada", 4002, "").unwrap(), 1);
    assert_eq!(bob.closed().await, (4002, String::new()));
    eve.send("still here").await;
    assert_eq!(eve.text().await, "stored");
    assert_eq!(site.handle.disconnect_all("desk", "a", 4003, "all").unwrap(), 1);
    assert_eq!(eve.closed().await, (4003, "all".to_owned()));
    eventually(|| {
        site.handle
            .room_stats("desk", "a")
            .is_none_or(|it| it.account.causes.contains(&(WakeCause::Disconnect, 1)))
    })
    .await;

    assert_eq!(site.handle.disconnect_all("desk", "nobody", 4003, "").unwrap(), 0);
    let wrong = site.handle.disconnect("desk", "a", "eve", 1006, "").unwrap_err();
    assert!(matches!(wrong, CallError::InvalidClose(_)), "{wrong}");
}

#[tokio::test]
async fn an_erased_room_is_gone_from_the_store_and_its_clients_stay() {
    let (builder, starts) = builder();
    let site = serve(builder).await;
    let mut ada = site.connect("/parties/desk/a?_pk=ada").await;
    fill(&site.handle, "b").await;
    for _ in 0..3 {
        ada.send("x").await;
        ada.text().await;
    }
    within(site.handle.erase("desk", "a")).await.unwrap();
    within(site.handle.erase("desk", "b")).await.unwrap();
    within(site.handle.erase("desk", "never was")).await.unwrap();
    let listed = site.handle.rooms("desk", None, 9).await.unwrap();
    assert_eq!(listed.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["a"], "she is there");
    assert_eq!(site.handle.room_stats("desk", "a").unwrap().phase, RoomPhase::Asleep);
    let before = starts.load(Ordering::SeqCst);
    ada.send("again").await;
    assert_eq!(ada.text().await, "stored");
    assert_eq!(starts.load(Ordering::SeqCst), before + 1);
    assert_eq!(site.ask("desk", "a").await, "said:0000000000000001", "it counts from zero");
    assert!(site.handle.erase("no", "a").await.is_err());
}

#[tokio::test]
async fn everything_that_is_told_has_a_json_form() {
    let (builder, _) = builder();
    let site = serve(builder).await;
    let _ada = site.connect("/parties/desk/a?_pk=ada").await;
    let room = serde_json::to_value(site.handle.room_stats("desk", "a").unwrap()).unwrap();
    assert_eq!((&room["phase"], &room["connections"]), (&json!("awake"), &json!(1)));
    let account = &room["account"];
    assert_eq!(account["causes"], json!({ "connect": 1 }));
    assert_eq!(account["last_wake"]["cause"], "connect");
    assert!(account["life"].is_f64() && account["awake"]["handler"].is_f64(), "{account}");
    assert!(room["sleeps_in"].as_f64().is_some_and(|left| left > 3000.0), "{room}");
    let all = serde_json::to_value(site.handle.stats()).unwrap();
    assert_eq!(all["parties"]["desk"]["connections"], 1);
    assert_eq!(all["parties"]["other"]["rooms"], 0);
    assert_eq!(all["store"], Value::Null, "it is in memory");
    let rooms = site.handle.rooms("desk", None, 1).await.unwrap();
    let listed = json!([{ "id": "a", "phase": "awake", "connections": 1 }]);
    assert_eq!(serde_json::to_value(rooms).unwrap(), listed);
}
