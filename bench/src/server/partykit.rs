//! A party that echoes and broadcasts, with questions for what only the server can see.

use std::sync::atomic::{AtomicU64, Ordering};

use partykit::{Connection, Message, Options, Result, Room, RoomPhase, Runtime, Server};
use tokio::net::TcpListener;

use super::talk;
use crate::protocol::{ANSWER, BROADCAST, ECHO};

/// How often `on_start` has run, in all rooms.
static STARTS: AtomicU64 = AtomicU64::new(0);

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
            None if question == "starts" => STARTS.load(Ordering::SeqCst).to_string(),
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

#[derive(Debug, Default)]
struct Talk;

impl Server for Talk {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, _: &Room) -> Result {
        STARTS.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let Some(text) = message.as_text() else { return Ok(()) };
        match text.as_bytes().first() {
            Some(&ECHO) => {
                let mut answer = String::with_capacity(text.len());
                answer.push(char::from(ANSWER));
                answer.push_str(&text[1..]);
                sender.send(answer);
            }
            Some(&BROADCAST) => room.broadcast(message).except(sender).send(),
            _ => {}
        }
        Ok(())
    }
}
