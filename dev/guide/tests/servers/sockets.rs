//! The four small servers over real sockets: what a client sends wrongly is answered, counted, and nothing else.

use partykit::{Runtime, http::Method, stats::RoomStats};
use partykit_conformance::{
    Server, serve,
    suite::{Client, Room, Target},
};
use small::{Chat, Poll, Presence, Webhook};
use tokio::net::TcpListener;

use crate::log;

const TIMES: u64 = 1_000;

/// The server runs on the test's thread, so that the test hears what it logs.
struct House {
    server: Server,
    target: Target,
}

impl House {
    async fn open() -> Self {
        log::install();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let builder = Runtime::builder()
            .party::<Chat>("chat")
            .party::<Presence>("presence")
            .party::<Webhook>("webhook")
            .party::<Poll>("poll")
            .in_memory();
        let server = serve(builder, listener).expect("an address");
        let target = Target::new(&server.url());
        Self { server, target }
    }

    fn room(&self, party: &'static str) -> Room<'_> {
        Room::new(&self.target, party, "lobby".to_owned())
    }

    async fn post(&self, party: &'static str, body: &str) -> (u16, String) {
        let answer = self.target.send(Method::POST, &self.room(party).path(""), body).await;
        (answer.status(), answer.text())
    }

    /// Nothing of it was a failure: only the counter counts this many, and the log says so at `debug`.
    fn judge(&self, party: &str, rejected: u64) {
        let stats: Option<RoomStats> = self.server.handle().room_stats(party, "lobby");
        let account = stats.expect("the room is in memory").account;
        assert_eq!((account.rejected, account.resets, account.dropped_messages), (rejected, 0, 0));
        let lines = log::lines();
        let loud: Vec<_> = lines.iter().filter(|line| !line.starts_with("DEBUG")).collect();
        let [only] = loud[..] else { panic!("{loud:?}") };
        assert!(only.contains("listening on http://"), "{only}");
        let told = lines.iter().filter(|line| line.contains("rejected what a client sent"));
        assert_eq!(told.count() as u64, rejected);
    }
}

/// What this client is told, until something has this text in it.
async fn hear(client: &mut Client, text: &str) {
    while !client.next_json().await.to_string().contains(text) {}
}

#[tokio::test]
async fn a_chat_drops_nonsense() {
    let house = House::open().await;
    let mut ada = house.room("chat").connect_with("ada", "name=Ada").await;
    for _ in 0..TIMES {
        ada.say("{").await;
    }
    ada.say(r#"{"text": "hello"}"#).await;
    hear(&mut ada, r#"{"name":"Ada","text":"hello"}"#).await;
    house.judge("chat", TIMES);
}

#[tokio::test]
async fn a_list_of_who_is_here_takes_any_word() {
    let house = House::open().await;
    let mut bob = house.room("presence").connect_with("bob", "name=Bob").await;
    let mut ada = house.room("presence").connect_with("ada", "name=%7B%FF").await;
    hear(&mut bob, "{").await;
    for _ in 0..TIMES {
        ada.say("{").await;
    }
    ada.close(Some((1000, ""))).await;
    hear(&mut bob, r#"["Bob"]"#).await;
    house.judge("presence", 0);
}

#[tokio::test]
async fn a_webhook_answers_400() {
    let house = House::open().await;
    // Without somebody there, the room would be forgotten, and its counter with it.
    let mut ada = house.room("webhook").connect("ada").await;
    for _ in 0..TIMES {
        let (status, text) = house.post("webhook", "{").await;
        assert_eq!(status, 400);
        assert!(text.starts_with("the body is not JSON: "), "{text}");
    }
    let well = house.post("webhook", r#"{"repository": "partykit", "commits": 3}"#).await;
    assert_eq!(well, (200, r#"{"to":1}"#.to_owned()));
    hear(&mut ada, "partykit").await;
    house.judge("webhook", TIMES);
}

#[tokio::test]
async fn a_poll_answers_400_and_drops_nonsense() {
    let house = House::open().await;
    let mut ada = house.room("poll").connect("ada").await;
    for _ in 0..TIMES {
        assert_eq!(house.post("poll", "{").await.0, 400);
    }
    let question = r#"{"text": "Tea?", "answers": ["yes", "no"], "seconds": 60}"#;
    assert_eq!(house.post("poll", question).await.0, 201);
    for _ in 0..TIMES {
        ada.say("{").await;
    }
    ada.say("1").await;
    hear(&mut ada, "[0,1]").await;
    house.judge("poll", 2 * TIMES);
}
