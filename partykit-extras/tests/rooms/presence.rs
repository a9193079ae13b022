use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_executor::block_on;
use partykit_core::{
    Close, Connection, HandlerError, Message, Options, Reject, Request, RequestExt, Response,
    ResponseExt, Result, Room, Server, TaskResult,
    testing::{Step, TestConnection, TestRoom, TestRoomBuilder, transparency},
};
use partykit_extras::presence::{Presence, PresenceError};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::phoenix::Phoenix;

/// Twice the time that changes wait.
const A_WHILE: Duration = Duration::from_millis(100);

/// What a client shows: a number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Meta {
    n: u64,
}

type List = BTreeMap<String, Vec<u64>>;

#[derive(Default)]
struct Lounge {
    presence: Presence,
}

impl Lounge {
    fn list(&self, room: &Room) -> Result<List> {
        let list = self.presence.list::<Meta>(room)?.into_iter();
        Ok(list.map(|(user, metas)| (user, sorted(metas))).collect())
    }
}

fn sorted(metas: Vec<Meta>) -> Vec<u64> {
    let mut shown: Vec<u64> = metas.into_iter().map(|meta| meta.n).collect();
    shown.sort_unstable();
    shown
}

impl Server for Lounge {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        Ok(self.presence.start(room)?)
    }

    async fn on_connect(&mut self, room: &Room, connection: &Connection, _: &Request) -> Result {
        let user = connection.query("user").unwrap_or_default();
        match user.as_str() {
            "" => return Ok(self.presence.watch(room, connection)?),
            user => self.presence.join(room, connection, user, &Meta { n: 0 })?,
        }
        match connection.query("then").as_deref() {
            Some("fail") => Err("on_connect fails".into()),
            _ => Ok(()),
        }
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let said: Value = message.json()?;
        if let Some(user) = said["user"].as_str() {
            self.presence.join(room, sender, user, &Meta { n: 0 })?;
        }
        if let Some(n) = said["n"].as_u64() {
            self.presence.update(room, sender, &Meta { n })?;
        }
        if said["leave"].as_bool().is_some() {
            self.presence.leave(room, sender)?;
        }
        match said["then"].as_str() {
            Some("reject") => Err(Reject::bad_request("no").into()),
            Some("fail") => Err("on_message fails".into()),
            _ => Ok(()),
        }
    }

    async fn on_close(&mut self, room: &Room, connection: &Connection, close: Close) -> Result {
        self.presence.leave(room, connection)?;
        if close.code() == 4001.into() { Err("on_close fails".into()) } else { Ok(()) }
    }

    async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
        Ok(self.presence.tick(room, &result)?)
    }

    async fn on_error(&mut self, room: &Room, _: HandlerError) -> Result {
        Ok(self.presence.refresh(room)?)
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        Ok(Response::json(&self.list(room)?)?)
    }
}

/// The positive control: a list in a field.
#[derive(Default)]
struct Forgetful {
    users: HashMap<String, String>,
}

impl Server for Forgetful {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_connect(&mut self, _: &Room, connection: &Connection, _: &Request) -> Result {
        let user = connection.query("user").unwrap_or_default();
        self.users.insert(connection.id().to_owned(), user);
        Ok(())
    }

    async fn on_close(&mut self, _: &Room, connection: &Connection, _: Close) -> Result {
        self.users.remove(connection.id());
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        let mut list = List::new();
        self.users.values().for_each(|user| list.entry(user.clone()).or_default().push(0));
        Ok(Response::json(&list)?)
    }
}

