//! Sleep is invisible: a server that makes its fields again in `on_start` does the same whether its room
//! slept or not; and one that does not is found out.

use std::{collections::BTreeSet, time::Duration};

use futures_executor::block_on;
use partykit_core::{
    Admit, Close, Connection, Lobby, Message, OrReject, Reject, Request, RequestExt, Response,
    ResponseExt, Result, Room, Server,
    testing::{Step, TestRoomBuilder, transparency, transparency_random},
};
use proptest::prelude::*;

/// Caches in its fields what storage and connections say, and makes it again in `on_start`.
#[derive(Default)]
struct Tally {
    total: u32,
    here: BTreeSet<String>,
}

impl Tally {
    fn look_around(&mut self, room: &Room) {
        self.here = room.connections().map(|c| c.id().to_owned()).collect();
    }
}

impl Server for Tally {
    fn connection_tags(&mut self, _: &Room, id: &str, _: &Request) -> Result<Vec<String>> {
        Ok(vec![format!("{}-team", &id[..1])])
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.total = room.storage().get("total").await?.unwrap_or(0);
        self.look_around(room);
        Ok(())
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, _: &Request) -> Result {
        if new.id() == "b1" && self.total % 5 == 4 {
            return Err("not now".into());
        }
        self.look_around(room);
        new.send(format!("{} of {:?}", self.total, self.here));
        room.storage().put(&format!("seen:{}", new.id()), &self.total)?;
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let word = message.as_text().ok_or("text, please")?;
        if word == "fail" {
            return Err("as you wish".into());
        }
        self.total += 1;
        room.storage().put("total", &self.total)?;
        let said = sender.state::<u32>()?.unwrap_or(0) + 1;
        sender.set_state(&said)?;
        room.broadcast(format!("{said} of {} by {:?}", self.total, self.here)).tag("a-team").send();
        match word {
            "panic" => panic!("as you wish"),
            "undo" => return Err("as you wish".into()),
            "bye" => {
                sender.close(4000, "bye")?;
                self.look_around(room);
            }
            "task" => room.spawn("echo", async { 1_u32 }),
            _ => room.broadcast(message).except(sender).send(),
        }
        Ok(())
    }

    async fn on_task(&mut self, room: &Room, result: partykit_core::TaskResult) -> Result {
        self.total += result.value::<u32>()?;
        room.storage().put("total", &self.total)?;
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, gone: &Connection, close: Close) -> Result {
        self.look_around(room);
        room.broadcast(format!("{} went with {close}: {:?}", gone.id(), self.here)).send();
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        let stored: Option<u32> = room.storage().get("total").await?;
        let body = format!("{} {stored:?} {:?} {}", self.total, self.here, room.count());
        Ok(Response::new(body.into()))
    }
}

/// Keeps its count in a field and nowhere else.
#[derive(Default)]
struct Forgetful(u32);

impl Server for Forgetful {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new(self.0.to_string().into()))
    }

    async fn on_message(&mut self, _: &Room, _: &Connection, _: Message) -> Result {
        self.0 += 1;
        Ok(())
    }
}

/// Greets in `on_start`.
#[derive(Default)]
struct Talkative;

impl Server for Talkative {
    async fn on_start(&mut self, room: &Room) -> Result {
        room.broadcast("good morning").send();
        Ok(())
    }
}

/// Counts its starts in storage: nobody hears it, but it is there.
#[derive(Default)]
struct Diarist;

impl Server for Diarist {
    async fn on_start(&mut self, room: &Room) -> Result {
        let starts: u32 = room.storage().get("starts").await?.unwrap_or(0);
        room.storage().put("starts", &(starts + 1))?;
        Ok(())
    }
}

fn rooms<S: Server + Default>() -> TestRoomBuilder<S> {
    TestRoomBuilder::new(|_| S::default())
}

fn id() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a1", "a2", "b1"]).prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = Step> {
    let words = vec!["hello", "fail", "undo", "panic", "bye", "task"];
    prop_oneof![
        3 => id().prop_map(|id| Step::connect(&id)),
        6 => (id(), prop::sample::select(words)).prop_map(|(id, word)| Step::say(&id, word)),
        1 => id().prop_map(|id| Step::say(&id, vec![0xFF])),
        1 => (id(), prop::sample::select(vec![1000, 4321])).prop_map(|(id, code)| Step::close(&id, code)),
        1 => id().prop_map(|id| Step::vanish(&id)),
        2 => Just(Step::get("/total?x=1")),
        1 => (0..20_u64).prop_map(|seconds| Step::advance(Duration::from_secs(seconds))),
    ]
}

