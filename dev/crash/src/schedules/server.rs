//! The process that is killed: rooms with ten schedules each, and what it is asked.
//!
//! * `/set`, with `[[room, milliseconds, seed], ..]`: sets the schedules of each.
//! * `/stored`, with `[room, ..]`: what each of them has stored.
//! * `/once`, with `[room, ..]`: how many schedules that run once are left. This starts no room.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use partykit::{
    List, Options, Request, Response, Result, Room, RoomAddress, RoomId, Run, Runtime, Server,
    Timestamp, When, runtime::read_schedules, storage::Backend,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing_subscriber::filter::LevelFilter;

use crate::desk::{self, Question};

/// The party.
const PARTY: &str = "timetable";

/// How many schedules a room has.
pub(super) const SCHEDULES: usize = 10;

/// How many of them run again and again.
pub(super) const REPEATING: usize = 6;

/// For how long a room is quiet before it sleeps.
const QUIET: Duration = Duration::from_millis(300);

/// A run that has succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ran {
    pub(super) scheduled: u64,
    pub(super) missed: u32,
    /// When its handler began.
    pub(super) began: u64,
    pub(super) retries: u32,
    pub(super) deaths: u32,
}

/// A schedule that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) name: String,
    pub(super) next: Option<u64>,
    pub(super) retries: u32,
    pub(super) deaths: u32,
}

/// Everything that a room has stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// When each schedule was to run first.
    pub(super) first: BTreeMap<String, u64>,
    /// What has run, in the order in which it did.
    pub(super) ran: BTreeMap<String, Vec<Ran>>,
    pub(super) left: Vec<Left>,
    /// A handler that failed has stored something.
    pub(super) stray: bool,
}

/// What is to be set.
#[derive(Serialize, Deserialize)]
struct Plan {
    /// When what runs once does so, or later.
    at: u64,
    seed: u64,
}

/// How long a schedule takes from one run to the next, in milliseconds. `None` if it runs once.
pub(super) fn period(name: &str) -> Option<u64> {
    name.strip_prefix("every-").and_then(|rest| rest.split('-').next()?.parse().ok())
}

/// The room.
#[derive(Debug, Default)]
struct Timetable;

impl Server for Timetable {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(QUIET)
    }

    /// Sets what repeats, as a server does at each start.
    async fn on_start(&mut self, room: &Room) -> Result {
        let Some(plan) = room.storage().get::<Plan>("plan").await? else { return Ok(()) };
        set(room, &plan).await
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let storage = room.storage();
        let body = request.body().bytes().map_or(&[][..], |bytes| bytes);
        if !body.is_empty() {
            let plan: Plan = serde_json::from_slice(body)?;
            set(room, &plan).await?;
            for number in 0..SCHEDULES - REPEATING {
                let at = Timestamp::from_millis(plan.at + 700 * number as u64);
                room.schedules().set(&format!("once-{number}"), When::At(at)).await?;
            }
            storage.put("plan", &plan)?;
            let all = room.schedules().list().await?;
            let first =
                all.into_iter().map(|it| (it.name, it.next.map_or(0, Timestamp::as_millis)));
            storage.put("first", &first.collect::<BTreeMap<_, _>>())?;
        }
        let ran = storage.list::<Vec<Ran>>(List::new().prefix("ran:")).await?;
        let left = room.schedules().list().await?.into_iter().map(|it| Left {
            name: it.name,
            next: it.next.map(Timestamp::as_millis),
            retries: it.retries,
            deaths: it.deaths,
        });
        let stored = Stored {
            first: storage.get("first").await?.unwrap_or_default(),
            ran: ran.into_iter().map(|(key, ran)| (key["ran:".len()..].to_owned(), ran)).collect(),
            left: left.collect(),
            stray: storage.get("stray").await?.unwrap_or(false),
        };
        Ok(Response::new(serde_json::to_string(&stored)?.into()))
    }

    async fn on_schedule(&mut self, room: &Room, run: Run) -> Result {
        let storage = room.storage();
        let (scheduled, began) = (run.scheduled.as_millis(), room.now().as_millis());
        let chance = u8::from_le_bytes(room.random());
        if chance < 8 {
            sleep(Duration::from_millis(200)).await;
        }
        if chance % 32 == 1 && run.retries == 0 {
            storage.put("stray", &true)?;
            return Err("it is to fail".into());
        }
        let key = format!("ran:{}", run.name);
        let mut ran: Vec<Ran> = storage.get(&key).await?.unwrap_or_default();
        let Run { missed, retries, deaths, .. } = run;
        ran.push(Ran { scheduled, missed, began, retries, deaths });
        storage.put(&key, &ran)?;
        Ok(())
    }
}

async fn set(room: &Room, plan: &Plan) -> Result {
    for number in 0..REPEATING as u64 {
        let millis = 5_000 + (plan.seed >> (8 * number) & 255) * 60;
        let name = format!("every-{millis}-{number}");
        room.schedules().set(&name, When::Every(Duration::from_millis(millis))).await?;
    }
    Ok(())
}

/// Serves until it is killed: `timetables DIRECTORY [FAULT]`. The first line that it prints is the address.
///
/// # Errors
///
/// When it cannot listen, or the store cannot be opened.
pub async fn timetables(arguments: &[String]) -> Result {
    let Some(data) = arguments.first() else { return Err("timetables DIRECTORY [FAULT]".into()) };
    tracing_subscriber::fmt().with_max_level(LevelFilter::OFF).with_writer(io::stderr).init();
    let store = desk::open(data, arguments.get(1))?;
    let builder = Runtime::builder().party::<Timetable>(PARTY).backend(store.clone());
    desk::serve(builder, move |asked| answer(store.clone(), asked)).await
}

async fn answer(store: Arc<dyn Backend>, asked: Question) -> Result<String> {
    match &asked.path[..] {
        "/set" => {
            let plans: Vec<(String, u64, u64)> = asked.about()?;
            let plans = plans.into_iter().map(|(room, at, seed)| (room, Plan { at, seed }));
            let texts = plans.map(|(room, plan)| Ok((room, serde_json::to_string(&plan)?)));
            let texts: Vec<_> = texts.collect::<Result<_>>()?;
            asked.ask_rooms::<Stored>(PARTY, texts).await
        }
        "/stored" => {
            let rooms: Vec<String> = asked.about()?;
            let rooms = rooms.into_iter().map(|room| (room, String::new()));
            asked.ask_rooms::<Stored>(PARTY, rooms).await
        }
        "/once" => {
            let mut left = 0;
            for room in asked.about::<Vec<String>>()? {
                let room = RoomAddress::new(PARTY, RoomId::new(room)?);
                let all = read_schedules(&*store, &room).await?;
                left += all.iter().filter(|schedule| period(&schedule.name).is_none()).count();
            }
            Ok(left.to_string())
        }
        _ => Err(asked.unknown()),
    }
}
