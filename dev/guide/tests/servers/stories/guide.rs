use partykit::{
    Response,
    http::Method,
    testing::{Step, TestRoomBuilder},
    yjs::Yjs,
};
use partykit_guide::{
    alarms, calls, deploying, embedding, factories, first_room, from_partykit, hibernation,
    history, json_api, presence, prometheus, schedules, state, storage, tags, tasks, testing,
    tokens, yjs,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    a_talk,
    examples::{a_document, names},
    story,
};
use crate::Story;

story!(first_room::Relay, a_talk());
story!(hibernation::Relay, hibernation::Relay, a_talk());
story!(deploying::Relay, a_talk());
story!(embedding::Relay, a_talk());
story!(prometheus::Relay, a_talk());
story!(
    history::Chat,
    [
        Step::connect("ada"),
        Step::say("ada", "hi"),
        Step::connect("bob"),
        Step::say("bob", vec![0xFF]).may_fail(),
        Step::vanish("bob"),
        Step::say("ada", "ha"),
        Step::connect("bob").query("since=00000000-1"),
    ]
);
story!(presence::Lounge, names());
story!(first_room::Counter, first_room::Counter, a_talk());
story!(storage::Counter, storage::Counter, a_talk());
story!(testing::Counter, a_talk());
story!(tasks::Assistant, a_talk());
story!(
    factories::Chat,
    factories::Chat { pool: factories::Pool("a pool".into()), is_public: true },
    a_talk()
);

story!(
    hibernation::Clicks,
    [
        Step::connect("ada"),
        Step::connect("bob"),
        Step::say("ada", "1"),
        Step::say("bob", "2"),
        Step::say("bob", "{").may_fail(),
        Step::close("ada", 1000),
        Step::connect("eve"),
        Step::say("eve", "3"),
    ]
);

