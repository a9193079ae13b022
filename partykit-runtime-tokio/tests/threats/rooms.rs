use std::time::Duration;

use partykit_core::{
    Connection, Message, Options, Request, Response, Result, Room, RoomId, Server,
};
use partykit_runtime_tokio::Runtime;

use crate::{
    support::{eventually, header, serve},
    witness::{Echo, Witness},
};

/// Rooms are forgotten as soon as they have answered.
fn forgetful() -> Options {
    Options::new().hibernate(true).hibernate_after(Duration::ZERO)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_08_a_room_name_costs_nothing_after_its_request() {
    let make = |_: &RoomId| Echo;
    let site = serve(Runtime::builder().party_with_options("echo", forgetful(), make)).await;
    let mut witness = Witness::of(&site).await;
    let attack = async {
        let head = format!("host: {}\r\n", site.addr);
        let mut requests: Vec<_> = (0..5000)
            .map(|n| format!("GET /parties/echo/name{n} HTTP/1.1\r\n{head}\r\n"))
            .collect();
        requests
            .push(format!("GET /parties/echo/last HTTP/1.1\r\n{head}connection: close\r\n\r\n"));
        let answers = site.raw(requests.concat().as_bytes()).await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 5001);
    };
    witness.during(attack).await;
    eventually(|| site.handle.stats().parties["echo"].rooms == 1).await;
    witness.is_alone().await;
}

#[tokio::test]
async fn threat_08_no_more_rooms_than_fit() {
    let site = serve(Runtime::builder().party::<Echo>("echo").max_rooms(3)).await;
    let mut witness = Witness::of(&site).await;
    let one = site.connect("/parties/echo/b").await;
    let other = site.connect("/parties/echo/c").await;
    let attack = async {
        for n in 0..50 {
            let path = format!("/parties/echo/new{n}");
            assert_eq!(site.get(&path).await.status(), 503);
            assert_eq!(site.try_connect(&path, &[]).await.err().unwrap().status(), 503);
        }
    };
    witness.during(attack).await;
    assert_eq!(site.get("/parties/echo/b").await.body(), "b", "those that are there go on");
    assert_eq!(site.handle.stats().parties["echo"].rooms, 3);
    for (room, client) in [("b", one), ("c", other)] {
        client.close().await;
        site.handle.evict("echo", room).await.unwrap();
    }
    eventually(|| site.handle.room_stats("echo", "c").is_none()).await;
    assert_eq!(site.get("/parties/echo/d").await.body(), "d");
    witness.is_alone().await;
}

#[tokio::test]
async fn threat_08_no_more_new_rooms_than_an_address_may() {
    let builder = Runtime::builder()
        .party::<Echo>("echo")
        .max_new_rooms_per_minute(2)
        .client_address(|head| head.headers.get("x-client")?.to_str().ok()?.parse().ok());
    let site = serve(builder).await;
    let mut witness = Witness::of(&site).await;
    let get = async |room: &str, client: &str| {
        let path = format!("/parties/echo/{room}");
        site.request("GET", &path, &[("x-client", client)], "").await
    };
    let attack = async {
        for room in ["b", "c"] {
            assert_eq!(get(room, "10.0.0.1").await.status(), 200);
        }
        for n in 0..20 {
            let refused = get(&format!("new{n}"), "10.0.0.1").await;
            assert_eq!(
                (refused.status().as_u16(), header(&refused, "retry-after")),
                (429, Some("30"))
            );
        }
        let path = "/parties/echo/new";
        let refused = site.try_connect(path, &[("x-client", "10.0.0.1")]).await.err().unwrap();
        assert_eq!(refused.status(), 429);
    };
    witness.during(attack).await;
    assert_eq!(get("a", "10.0.0.1").await.status(), 200, "it is there");
    assert_eq!(get("new", "10.0.0.2").await.status(), 200, "another address");
    assert_eq!(site.get("/parties/echo/new2").await.status(), 200, "its address is unknown");
    witness.is_alone().await;
}

/// Does not hibernate, and counts its requests in a field.
struct Counter(u32);

impl Server for Counter {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        self.0 += 1;
        Ok(Response::new(self.0.to_string().into()))
    }
}

/// Names alone never fill the table of rooms, although each room would stay for 10 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_08_names_do_not_fill_the_table() {
    let builder = Runtime::builder()
        .party::<Echo>("echo")
        .party_with("counter", |_: &RoomId| Counter(0))
        .max_rooms(640);
    let site = serve(builder).await;
    let mut witness = Witness::of(&site).await;
    let of = |party: &str| site.handle.stats().parties[party].rooms;
    assert_eq!(site.get("/parties/counter/early").await.body(), "1");
    assert_eq!(of("counter"), 1, "among few rooms, one has its time");
    for party in ["echo", "counter"] {
        let attack = async {
            let head = format!("host: {}\r\n", site.addr);
            let get = |name: &str| format!("GET /parties/{party}/{name} HTTP/1.1\r\n{head}");
            let mut requests: Vec<_> =
                (0..5000).map(|n| get(&format!("name{n}")) + "\r\n").collect();
            requests.push(get("last") + "connection: close\r\n\r\n");
            let answers = site.raw(requests.concat().as_bytes()).await;
            assert_eq!(answers.matches("HTTP/1.1 200").count(), 5001, "{party}");
        };
        witness.during(attack).await;
    }
    eventually(|| of("echo") == 1 && of("counter") <= 11).await;
    witness.is_alone().await;
}

/// Remembers what each connection said, in its state.
#[derive(Default)]
struct Diary;

impl Server for Diary {
    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        let mut said: String = sender.state()?.unwrap_or_default();
        said += message.as_text().unwrap_or_default();
        sender.set_state(&said)?;
        sender.send(said);
        Ok(())
    }
}

#[tokio::test]
async fn threat_18_an_id_that_is_taken_steals_nothing() {
    let site = serve(Runtime::builder().party::<Echo>("echo").party::<Diary>("diary")).await;
    let mut victim = site.connect("/parties/diary/a?_pk=me").await;
    victim.send("secret ").await;
    assert_eq!(victim.text().await, "secret ");
    let mut thief = site.connect("/parties/diary/a?_pk=me").await;
    thief.send("mine ").await;
    assert_eq!(thief.text().await, "mine ");
    victim.send("still").await;
    assert_eq!(victim.text().await, "secret still");

    let mut witness = Witness::of(&site).await;
    let double = witness.during(site.connect("/parties/echo/a?_pk=witness")).await;
    double.close().await;
    witness.is_alone().await;
}
