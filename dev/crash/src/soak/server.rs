//! The process that is killed, and what it is asked.
//!
//! * `/set`, with `[[room, milliseconds], ..]`: sets the first alarm of each; answered when all are stored.
//! * `/stored`, with `[room, ..]`: what each of them has stored. This starts the rooms.
//! * `/alarms`, with `[room, ..]`: what is stored of their alarms, `[parked, deaths]` or `null`. This starts
//!   no room.
//! * `/pending`: how many rooms are to be woken.

use std::{
    env, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use partykit::{
    Body, Request, Response, Result, Runtime,
    http::StatusCode,
    server::Handle,
    storage::{Backend, DiskBackend, Durability},
};
use serde::Serialize;
use tokio::net::TcpListener;
use tracing_subscriber::filter::LevelFilter;

use super::{
    BELL,
    bell::{Bell, Stored},
    witness,
};
use crate::{
    process::Process,
    server::{Fault, Faulty},
};

/// How many rooms are asked at a time.
const AT_ONCE: usize = 64;

/// Where servers run, one after the other.
#[derive(Debug)]
pub(super) struct Stage {
    place: tempfile::TempDir,
    program: PathBuf,
    fault: Option<Fault>,
}

impl Stage {
    pub(super) fn new(fault: Option<Fault>) -> io::Result<Self> {
        Ok(Self { place: tempfile::tempdir()?, program: env::current_exe()?, fault })
    }

    /// What handlers said when they began.
    pub(super) fn witness(&self) -> PathBuf {
        self.place.path().join("witness")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.place.path().join("server.log")
    }

    /// Starts a server. The alarms of these rooms are parked before any rings.
    pub(super) fn start(&self, park: &[String]) -> io::Result<Process> {
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("bells").arg(self.place.path().join("data")).arg(self.witness());
        command.args(self.fault.map(|fault| fault.to_string()));
        let named: Vec<_> = park.iter().map(|room| format!("{BELL}/{room}")).collect();
        command.env("PARTYKIT_PARK_ALARMS", named.join(" "));
        Process::spawn(command, &self.log())
    }
}

/// Serves until it is killed, or a room ends the process: `bells DIRECTORY WITNESS [FAULT]`. The first line
/// that it prints is the address.
///
/// # Errors
///
/// When it cannot listen, or the store cannot be opened.
pub async fn bells(arguments: &[String]) -> Result {
    let (Some(data), Some(file)) = (arguments.first(), arguments.get(1)) else {
        return Err("bells DIRECTORY WITNESS [FAULT]".into());
    };
    tracing_subscriber::fmt().with_max_level(LevelFilter::ERROR).with_writer(io::stderr).init();
    witness::open(Path::new(file))?;
    let store = DiskBackend::open(data, Durability::Durable)?;
    let store: Arc<dyn Backend> = match arguments.get(2) {
        None => Arc::new(store),
        Some(fault) => Arc::new(Faulty::new(Arc::new(store), fault.parse()?)),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let desk = Arc::new(Desk { store: store.clone(), handle: OnceLock::new() });
    let asked = desk.clone();
    let runtime = Runtime::builder()
        .party::<Bell>(BELL)
        .backend(store)
        .fallback(move |request| asked.clone().answer(request))
        .build()?;
    desk.handle.get_or_init(|| runtime.handle());
    let mut out = io::stdout();
    writeln!(out, "{address}")?;
    out.flush()?;
    runtime.serve_on(listener).await;
    Ok(())
}

struct Desk {
    store: Arc<dyn Backend>,
    handle: OnceLock<Handle>,
}

impl Desk {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        self.say(request).await.unwrap_or_else(|error| {
            let mut response = Response::new(error.to_string().into());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
    }

    async fn say(&self, request: Request) -> Result<Response> {
        let handle = self.handle.get().ok_or("it starts")?;
        let path = request.uri().path().to_owned();
        let body = request.body().bytes().map_or(&[][..], |bytes| bytes);
        match &path[..] {
            "/set" => {
                let alarms: Vec<(String, u64)> = serde_json::from_slice(body)?;
                let all = stream::iter(alarms)
                    .map(|(room, at)| async move { ask(handle, &room, at.to_string()).await });
                json(&all.buffered(AT_ONCE).try_collect::<Vec<_>>().await?.len())
            }
            "/stored" => {
                let rooms: Vec<String> = serde_json::from_slice(body)?;
                let all = stream::iter(rooms)
                    .map(|room| async move { ask(handle, &room, String::new()).await });
                json(&all.buffered(AT_ONCE).try_collect::<Vec<_>>().await?)
            }
            "/alarms" => {
                let rooms: Vec<String> = serde_json::from_slice(body)?;
                let mut alarms = Vec::new();
                for room in rooms {
                    let alarm = handle.alarm(BELL, &room).await?;
                    alarms.push(alarm.map(|alarm| (alarm.rings.is_none(), alarm.deaths)));
                }
                json(&alarms)
            }
            "/pending" => json(&self.store.wake_ups(None, usize::MAX >> 1).await?.len()),
            _ => Err(format!("nothing is at {path}").into()),
        }
    }
}

async fn ask(handle: &Handle, room: &str, body: String) -> Result<Stored> {
    let answer = handle.request(BELL, room, Request::new(Body::from(body))).await?;
    Ok(serde_json::from_slice(answer.body().bytes().map_or(&[][..], |bytes| bytes))?)
}

fn json(said: &impl Serialize) -> Result<Response> {
    Ok(Response::new(serde_json::to_string(said)?.into()))
}