/// All three have connected before anything else happens.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..40).prop_map(|steps| {
        let known = ["a1", "a2", "b1"].map(Step::connect);
        known.into_iter().chain(steps).map(Step::may_fail).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nobody_can_tell_whether_a_correct_server_slept(steps in steps()) {
        block_on(transparency(rooms::<Tally>, &steps)).unwrap();
    }

    #[test]
    fn a_server_that_forgets_is_found_out_as_soon_as_somebody_asks(
        before in 1..5_usize,
        after in 0..5_usize,
    ) {
        let mut steps = vec![Step::connect("a1")];
        steps.extend((0..before).map(|_| Step::say("a1", "x")));
        steps.push(Step::get(""));
        steps.extend((0..after).map(|_| Step::get("")));
        let difference = block_on(transparency(rooms::<Forgetful>, &steps)).unwrap_err();
        prop_assert_eq!(difference.step, before + 1);
        let (awake, asleep) = (&difference.awake[0], &difference.asleep[0]);
        prop_assert_eq!(awake, &format!("200 OK Some(b\"{before}\")"));
        prop_assert_eq!(asleep, "200 OK Some(b\"0\")");
        let lines = [format!("- {awake}"), format!("+ {asleep}")];
        let shown = difference.to_string();
        prop_assert!(lines.iter().all(|line| shown.contains(line)), "{}", shown);
    }
}

#[test]
fn a_server_that_speaks_when_it_wakes_is_found_out() {
    let steps = [Step::connect("a1"), Step::get(""), Step::say("a1", "x")];
    let difference = block_on(transparency(rooms::<Talkative>, &steps)).unwrap_err();
    assert_eq!(difference.step, 1, "nobody was here to hear the first one");
    assert!(difference.asleep.iter().any(|line| line.contains("good morning")));
    assert!(!difference.awake.iter().any(|line| line.contains("good morning")));
}

#[test]
fn a_server_that_writes_when_it_wakes_is_found_out() {
    let steps = [Step::connect("a1"), Step::say("a1", "x")];
    let difference = block_on(transparency(rooms::<Diarist>, &steps)).unwrap_err();
    assert_eq!(difference.step, 1);
}

/// Lets nobody in.
#[derive(Default)]
struct Closed;

impl Server for Closed {
    async fn on_connect(&mut self, _: &Room, _: &Connection, _: &Request) -> Result {
        Err("the table is missing".into())
    }
}

/// Lets nobody in, before any room is there.
#[derive(Default)]
struct Guarded;

impl Server for Guarded {
    async fn on_before_connect(_: Request, _: &Lobby) -> Result<Admit> {
        Err(Reject::unauthorized("log in").into())
    }
}

/// Understands numbers, and fails at 7.
#[derive(Default)]
struct Numbers;

