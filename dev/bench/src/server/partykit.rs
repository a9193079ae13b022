//! The party on Tokio, with questions for what only the server can see.

use bench_party::{Talk, starts};
use partykit::{Result, Runtime, stats::RoomPhase};
use tokio::net::TcpListener;

use super::talk;

/// Everything as it is by default, but for the sleep.
///
/// Questions: `starts`, how often `on_start` has run; `count ROOM`, its connections; `phase ROOM`,
/// `asleep` or `awake`; `evict ROOM` puts it to sleep and answers like `phase`.
pub(super) fn run() -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = tokio.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let builder = Runtime::builder().party::<Talk>("main").in_memory();
    let runtime = tokio.block_on(async { builder.build() })?;
    let (address, handle) = (listener.local_addr()?, runtime.handle());
    tokio.spawn(async move { runtime.serve_on(listener).await });
    talk(address, |question| {
        let stats = |room| handle.room_stats("main", room);
        let phase = |room| match stats(room).map(|stats| stats.phase) {
            None | Some(RoomPhase::Asleep) => "asleep".to_owned(),
            Some(_) => "awake".to_owned(),
        };
        match question.split_once(' ') {
            None if question == "starts" => starts().to_string(),
            Some(("count", room)) => stats(room).map_or(0, |stats| stats.connections).to_string(),
            Some(("phase", room)) => phase(room),
            Some(("evict", room)) => match tokio.block_on(handle.evict("main", room)) {
                Ok(()) => phase(room),
                Err(reasons) => format!("awake: {reasons:?}"),
            },
            _ => format!("unknown question {question}"),
        }
    })
}
