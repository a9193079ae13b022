//! The process that is killed, and what it is asked.
//!
//! * `/set`, with `[[room, milliseconds], ..]`: sets the first alarm of each; answered with what is stored.
//! * `/stored`, with `[room, ..]`: what each of them has stored. This starts the rooms.
//! * `/alarms`, with `[room, ..]`: what is stored of their alarms, `[parked, deaths]` or `null`. This starts
//!   no room.
//! * `/pending`: how many rooms are to be woken.

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use partykit::{Result, Runtime, storage::Backend};
use tracing_subscriber::filter::LevelFilter;

use super::{
    BELL,
    bell::{Bell, Stored},
    witness,
};
use crate::{
    desk::{self, Question},
    process::Process,
    server::Fault,
};

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
    let store = desk::open(data, arguments.get(2))?;
    let builder = Runtime::builder().party::<Bell>(BELL).backend(store.clone());
    desk::serve(builder, move |asked| answer(store.clone(), asked)).await
}

async fn answer(store: Arc<dyn Backend>, asked: Question) -> Result<String> {
    match &asked.path[..] {
        "/set" => {
            let alarms: Vec<(String, u64)> = asked.about()?;
            let alarms = alarms.into_iter().map(|(room, at)| (room, at.to_string()));
            asked.ask_rooms::<Stored>(BELL, alarms).await
        }
        "/stored" => {
            let rooms: Vec<String> = asked.about()?;
            let rooms = rooms.into_iter().map(|room| (room, String::new()));
            asked.ask_rooms::<Stored>(BELL, rooms).await
        }
        "/alarms" => {
            let mut alarms = Vec::new();
            for room in asked.about::<Vec<String>>()? {
                let alarm = asked.handle.alarm(BELL, &room).await?;
                alarms.push(alarm.map(|alarm| (alarm.rings.is_none(), alarm.deaths)));
            }
            Ok(serde_json::to_string(&alarms)?)
        }
        "/pending" => Ok(store.wake_ups(None, usize::MAX >> 1).await?.len().to_string()),
        _ => Err(asked.unknown()),
    }
}
