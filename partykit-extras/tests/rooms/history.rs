use std::{sync::Arc, time::Duration};

use futures_executor::block_on;
use partykit_core::{
    Backend, Close, Connection, List, MemoryBackend, Message, Options, Reject, Request, RequestExt,
    Result, Room, Server,
    testing::{FaultyBackend, Step, TestConnection, TestRoom, TestRoomBuilder, transparency},
};
use partykit_extras::history::{History, HistoryError, Position, Resumed};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How much the rooms of the tests keep, and how much they show to one who is new.
const KEEP: u64 = 6;
const REPLAY: usize = 3;
const HISTORY: History = History::new().keep(KEEP);

/// What clients hear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    at: String,
    n: u64,
}

#[derive(Default)]
struct Chat;

impl Server for Chat {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    fn connection_tags(&mut self, _: &Room, _: &str, request: &Request) -> Result<Vec<String>> {
        Ok(request.query("tag").into_iter().collect())
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
        match HISTORY.resume(room, new, request).await? {
            Resumed::Caught(_) => {}
            other => {
                new.send(if other == Resumed::Gap { "gap" } else { "fresh" });
                HISTORY.replay(room, new, REPLAY).await?;
            }
        }
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let said: Value = message.json()?;
        if said["clear"] == true {
            HISTORY.clear(room).await?;
            return Ok(());
        }
        let n = said["n"].as_u64().unwrap_or_default();
        let mut publish = HISTORY.publish(room);
        if said["except"] == true {
            publish = publish.except(sender);
        }
        if said["tag"] == true {
            publish = publish.tag("tag");
        }
        publish.send_json(|at| Said { at: at.to_string(), n }).await?;
        match said["then"].as_str() {
            Some("reject") => Err(Reject::bad_request("no").into()),
            Some("fail") => Err("on_message fails".into()),
            _ => Ok(()),
        }
    }
}

/// A client as a page is one: it keeps its id, and says the last position that it has.
struct Client {
    id: String,
    tag: bool,
    connection: Option<TestConnection>,
    since: Option<String>,
    /// What it shows, since it was last told that it has missed something.
    shows: Vec<u64>,
    /// How many messages there were when it last started from nothing.
    from: usize,
    gaps: usize,
}

impl Client {
    fn new(id: &str, tag: bool) -> Self {
        let (connection, since, shows) = (None, None, Vec::new());
        Self { id: id.to_owned(), tag, connection, since, shows, from: 0, gaps: 0 }
    }

    async fn connect<S: Server>(&mut self, room: &TestRoom<S>) {
        let tag = if self.tag { "&tag=tag" } else { "" };
        let since = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let uri = format!("/parties/main/test?_pk={}{since}{tag}", self.id);
        let request = Request::builder().uri(uri).body("".into()).unwrap();
        self.connection = Some(room.connect_with(&self.id, request).await);
    }

    fn is_open(&self) -> bool {
        self.connection.as_ref().is_some_and(TestConnection::is_open)
    }

    fn hear(&mut self, messages: usize) {
        for message in self.connection.iter().flat_map(TestConnection::received) {
            match message.as_text() {
                Some(begin @ ("gap" | "fresh")) => {
                    self.gaps += usize::from(begin == "gap");
                    self.shows.clear();
                    self.from = messages;
                }
                _ => {
                    let said: Said = message.json().unwrap();
                    self.shows.push(said.n);
                    self.since = Some(said.at);
                }
            }
        }
    }
}

/// A message that was committed.
#[derive(Debug)]
struct Sent {
    except: Option<usize>,
    tag: bool,
}

struct World<S> {
    room: TestRoom<S>,
    backend: FaultyBackend<MemoryBackend>,
    clients: Vec<Client>,
    /// The number of a message is its place here.
    sent: Vec<Sent>,
    /// Since when the history has not been cleared.
    cleared: usize,
}

impl<S: Server + Default> World<S> {
    fn new() -> Self {
        let clients = ["a", "b", "c"].into_iter().map(|id| Client::new(id, id == "c"));
        let backend = FaultyBackend::new(MemoryBackend::default(), 1).delay(0..=3);
        let room = TestRoom::builder().backend(Arc::new(backend.clone())).build();
        Self { room, backend, clients: clients.collect(), sent: Vec::new(), cleared: 0 }
    }