#[derive(Clone, Debug)]
enum Act {
    Connect { user: u8, then: &'static str },
    Show { who: usize, n: u64, then: &'static str },
    Rename { who: usize, user: u8 },
    Leave { who: usize },
    Close { who: usize, code: u16 },
    Vanish { who: usize },
    Pass { millis: u64 },
    Sleep,
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0_usize..64;
    let then = prop_oneof![6 => Just(""), 1 => Just("reject"), 1 => Just("fail")];
    prop_oneof![
        6 => (0_u8..4, prop_oneof![8 => Just(""), 1 => Just("fail")])
            .prop_map(|(user, then)| Act::Connect { user, then }),
        8 => (who.clone(), 0_u64..9, then).prop_map(|(who, n, then)| Act::Show { who, n, then }),
        1 => (who.clone(), 0_u8..4).prop_map(|(who, user)| Act::Rename { who, user }),
        1 => who.clone().prop_map(|who| Act::Leave { who }),
        3 => (who.clone(), prop_oneof![4 => Just(1000_u16), 1 => Just(4001)])
            .prop_map(|(who, code)| Act::Close { who, code }),
        1 => who.prop_map(|who| Act::Vanish { who }),
        4 => (1_u64..80).prop_map(|millis| Act::Pass { millis }),
        3 => Just(Act::Sleep),
        1 => Just(Act::Crash),
    ]
}

/// A client, what it shows, and what it believes.
struct Client {
    connection: TestConnection,
    shows: Option<(String, u64)>,
    list: Phoenix,
}

struct World<S> {
    room: TestRoom<S>,
    clients: Vec<Client>,
}

impl<S: Server> World<S> {
    async fn connect(&mut self, user: &str, then: &str) {
        let id = format!("c{}", self.clients.len());
        let query = format!("_pk={id}&user={}&then={then}", user.replace(' ', "+"));
        let uri = format!("/parties/main/test?{query}");
        let request = Request::builder().uri(uri).body("".into()).unwrap();
        let connection = self.room.connect_with(&id, request).await;
        let shows = connection.is_open().then(|| (user.to_owned(), 0)).filter(|_| !user.is_empty());
        self.clients.push(Client { connection, shows, list: Phoenix::default() });
    }

    /// One of the clients that are here.
    fn pick(&mut self, who: usize) -> Option<&mut Client> {
        let mut here: Vec<_> =
            self.clients.iter_mut().filter(|client| client.connection.is_open()).collect();
        (!here.is_empty()).then(|| here.swap_remove(who % here.len()))
    }

    async fn act(&mut self, act: &Act) {
        match *act {
            Act::Connect { user, then } => self.connect(&format!("user {user}"), then).await,
            Act::Show { who, n, then } => {
                let Some(client) = self.pick(who) else { return };
                let is_here = client.shows.is_some();
                if then.is_empty() && is_here {
                    client.shows.as_mut().unwrap().1 = n;
                }
                client.connection.send(json!({ "n": n, "then": then }).to_string()).await;
            }
            Act::Rename { who, user } => {
                let Some(client) = self.pick(who) else { return };
                client.shows = Some((format!("user {user}"), 0));
                client.connection.send(json!({ "user": format!("user {user}") }).to_string()).await;
            }
            Act::Leave { who } => {
                let Some(client) = self.pick(who) else { return };
                client.shows = None;
                client.connection.send(json!({ "leave": true }).to_string()).await;
            }
            Act::Close { who, code } => {
                let Some(client) = self.pick(who) else { return };
                client.connection.close(code, "").await.unwrap();
            }
            Act::Vanish { who } => {
                let Some(client) = self.pick(who) else { return };
                client.connection.vanish().await;
            }
            Act::Pass { millis } => self.room.advance(Duration::from_millis(millis)).await,
            Act::Sleep => {
                // While changes wait to be told, the room stays awake.
                if self.room.hibernate().await.is_err() {
                    self.room.advance(A_WHILE).await;
                    self.room.hibernate().await.unwrap();
                }
            }
            Act::Crash => {
                self.room.crash().await;
                self.clients.clear();
            }
        }
    }

    /// Who is here, of those whose sockets are open.
    fn here(&self) -> List {
        let mut list = List::new();
        for client in self.clients.iter().filter(|client| client.connection.is_open()) {
            if let Some((user, n)) = &client.shows {
                list.entry(user.clone()).or_default().push(*n);
            }
        }
        list.values_mut().for_each(|shown| shown.sort_unstable());
        list
    }

    /// What the server says who is here.
    async fn listed(&self) -> List {
        serde_json::from_str(&self.room.get("").await.unwrap()).unwrap()
    }

    fn hear(&mut self) {
        for client in &mut self.clients {
            client.connection.received().iter().for_each(|message| client.list.hear(message));
        }
    }
}

fn world() -> World<Lounge> {
    World { room: TestRoom::new(), clients: Vec::new() }
}

/// `PRESENCE_TRACES=10000` for a longer run.
fn traces() -> ProptestConfig {
    let traces = std::env::var("PRESENCE_TRACES").ok().and_then(|it| it.parse().ok());
    ProptestConfig { max_shrink_iters: 10_000, ..ProptestConfig::with_cases(traces.unwrap_or(200)) }
}

proptest! {
    #![proptest_config(traces())]

    /// After each step the list is that of the sockets. When time has passed, it is that of each client.
    #[test]
    fn the_list_equals_the_sockets(acts in proptest::collection::vec(act(), 1..40)) {
        block_on(async {
            let mut world = world();
            for act in &acts {
                world.act(act).await;
                prop_assert_eq!(world.listed().await, world.here(), "after {:?}", act);
            }
            world.room.advance(A_WHILE).await;
            world.hear();
            let here = world.here();
            for client in world.clients.iter().filter(|client| client.connection.is_open()) {
                prop_assert_eq!(&client.list.list(), &here, "{}", client.connection.id());
            }
            Ok(())
        })?;
    }
}

/// The same check finds a list that is kept in a field.
#[test]
fn a_list_in_a_field_is_found_out() {
    block_on(async {
        let mut world = World { room: TestRoom::<Forgetful>::new(), clients: Vec::new() };
        world.act(&Act::Connect { user: 1, then: "" }).await;
        assert_eq!(world.listed().await, world.here());
        world.act(&Act::Sleep).await;
        assert_ne!(world.listed().await, world.here());
    });
}

/// A hundred clients that move twenty times a second, for a second.
#[test]
fn many_updates_are_few_frames() {
    block_on(async {
        let mut world = world();
        for n in 0..100 {
            world.connect(&format!("user {n}"), "").await;
        }
        world.room.advance(A_WHILE).await;
        world.hear();
        let mut frames = 0;
        for n in 1..=20 {
            for client in &world.clients {
                client.connection.send(json!({ "n": n }).to_string()).await;
            }
            world.room.advance(Duration::from_millis(50)).await;
            for client in &mut world.clients {
                for message in client.connection.received() {
                    frames += 1;
                    client.list.hear(&message);
                }
            }
        }
        assert!(frames <= 2_100, "{frames} frames");
        let last: List = (0..100).map(|n| (format!("user {n}"), vec![20])).collect();
        assert!(world.clients.iter().all(|client| client.list.list() == last));
    });
}

/// Fifty that come at once hear the list once each, and those who were there one diff.
#[test]
fn many_joins_are_few_frames() {
    block_on(async {
        let mut world = world();
        world.connect("first", "").await;
        world.room.advance(A_WHILE).await;
        assert_eq!(world.clients[0].connection.received().len(), 1);
        for n in 0..50 {
            world.connect(&format!("user {n}"), "").await;
        }
        world.room.advance(A_WHILE).await;
        let frames = world.clients.iter().map(|client| client.connection.received().len());
        assert_eq!(frames.sum::<usize>(), 51);
    });
}

#[test]
fn what_phoenix_reads() {
    block_on(async {
        let mut world = world();
        world.connect("ada", "").await;
        world.room.advance(A_WHILE).await;
        world.connect("ada", "").await;
        world.room.advance(A_WHILE).await;
        let ada = world.clients[0].connection.received();
        let [state, diff] = &ada[..] else { panic!("{ada:?}") };
        let state: Value = state.json().unwrap();
        let metas = &state["presence_state"]["ada"]["metas"];
        let first = metas[0]["phx_ref"].as_str().unwrap();
        assert_eq!(*metas, json!([{ "n": 0, "phx_ref": first }]));
        let diff: Value = diff.json().unwrap();
        let second = diff["presence_diff"]["joins"]["ada"]["metas"][0]["phx_ref"].clone();
        assert_ne!(second, first);
        let joins = json!({ "ada": { "metas": [{ "n": 0, "phx_ref": second }] } });
        assert_eq!(diff, json!({ "presence_diff": { "joins": joins, "leaves": {} } }));
        world.clients[0].connection.send(json!({ "n": 7 }).to_string()).await;
        world.clients[0].connection.close(1000, "").await.unwrap();
        world.room.advance(A_WHILE).await;
        let said = world.clients[1].connection.received();
        let diff: Value = said[1].json().unwrap();
        let leaves = json!({ "ada": { "metas": [{ "n": 7, "phx_ref": first }] } });
        assert_eq!(diff, json!({ "presence_diff": { "joins": {}, "leaves": leaves } }));
        assert_eq!(said.len(), 2);
    });
}

#[test]
fn one_that_watches_hears_and_is_not_listed() {
    block_on(async {
        let mut world = world();
        world.connect("", "").await;
        world.connect("ada", "").await;
        world.room.advance(A_WHILE).await;
        world.hear();
        let ada = List::from([("ada".to_owned(), vec![0])]);
        assert_eq!(world.listed().await, ada);
        assert_eq!(world.clients[0].list.list(), ada);
        let watcher = world.clients[0].connection.connection();
        assert!(matches!(Presence::new().meta::<Meta>(watcher), Ok(None)));
    });
}

/// Names that would end a string, and metas that have a ref of their own.
#[test]
fn names_and_metas_cannot_break_out() {
    #[derive(Default)]
    struct Open(Presence);

    impl Server for Open {
        async fn on_message(
            &mut self,
            room: &Room,
            sender: &Connection,
            message: Message,
        ) -> Result {
            let user = "\"},\"x\":{\"\u{0}\n\u{2028}";
            Ok(self.0.join(room, sender, user, &message.json::<Value>()?)?)
        }

        async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
            Ok(self.0.tick(room, &result)?)
        }
    }

    block_on(async {
        let room = TestRoom::<Open>::new();
        let ada = room.connect("ada").await;
        for meta in ["{}", "{\"phx_ref\":\"mine\",\"a\":\"}\"}"] {
            ada.send(meta).await;
            room.advance(A_WHILE).await;
            let frames = ada.received();
            let state: Value = frames[0].json().unwrap();
            let users = state["presence_state"].as_object().unwrap();
            assert_eq!(users.len(), 1);
            let meta = &users.values().next().unwrap()["metas"][0];
            assert_eq!(meta["phx_ref"].as_str().unwrap().len(), 18);
        }
        ada.send("[1]").await;
        let [error] = &room.errors()[..] else { panic!("one error") };
        assert!(error.ends_with(&PresenceError::NoObject.to_string()), "{error}");
    });
}

/// One that has logged out and stayed hears of those who leave later, also if the handler of that fails.
#[test]
fn one_that_has_logged_out_goes_on_watching() {
    block_on(async {
        for code in [1000, 4001] {
            let mut world = world();
            world.connect("ada", "").await;
            world.connect("bob", "").await;
            world.room.advance(A_WHILE).await;
            world.act(&Act::Leave { who: 0 }).await;
            world.room.advance(A_WHILE).await;
            world.hear();
            assert_eq!(world.clients[0].list.list(), List::from([("bob".to_owned(), vec![0])]));
            world.clients[1].connection.close(code, "").await.unwrap();
            world.room.advance(A_WHILE).await;
            world.hear();
            assert_eq!(world.clients[0].list.list(), List::new(), "{code}");
        }
    });
}

/// What a handler changes in which changes are told is told by the next.
#[test]
fn a_change_beside_a_tick_is_told() {
    #[derive(Default)]
    struct Counting(Presence);

    impl Server for Counting {
        async fn on_connect(&mut self, room: &Room, new: &Connection, _: &Request) -> Result {
            Ok(self.0.join(room, new, new.id(), &Meta { n: 0 })?)
        }

        async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
            self.0.tick(room, &result)?;
            for connection in room.connections() {
                let n = self.0.meta::<Meta>(&connection)?.map_or(0, |meta| meta.n);
                self.0.update(room, &connection, &Meta { n: (n + 1).min(3) })?;
            }
            Ok(())
        }
    }