story!(
    presence::Lounge2,
    [
        Step::connect("1").query("name=Ada"),
        Step::connect("2").query("name=Ada"),
        Step::connect("3"),
        Step::say("1", r#"{"is_typing": true}"#),
        Step::say("2", "{").may_fail(),
        Step::advance(Duration::from_millis(50)),
        Step::close("1", 1000),
        Step::vanish("3"),
        Step::connect("4").query("name=Bob"),
    ]
);

story!(
    alarms::Auction,
    [
        Step::connect("ada"),
        Step::connect("bob"),
        Step::say("ada", "5"),
        Step::say("bob", "five").may_fail(),
        Step::advance(Duration::from_secs(9)),
        Step::say("bob", "6"),
        Step::say("ada", "6"),
        Step::advance(Duration::from_secs(10)),
        Step::say("ada", "7"),
    ]
);

impl Story for calls::Chat {
    type Room = Self;

    fn rooms() -> TestRoomBuilder<Self> {
        TestRoomBuilder::new(|_| Self).callee(|_, _, _| Ok(Response::new("7".into())))
    }

    fn steps() -> Vec<Step> {
        let mut steps = Vec::from(a_talk());
        steps.extend([Step::say("eve", "/count"), Step::say("eve", "bye")]);
        steps
    }
}

story!(calls::Statistics, [Step::get(""), Step::post("", "one more"), Step::get("")]);

impl Story for factories::Members {
    type Room = Self;

    const QUERY: &str = "token=s3cret";

    fn rooms() -> TestRoomBuilder<Self> {
        let users = HashMap::from([("s3cret".to_owned(), "Ada".to_owned())]);
        TestRoomBuilder::new(|_| Self).state(factories::Users(users))
    }

    fn steps() -> Vec<Step> {
        vec![Step::connect("ada").query(Self::QUERY), Step::connect("eve").may_fail()]
    }
}

impl Story for tokens::Members {
    type Room = Self;

    const QUERY: &str = "token=t0ken";

    fn rooms() -> TestRoomBuilder<Self> {
        let database = rusqlite::Connection::open_in_memory().expect("a database");
        let rows = "CREATE TABLE tokens (token TEXT, user TEXT, expires INTEGER);
            INSERT INTO tokens VALUES ('t0ken', 'Ada', unixepoch() + 3600)";
        database.execute_batch(rows).expect("a row");
        TestRoomBuilder::new(|_| Self).state(tokens::Tokens(Arc::new(Mutex::new(database))))
    }

    fn steps() -> Vec<Step> {
        vec![
            Step::connect("ada").query(Self::QUERY),
            Step::connect("eve").query("token=guessed").may_fail(),
            Step::say("ada", "I was here"),
            Step::say("ada", vec![0xFF]).may_fail(),
            Step::get("?token=t0ken"),
        ]
    }
}

impl Story for first_room::Private {
    type Room = Self;

    const QUERY: &str = "token=s3cret";

    fn rooms() -> TestRoomBuilder<Self> {
        TestRoomBuilder::new(|_| Self).var("TOKEN", "s3cret")
    }

    fn steps() -> Vec<Step> {
        vec![Step::connect("ada").query(Self::QUERY), Step::connect("eve").may_fail()]
    }
}

impl Story for state::Office {
    type Room = Self;

    const QUERY: &str = "token=s3cret";

    fn rooms() -> TestRoomBuilder<Self> {
        TestRoomBuilder::new(|_| Self).var("ADMIN_TOKEN", "s3cret")
    }

    fn steps() -> Vec<Step> {
        let with = |id, query| Step::connect(id).query(query);
        vec![with("ada", Self::QUERY), with("bob", "token=x"), Step::connect("eve").may_fail()]
    }
}

story!(
    state::Quiz,
    state::Quiz,
    [
        Step::connect("ada"),
        Step::connect("bob"),
        Step::say("ada", "42"),
        Step::say("bob", "41"),
        Step::say("ada", "42"),
        Step::connect("ada"),
        Step::say("ada", "42"),
    ]
);

story!(
    from_partykit::Chat,
    [
        Step::connect("ada").query("name=Ada"),
        Step::connect("bob"),
        Step::say("ada", "hello"),
        Step::say("bob", "hello yourself"),
        Step::say("bob", vec![0xFF]),
        Step::vanish("ada"),
        Step::connect("eve").query("name=Eve"),
        Step::say("eve", "who is here?"),
    ]
);

impl Story for json_api::Poll {
    type Room = Self;

    const PATHS: &[&str] = &["", "/vote"];

    fn rooms() -> TestRoomBuilder<Self> {
        TestRoomBuilder::new(|_| Self)
    }

    fn steps() -> Vec<Step> {
        let question = r#"{"text": "Tea?", "answers": ["yes", "no"]}"#;
        vec![
            Step::connect("ada"),
            Step::get(""),
            Step::request(Method::PUT, "", question),
            Step::request(Method::PUT, "", r#"{"text": "Tea?", "answers": []}"#).may_fail(),
            Step::post("/vote", r#"{"answer": 1}"#),
            Step::post("/vote", r#"{"answer": 1}"#),
            Step::post("/vote", "{").may_fail(),
            Step::get(""),
        ]
    }
}

story!(
    storage::Board,
    storage::Board,
    [
        Step::connect("ada"),
        Step::connect("bob"),
        Step::say("ada", r#"{"id": "1", "text": "milk"}"#),
        Step::say("bob", r#"{"text": "milk"}"#).may_fail(),
        Step::say("bob", r#"{"id": "1", "text": "bread"}"#),
    ]
);

story!(
    storage::Shop,
    storage::Shop,
    [Step::connect("ada"), Step::say("ada", "one, please"), Step::say("ada", "another")]
);

story!(
    tags::Game,
    [
        Step::connect("ada").query("team=red"),
        Step::connect("bob"),
        Step::connect("cleo").query("team=red"),
        Step::say("ada", "to the left"),
        Step::say("bob", "to the right"),
        Step::vanish("ada"),
        Step::connect("eve"),
    ]
);

impl Story for testing::Chat {
    type Room = Self;

    const QUERY: &str = "token=t0ken";

    fn rooms() -> TestRoomBuilder<Self> {
        let tokens = testing::Tokens::from([("t0ken".into(), "Ada".into())]);
        TestRoomBuilder::new(|_| Self).state(tokens)
    }

    fn steps() -> Vec<Step> {
        vec![
            Step::connect("1").query(Self::QUERY),
            Step::connect("2").query("token=guessed").may_fail(),
            Step::connect("3").may_fail(),
            Step::connect("4").query(Self::QUERY),
            Step::vanish("1"),
            Step::connect("5").query(Self::QUERY),
        ]
    }
}

story!(
    testing::Egg,
    [Step::get(""), Step::advance(Duration::from_secs(239)), Step::advance(Duration::from_secs(1))]
);

impl Story for testing::Forgetful {
    type Room = Self;

    const FORGETS: bool = true;

    fn rooms() -> TestRoomBuilder<Self> {
        TestRoomBuilder::new(|_| Self::default())
    }

    fn steps() -> Vec<Step> {
        Vec::from(a_talk())
    }
}

impl Story for yjs::Notes {
    type Room = Yjs<Self>;

    const QUERY: &str = "token=x";

    fn rooms() -> TestRoomBuilder<Self::Room> {
        TestRoomBuilder::new(|_| Yjs::default())
    }

    fn steps() -> Vec<Step> {
        let mut steps = vec![Step::get("")];
        steps.extend(a_document("text"));
        steps.push(Step::advance(Duration::from_secs(2)));
        steps
    }
}

story!(
    schedules::Poll,
    [
        Step::connect("ada"),
        Step::connect("bob"),
        Step::say("ada", "yes"),
        Step::say("bob", "").may_fail(),
        Step::advance(Duration::from_secs(61)),
        Step::say("bob", "no"),
        Step::vanish("ada"),
        Step::advance(Duration::from_secs(600)),
        Step::say("bob", "yes"),
    ]
);
