//! A server that is replaced while its clients talk: its rooms write on disk and answer with numbers.

use std::{fmt, path::Path, process};

use partykit::{Connection, Message, Options, Response, Result, Room, Runtime, Server};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt::{format::Writer, time::FormatTime},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::child::Process;

/// Has the server say what a hand-over does, each with the processor time of the process so far.
const LOG: &str = "PARTYKIT_BENCH_LOG";

/// As many as descriptors allow, few of which are files.
const PLACES: usize = 19_900;

/// Says each message `TO MEMBER ..` back as `MEMBER .. COUNT`, where the count, which it stores, is that of the
/// member's messages. `TO` is `all` of the room, or `me`.
#[derive(Default)]
struct Counter;

impl Server for Counter {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let words = message.as_text().and_then(|text| text.split_once(' '));
        let (to, rest) = words.ok_or("a message without words")?;
        let member = rest.split(' ').next().unwrap_or_default();
        let count: u64 = room.storage().get(member).await?.unwrap_or(0) + 1;
        room.storage().put(member, &count)?;
        let answer = format!("{rest} {count}");
        match to {
            "all" => room.broadcast(answer).send(),
            _ => sender.send(answer),
        }
        Ok(())
    }
}

/// Everything as it is by default, as a user would write it, but for the number of places. `GET /` answers which
/// process it is.
pub(crate) fn run(directory: &Path, port: u16) -> Result<()> {
    if std::env::var_os(LOG).is_some() {
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_timer(Worked);
        let of_hand_overs =
            Targets::new().with_target("partykit_runtime_tokio::handover", LevelFilter::DEBUG);
        tracing_subscriber::registry().with(log.with_filter(of_hand_overs)).init();
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(
        Runtime::builder()
            .party::<Counter>("main")
            .data(directory)
            .max_connections(PLACES)
            .fallback(async |_| Response::new(process::id().to_string().into()))
            .serve(("127.0.0.1", port)),
    )
}

/// The processor time of this process, and the time of the day in milliseconds.
struct Worked;

impl FormatTime for Worked {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        let worked = Process(process::id()).processor_time().map_err(|_| fmt::Error)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_millis() % 100_000);
        write!(line, "{} at {now} ms, worked {worked:?}", process::id())
    }
}
