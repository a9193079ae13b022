use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use partykit_core::{
    AwakeReason, Body, CallError, Connection, Message, Options, Request, Response, Result, Room,
    RoomPhase, Server,
};
use partykit_runtime_tokio::Runtime;

use crate::support::{eventually, serve, within};

/// Counts how often it starts, and says the count.
struct Sleeper(Arc<AtomicUsize>);

impl Server for Sleeper {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(Duration::from_secs(3600))
    }

    fn connection_tags(&mut self, _: &Room, id: &str, _: &Request) -> Result<Vec<String>> {
        Ok(vec![format!("tag of {id}")])
    }

    async fn on_start(&mut self, _: &Room) -> Result {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn on_message(&mut self, _: &Room, sender: &Connection, _: Message) -> Result {
        sender.send(self.0.load(Ordering::SeqCst).to_string());
        Ok(())
    }
}

#[tokio::test]
async fn a_sleeping_room_is_woken_by_messages_and_not_by_broadcasts() {
    let starts = Arc::new(AtomicUsize::new(0));
    let count = starts.clone();
    let builder = Runtime::builder().party_with("sleeper", move |_| Sleeper(count.clone()));
    let site = serve(builder).await;
    let mut ada = site.connect("/parties/sleeper/a?_pk=ada").await;
    let mut bob = site.connect("/parties/sleeper/a?_pk=bob").await;
    let stats = site.handle.room_stats("sleeper", "a").unwrap();
    assert_eq!((stats.phase, stats.connections), (RoomPhase::Awake, 2));

    within(site.handle.evict("sleeper", "a")).await.unwrap();
    assert_eq!(site.handle.room_stats("sleeper", "a").unwrap().phase, RoomPhase::Asleep);
    site.handle.broadcast("sleeper", "a", "to all").unwrap();
    site.handle.broadcast_tagged("sleeper", "a", "tag of bob", "to bob").unwrap();
    assert_eq!(ada.text().await, "to all");
    assert_eq!(bob.text().await, "to all");
    assert_eq!(bob.text().await, "to bob");
    assert_eq!(site.handle.room_stats("sleeper", "a").unwrap().phase, RoomPhase::Asleep);
    assert_eq!(starts.load(Ordering::SeqCst), 1);

    ada.send("wake up").await;
    assert_eq!(ada.text().await, "2");
    let stats = site.handle.stats();
    let party = &stats.parties["sleeper"];
    assert_eq!((party.rooms, party.awake, party.asleep, party.connections), (1, 1, 0, 2));
    within(site.handle.evict("sleeper", "a")).await.unwrap();
    within(site.handle.evict("sleeper", "a")).await.unwrap();
    assert_eq!(site.handle.stats().parties["sleeper"].asleep, 1);

    site.handle.broadcast("sleeper", "nobody is here", "hello").unwrap();
    assert!(site.handle.room_stats("sleeper", "nobody is here").is_none());
    within(site.handle.evict("sleeper", "nobody is here")).await.unwrap();
    assert!(matches!(site.handle.broadcast("no", "a", "x"), Err(CallError::UnknownParty(_))));
    assert!(matches!(site.handle.broadcast("sleeper", "", "x"), Err(CallError::InvalidRoom(_))));
}

/// Does not hibernate.
#[derive(Default)]
struct Wakeful;

impl Server for Wakeful {
    fn options() -> Options {
        Options::new().hibernate_after(Duration::ZERO)
    }
}

#[tokio::test]
async fn what_keeps_a_room_awake_is_told() {
    let site = serve(Runtime::builder().party::<Wakeful>("wakeful")).await;
    let client = site.connect("/parties/wakeful/a").await;
    let reasons = within(site.handle.evict("wakeful", "a")).await.unwrap_err();
    assert_eq!(reasons, [AwakeReason::Connections(1)]);
    client.close().await;
    eventually(|| site.handle.room_stats("wakeful", "a").is_none()).await;
}

#[tokio::test]
async fn a_vacant_room_is_forgotten() {
    let site = serve(Runtime::builder().party::<Wakeful>("wakeful")).await;
    for room in 0..20 {
        let path = format!("/parties/wakeful/{room}");
        if room % 2 == 0 {
            site.get(&path).await;
        } else {
            site.connect(&path).await.close().await;
        }
    }
    eventually(|| site.handle.stats().parties["wakeful"].rooms == 0).await;
    assert!(site.handle.room_stats("wakeful", "1").is_none());
}

/// Passes a request on along its path: `/b/c` goes to the room `b`, and from there to `c`.
struct Caller(tokio::sync::mpsc::UnboundedSender<String>);

impl Server for Caller {
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let path = request.uri().path().trim_matches('/').to_owned();
        let (next, rest) = path.split_once('/').unwrap_or((&path, ""));
        match (next, rest) {
            ("", _) => Ok(Response::new(room.id().to_owned().into())),
            ("tell", to) => {
                let request = http::Request::builder().uri("/told").body(Body::empty())?;
                room.party("caller").room(to).tell(request)?;
                Ok(Response::default())
            }
            ("told", _) => {
                self.0.send(room.id().to_owned())?;
                Ok(Response::default())
            }
            ("nobody", _) => {
                let answer = room.party("nobody").room("a").request(Request::default()).await;
                Ok(Response::new(answer.unwrap_err().to_string().into()))
            }
            (next, rest) => {
                let on = http::Request::builder().uri(format!("/{rest}")).body(Body::empty())?;
                let answer = room.party("caller").room(next).request(on).await;
                let text = match &answer {
                    Ok(answer) => std::str::from_utf8(answer.body().bytes().unwrap())?.to_owned(),
                    Err(error) => error.to_string(),
                };
                Ok(Response::new(format!("{} > {text}", room.id()).into()))
            }
        }
    }
}

#[tokio::test]
async fn rooms_call_rooms_but_not_in_circles() {
    let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
    let site = serve(Runtime::builder().party_with("caller", move |_| Caller(told.clone()))).await;
    let ask = async |room: &str, path: &str| {
        let request = http::Request::builder().uri(path).body(Body::empty()).unwrap();
        let answer = within(site.handle.request("caller", room, request)).await.unwrap();
        String::from_utf8(answer.body().bytes().unwrap().to_vec()).unwrap()
    };
    assert_eq!(ask("a", "/b/c").await, "a > b > c");
    assert_eq!(ask("a", "/nobody").await, "no party has the name \"nobody\"");
    let refused = "that room already waits for this one";
    for (path, rooms) in [("/a", 1), ("/b/a", 2), ("/b/b", 2), ("/b/c/b", 3)] {
        let answer = ask("a", path).await;
        assert!(answer.contains(refused), "{answer}");
        assert_eq!(answer.matches(" > ").count(), rooms, "{answer}");
    }
    assert_eq!(ask("a", "/b/c").await, "a > b > c", "nobody waits any more");

    assert_eq!(ask("a", "/tell/b").await, "");
    assert_eq!(within(tell.recv()).await.unwrap(), "b");
    let request = http::Request::builder().uri("/told").body(Body::empty()).unwrap();
    site.handle.tell("caller", "c", request).unwrap();
    assert_eq!(within(tell.recv()).await.unwrap(), "c");
    let unknown = within(site.handle.request("nobody", "a", Request::default())).await;
    assert!(matches!(unknown, Err(CallError::UnknownParty(name)) if name == "nobody"));
}