impl Server for Numbers {
    async fn on_message(&mut self, _: &Room, _: &Connection, message: Message) -> Result {
        match message.json::<u32>()? {
            7 => Err("seven".into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_step_that_did_not_happen_is_no_proof() {
    fn why<S: Server + Default>(steps: &[Step]) -> String {
        let found = block_on(transparency(rooms::<S>, steps)).unwrap_err();
        assert_eq!(found.step, steps.len() - 1);
        found.failed.unwrap()
    }
    let ada = Step::connect("ada");
    let closed = why::<Closed>(std::slice::from_ref(&ada));
    assert!(closed.starts_with("ada connects: closed with 1011"), "{closed}");
    assert!(closed.ends_with("on_connect failed: the table is missing"), "{closed}");
    let guarded = why::<Guarded>(std::slice::from_ref(&ada));
    assert_eq!(guarded, "ada connects: on_before_connect rejected: 401 Unauthorized, log in");
    let rejected = why::<Numbers>(&[ada.clone(), Step::say("ada", "1"), Step::say("ada", "{")]);
    assert_eq!(rejected, r#"ada says "{": the message was rejected"#);
    let failed = why::<Numbers>(&[ada.clone(), Step::say("ada", "7")]);
    assert_eq!(failed, r#"ada says "7": on_message failed: seven"#);
    let gone = why::<Numbers>(&[ada.clone(), Step::close("ada", 1000), Step::say("ada", "1")]);
    assert_eq!(gone, r#"ada says "1": the connection is closed"#);
    let junk = [ada, Step::say("ada", "{").may_fail(), Step::say("ada", "7").may_fail()];
    block_on(transparency(rooms::<Numbers>, &junk)).unwrap();
}

/// Says what it sees of its client.
#[derive(Default)]
struct Mirror;

impl Server for Mirror {
    async fn on_connect(&mut self, _: &Room, ada: &Connection, request: &Request) -> Result {
        let name = request.query("name").or_reject("who are you?")?;
        let lang = request.headers().get("accept-language").is_some();
        let props = request.props::<u32>()?;
        ada.send(format!("{name} {lang} {props:?}"));
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, request: Request) -> Result<Response> {
        Ok(Response::new(request.text()?.to_owned().into()))
    }
}

#[test]
fn steps_carry_query_headers_props_and_bodies() {
    let ada = Step::connect("ada").query("name=Ada").header("accept-language", "en");
    let steps = [ada.props(&7).unwrap(), Step::post("/x", "a body")];
    block_on(transparency(rooms::<Mirror>, &steps)).unwrap();
    let found = block_on(transparency(rooms::<Mirror>, &[Step::connect("ada")])).unwrap_err();
    assert!(found.failed.unwrap().contains("4400"));
}

/// Lets its count be seen in one place only, which a client chooses.
#[derive(Default)]
struct Leaky(u32);

impl Server for Leaky {
    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        self.0 += 1;
        let count = self.0.to_string();
        let other = room.party("other").room("room");
        let request = || Request::builder().uri(format!("/{count}")).body(count.clone().into());
        match message.text()? {
            "close" => sender.close(4000, count)?,
            "tell" => other.tell(request()?)?,
            "ask" => drop(other.request(request()?).await),
            _ => {}
        }
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, request: Request) -> Result<Response> {
        request.query("word").or_reject("say a word")?;
        self.0 += 1;
        Ok(Response::builder().header("x-count", self.0).body("".into())?)
    }
}

#[test]
fn everything_that_leaves_the_room_is_compared() {
    let ada = [Step::connect("ada"), Step::say("ada", "nothing")];
    for (last, difference) in [
        (Step::say("ada", "close"), r#"- ada is closed with 4000 "2""#),
        (Step::say("ada", "tell"), r#"- tells other/room: GET /2 Some(b"2")"#),
        (Step::say("ada", "ask"), r#"- asks other/room: GET /2 Some(b"2")"#),
        (Step::get("?word=hi"), r#"- with x-count: "2""#),
    ] {
        let steps = [&ada[..], &[last]].concat();
        let found = block_on(transparency(rooms::<Leaky>, &steps)).unwrap_err();
        assert_eq!((found.step, &found.failed), (2, &None));
        assert!(found.to_string().contains(difference), "{found}");
    }
}

#[test]
fn a_request_that_was_rejected_is_no_proof() {
    let found = block_on(transparency(rooms::<Leaky>, &[Step::get("")])).unwrap_err();
    assert_eq!(found.failed.as_deref(), Some(r#"GET "": rejected: 400 Bad Request"#));
    block_on(transparency(rooms::<Leaky>, &[Step::get("").may_fail()])).unwrap();
}

/// Forgets in its sleep how much of the password was said.
#[derive(Default)]
struct Door(usize);

impl Server for Door {
    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        let is_next = message.as_text() == ["open", "sesame", "now"].get(self.0).copied();
        self.0 = if is_next { self.0 + 1 } else { 0 };
        if self.0 == 3 {
            sender.send("the door opens");
        }
        Ok(())
    }
}

#[test]
fn random_stories_find_a_fault_behind_three_messages() {
    let words = ["open", "sesame", "now", "hello", "bye"];
    let mut alphabet = words.map(|word| Step::say("ada", word)).to_vec();
    alphabet.extend([Step::connect("ada"), Step::close("ada", 1000), Step::get("")]);
    for seed in 0..8 {
        let told = block_on(transparency_random(rooms::<Door>, &alphabet, seed, 2_000));
        let story = told.expect_err("the fault is found");
        let steps: Vec<String> = story.steps.iter().map(ToString::to_string).collect();
        let least = ["connects", r#"says "open""#, r#"says "sesame""#, r#"says "now""#];
        assert_eq!(steps, least.map(|what| format!("ada {what}")), "{story}");
        println!("seed {seed}: found in story {}", story.number);
    }
    let words =
        ["hello", "fail", "undo", "panic", "bye", "task"].map(|word| Step::say("ada", word));
    let alphabet = [&words[..], &[Step::connect("ada"), Step::vanish("ada")]].concat();
    block_on(transparency_random(rooms::<Tally>, &alphabet, 1, 50)).unwrap();
}