    block_on(async {
        let room = TestRoom::<Counting>::new();
        let ada = room.connect("ada").await;
        room.advance(Duration::from_secs(1)).await;
        assert_eq!(ada.received().len(), 4);
    });
}

/// Long metas of many who leave at once do not fit into one slot: then it is told at once.
#[test]
fn many_that_leave_at_once_are_all_told() {
    block_on(async {
        let mut world = world();
        for n in 0..200 {
            world.connect(&format!("user {n} with a name that is rather long"), "").await;
        }
        world.room.advance(A_WHILE).await;
        for client in &world.clients[2..] {
            client.connection.close(1000, "").await.unwrap();
        }
        world.room.advance(A_WHILE).await;
        world.hear();
        assert_eq!(world.clients[0].list.list().len(), 2);
        assert_eq!(world.clients[1].list.list(), world.here());
    });
}

#[test]
fn sleep_does_not_show() {
    let steps = [
        Step::connect("a").query("user=ada"),
        Step::connect("b").query("user=bob"),
        Step::say("a", r#"{"n":1}"#),
        Step::connect("c").query("user=ada"),
        Step::vanish("a"),
        Step::get(""),
        Step::say("b", r#"{"n":2}"#),
        Step::close("c", 1000),
        Step::get(""),
    ];
    block_on(transparency(|| TestRoomBuilder::new(|_| Lounge::default()), &steps)).unwrap();
}
