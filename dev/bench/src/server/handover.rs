//! A server that is replaced while its clients talk: its rooms write on disk and answer with numbers.

use std::path::Path;

use partykit::{Connection, Message, Options, Response, Result, Room, Runtime, Server};

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
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(
        Runtime::builder()
            .party::<Counter>("main")
            .data(directory)
            .max_connections(PLACES)
            .fallback(async |_| Response::new(std::process::id().to_string().into()))
            .serve(("127.0.0.1", port)),
    )
}