    /// Whether a client gets a message. What it got when it was new, it got with its own.
    fn is_for(&self, who: usize, n: usize) -> bool {
        let (client, sent) = (&self.clients[who], &self.sent[n]);
        (sent.except != Some(who) || n < client.from) && (!sent.tag || client.tag)
    }

    async fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match *act {
            Act::Connect(who) if !self.clients[who].is_open() => {
                let last = self.clients[who].since.is_some();
                let had =
                    self.clients[who].shows.last().map_or(self.sent.len(), |n| *n as usize + 1);
                let missed = self.sent.len().saturating_sub(had);
                self.clients[who].connect(&self.room).await;
                let gaps = self.clients[who].gaps;
                self.hear();
                // A gap is told only where there can be one.
                if self.clients[who].gaps > gaps {
                    let is_cleared = self.cleared > 0;
                    prop_assert!(last && (missed as u64 > KEEP || is_cleared), "a false gap");
                }
            }
            Act::Say { who, except, tag, then } if self.clients[who].is_open() => {
                let n = self.sent.len();
                if then.is_empty() {
                    self.sent.push(Sent { except: except.then_some(who), tag });
                }
                if then == "no commit" {
                    self.backend.fail_next_commit();
                }
                let say = json!({ "n": n, "except": except, "tag": tag, "then": then });
                let connection = self.clients[who].connection.as_ref().unwrap();
                connection.send(say.to_string()).await;
            }
            Act::Clear(who) if self.clients[who].is_open() => {
                self.cleared += 1;
                let connection = self.clients[who].connection.as_ref().unwrap();
                connection.send(json!({ "clear": true }).to_string()).await;
            }
            Act::Cut(who) if self.clients[who].is_open() => {
                // Also what has arrived and was not read is lost.
                let connection = self.clients[who].connection.take().unwrap();
                connection.vanish().await;
            }
            Act::Sleep => self.room.hibernate().await.unwrap(),
            Act::Crash => {
                self.room.crash().await;
                self.clients.iter_mut().for_each(|client| client.connection = None);
            }
            _ => {}
        }
        Ok(())
    }

    fn hear(&mut self) {
        let messages = self.sent.len();
        self.clients.iter_mut().for_each(|client| client.hear(messages));
    }

    /// What each open client shows: everything for it from its first message on, once and in order.
    fn check(&self) -> Result<(), TestCaseError> {
        for (who, client) in self.clients.iter().enumerate().filter(|(_, it)| it.is_open()) {
            let from = client.shows.first().map_or(client.from, |first| *first as usize);
            let visible = (from..self.sent.len()).filter(|n| self.is_for(who, *n));
            let visible: Vec<u64> = visible.map(|n| n as u64).collect();
            prop_assert_eq!(&client.shows, &visible, "client {}", client.id);
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Act {
    Connect(usize),
    Say { who: usize, except: bool, tag: bool, then: &'static str },
    Clear(usize),
    Cut(usize),
    Hear,
    Sleep,
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0_usize..3;
    let then = prop_oneof![
        8 => Just(""), 1 => Just("reject"), 1 => Just("fail"), 1 => Just("no commit")
    ];
    let rarely = prop_oneof![4 => Just(false), 1 => Just(true)];
    prop_oneof![
        6 => who.clone().prop_map(Act::Connect),
        12 => (who.clone(), rarely.clone(), rarely, then)
            .prop_map(|(who, except, tag, then)| Act::Say { who, except, tag, then }),
        3 => who.clone().prop_map(Act::Cut),
        4 => Just(Act::Hear),
        3 => Just(Act::Sleep),
        1 => Just(Act::Crash),
        1 => who.prop_map(Act::Clear),
    ]
}

/// `HISTORY_TRACES=10000` for a longer run.
fn traces() -> ProptestConfig {
    let traces = std::env::var("HISTORY_TRACES").ok().and_then(|it| it.parse().ok());
    ProptestConfig { max_shrink_iters: 10_000, ..ProptestConfig::with_cases(traces.unwrap_or(200)) }
}

proptest! {
    #![proptest_config(traces())]

    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(acts in proptest::collection::vec(act(), 1..80)) {
        block_on(async {
            let mut world = World::<Chat>::new();
            for act in &acts {
                world.act(act).await?;
                if matches!(act, Act::Hear) {
                    world.hear();
                    world.check()?;
                }
            }
            world.hear();
            world.check()?;
            let rows = world.room.rows(List::new().prefix("history:")).await;
            prop_assert!(rows.len() as u64 <= KEEP);
            Ok(())
        })?;
    }
}

/// The positive control: messages in a field, told from the newest on.
#[derive(Default)]
struct Ring(Vec<Said>);

impl Server for Ring {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_connect(&mut self, _: &Room, new: &Connection, request: &Request) -> Result {
        let since = request.query("since").and_then(|n| n.parse::<u64>().ok());
        for said in self.0.iter().filter(|said| since.is_none_or(|since| said.n > since)) {
            new.send_json(said)?;
        }
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
        let n = message.json::<Value>()?["n"].as_u64().unwrap_or_default();
        self.0.push(Said { at: n.to_string(), n });
        room.broadcast_json(&self.0.last())?.send();
        Ok(())
    }
}

#[test]
fn a_history_in_a_field_is_found_out() {
    block_on(async {
        let say = Act::Say { who: 0, except: false, tag: false, then: "" };
        let acts = [Act::Connect(0), Act::Connect(1), say.clone(), Act::Hear, Act::Cut(1), say];
        for sleeps in [false, true] {
            let mut world = World::<Ring>::new();
            for act in &acts {
                world.act(act).await.unwrap();
                world.hear();
            }
            if sleeps {
                world.act(&Act::Sleep).await.unwrap();
            }
            world.act(&Act::Connect(1)).await.unwrap();
            assert_eq!(world.check().is_err(), sleeps);
        }
    });
}

#[test]
fn sleep_does_not_show() {
    let steps = [
        Step::connect("a"),
        Step::say("a", r#"{"n":1}"#),
        Step::say("a", r#"{"n":2,"except":true}"#),
        Step::connect("b").query("tag=tag"),
        Step::say("b", r#"{"n":3,"tag":true}"#),
        Step::vanish("b"),
        Step::say("a", r#"{"n":4,"then":"fail"}"#).may_fail(),
        Step::say("a", r#"{"n":5}"#),
        Step::connect("b").query("since=00000000-1"),
        Step::say("a", r#"{"clear":true}"#),
        Step::connect("c"),
        Step::say("c", r#"{"n":6}"#),
    ];
    block_on(transparency(|| TestRoomBuilder::new(|_| Chat), &steps)).unwrap();
}

async fn told(room: &TestRoom<Chat>, since: &str) -> Vec<String> {
    let uri = format!("/parties/main/test?_pk=new&since={since}");
    let request = Request::builder().uri(uri).body("".into()).unwrap();
    let client = room.connect_with("new", request).await;
    let told = client.received().into_iter();
    let told = told.map(|message| String::from_utf8(message.into_bytes().to_vec()).unwrap());
    let told = told.collect();
    client.close(1000, "").await.unwrap();
    told
}

/// What a client can say about its position, and never made.
#[test]
fn positions_that_are_none() {
    block_on(async {
        let room = TestRoom::<Chat>::new();
        assert_eq!(told(&room, "00000000-1").await, ["gap"], "there is no history yet");
        let ada = room.connect("ada").await;
        ada.received();
        ada.send(r#"{"n":1}"#).await;
        let said: Said = ada.received()[0].json().unwrap();
        let one = serde_json::to_string(&said).unwrap();
        let epoch = said.at.strip_suffix("-1").unwrap();
        assert_eq!(told(&room, &said.at).await, [""; 0]);
        assert_eq!(told(&room, &format!("{epoch}-0")).await, [one.as_str()]);
        for since in [format!("{epoch}-2"), format!("{epoch}-{}", u64::MAX), "00000000-1".into()] {
            assert_eq!(told(&room, &since).await, ["gap", &one], "{since}");
        }
        let long = "1".repeat(5_000);
        for since in ["", "1", "-1", "%00", "%ff", "null", "undefined", &format!("{epoch}-"), &long]
        {
            assert_eq!(told(&room, since).await, ["fresh", &one], "{since}");
        }
        assert_eq!(room.errors(), [""; 0]);
    });
}

/// What a server does that publishes as `publish` says, and what is kept of it.
struct Publisher(History, for<'a> fn(&'a History, &'a Room) -> Publishing<'a>);

type Publishing<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), HistoryError>> + Send + 'a>>;

impl Server for Publisher {
    async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
        let resumed = self.0.resume(room, new, request).await?;
        new.send(format!("{resumed:?}"));
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, _: &Connection, _: Message) -> Result {
        Ok((self.1)(&self.0, room).await?)
    }

    async fn on_close(&mut self, room: &Room, _: &Connection, _: Close) -> Result {
        let recent = self.0.recent(room, 100).await?.into_iter();
        let recent: Vec<String> = recent.map(|entry| entry.position.to_string()).collect();
        Ok(room.storage().put("recent", &recent)?)
    }
}

fn publisher(
    history: History,
    publish: for<'a> fn(&'a History, &'a Room) -> Publishing<'a>,
) -> TestRoom<Publisher> {
    TestRoomBuilder::new(move |_| Publisher(history, publish)).build()
}

/// What somebody hears who comes back with a position, and how many messages before it.
async fn resumed(room: &TestRoom<Publisher>, since: &str) -> (String, usize) {
    let uri = format!("/parties/main/test?_pk=again&since={since}");
    let request = Request::builder().uri(uri).body("".into()).unwrap();
    let client = room.connect_with("again", request).await;
    let mut heard = client.received();
    let resumed = heard.pop().unwrap();
    (resumed.as_text().unwrap().to_owned(), heard.len())
}

/// The offsets of the messages that are stored.
async fn kept(room: &TestRoom<Publisher>) -> Vec<u64> {
    let rows = room.rows(List::new().prefix("history:m:")).await;
    rows.iter().map(|(key, _)| u64::from_str_radix(&key[10..], 16).unwrap()).collect()
}

fn ten_bytes<'a>(history: &'a History, room: &'a Room) -> Publishing<'a> {
    Box::pin(async {
        history.publish(room).send(|_| Message::from(vec![7; 10])).await?;
        Ok(())
    })
}

#[test]
fn only_so_much_is_kept() {
    block_on(async {
        for (history, first) in [
            (History::new().keep(5), 16),
            (History::new().keep(0), 20),
            (History::new().keep_bytes(39), 18),
            (History::new().keep_bytes(40), 17),
            (History::new().keep_bytes(0), 20),
            (History::new(), 1),
        ] {
            let room = publisher(history, ten_bytes);
            let ada = room.connect("ada").await;
            for _ in 0..20 {
                ada.send("").await;
            }
            assert_eq!(kept(&room).await, (first..=20).collect::<Vec<_>>(), "{history:?}");
            assert_eq!(room.errors(), [""; 0]);
        }
    });
}

/// A history that was longer shrinks while messages come, and not all at once.
#[test]
fn less_than_before_is_kept_little_by_little() {
    block_on(async {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::default());
        let large = TestRoomBuilder::new(|_| Publisher(History::new(), ten_bytes));
        let large = large.backend(backend.clone()).build();
        let ada = large.connect("ada").await;
        for _ in 0..300 {
            ada.send("").await;
        }
        let small = TestRoomBuilder::new(|_| Publisher(History::new().keep(3), ten_bytes));
        let small = small.backend(backend).build();
        let ada = small.connect("ada").await;
        ada.send("").await;
        assert_eq!(kept(&small).await.len(), 301 - 128);
        for _ in 0..3 {
            ada.send("").await;
        }
        assert_eq!(kept(&small).await, [302, 303, 304]);
    });
}

#[test]
fn what_is_too_old_is_not_sent_and_goes_with_the_next() {
    block_on(async {
        let history = History::new().keep_for(Duration::from_secs(60));
        let room = publisher(history, ten_bytes);
        let ada = room.connect("ada").await;
        let recent = async || room.stored::<Vec<String>>("recent").await.unwrap().len();
        for _ in 0..3 {
            ada.send("").await;
        }
        room.advance(Duration::from_secs(60)).await;
        room.connect("eve").await.close(1000, "").await.unwrap();
        assert_eq!(recent().await, 3);
        let positions = room.stored::<Vec<String>>("recent").await.unwrap();
        assert_eq!(resumed(&room, &positions[1]).await, ("Caught(1)".to_owned(), 1));
        room.advance(Duration::from_secs(1)).await;
        assert_eq!(resumed(&room, &positions[1]).await, ("Gap".to_owned(), 0));
        assert_eq!(resumed(&room, &positions[2]).await, ("Caught(0)".to_owned(), 0));
        room.connect("eve").await.close(1000, "").await.unwrap();
        assert_eq!((recent().await, kept(&room).await.len()), (0, 3));
        ada.send("").await;
        assert_eq!(kept(&room).await, [4]);
    });
}

/// 18 messages of 1 MiB are kept, and 16 of them fit into an answer.
#[test]
fn one_that_missed_too_much_is_told_of_a_gap() {
    fn megabyte<'a>(history: &'a History, room: &'a Room) -> Publishing<'a> {
        Box::pin(async {
            history.publish(room).send(|_| Message::from(vec![7; 1 << 20])).await.map(drop)
        })
    }
    block_on(async {
        let room = publisher(History::new().keep_bytes(64 << 20), megabyte);
        let ada = room.connect("ada").await;
        for _ in 0..18 {
            ada.send("").await;
            ada.received();
        }
        room.connect("eve").await.close(1000, "").await.unwrap();
        let positions = room.stored::<Vec<String>>("recent").await.unwrap();
        assert_eq!(resumed(&room, &positions[0]).await, ("Gap".to_owned(), 0));
        assert_eq!(resumed(&room, &positions[1]).await, ("Caught(16)".to_owned(), 16));
    });
}

/// Two that are published side by side stand one behind the other, in the order in which they were sent.
#[test]
fn messages_beside_one_another_have_positions_of_their_own() {
    fn both<'a>(history: &'a History, room: &'a Room) -> Publishing<'a> {
        Box::pin(async {
            let say = |text: &'static str| {
                history
                    .publish(room)
                    .send(move |at: Position| Message::from(format!("{at} {text}")))
            };
            let (one, two, three) = futures_util::join!(say("one"), say("two"), say("three"));
            one.and(two).and(three).map(drop)
        })
    }
    block_on(async {
        // So that each of them waits for the store.
        let backend = FaultyBackend::new(MemoryBackend::default(), 1).delay(1..=5);
        let rooms = TestRoomBuilder::new(|_| Publisher(History::new(), both));
        let room = rooms.backend(Arc::new(backend)).build();
        let ada = room.connect("ada").await;
        ada.send("").await;
        room.idle().await;
        assert_eq!(room.errors(), [""; 0]);
        let heard = ada.received();
        let heard: Vec<_> = heard.iter().map(|it| it.as_text().unwrap()).collect();
        let (at, mut texts): (Vec<_>, Vec<_>) =
            heard.iter().filter_map(|text| text.split_once('-')?.1.split_once(' ')).unzip();
        texts.sort_unstable();
        assert_eq!((at, texts), (vec!["1", "2", "3"], vec!["one", "three", "two"]));
        assert_eq!(kept(&room).await, [1, 2, 3]);
    });
}

#[test]
fn rows_of_others_are_told() {
    block_on(async {
        let room = publisher(History::new(), |history, room| {
            Box::pin(async {
                room.storage().put("history:m:zz", &1)?;
                history.publish(room).send(|_| Message::from("")).await.map(drop)
            })
        });
        room.connect("ada").await.send("").await;
        let [error] = &room.errors()[..] else { panic!("one error") };
        assert!(error.contains("\"history:m:zz\" is no message of the history"), "{error}");
    });
}
