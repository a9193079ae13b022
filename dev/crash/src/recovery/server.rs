use std::io;

use partykit::{
    Connection, Message, Options, Request, Result, Room, Runtime, Server,
    history::{History, Resumed},
};
use tracing_subscriber::filter::LevelFilter;

use super::{PARTY, client::Told};
use crate::desk::{self, Question};

/// More than is published.
const HISTORY: History = History::new().keep(10_000_000).keep_bytes(1 << 30);

/// Numbers, in a history.
struct Log {
    /// The control: nothing is stored, and one that comes back hears what this instance remembers.
    forgets: bool,
    remembered: Vec<u64>,
}

impl Server for Log {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
        if self.forgets {
            let since = new.query("since").and_then(|since| since.parse::<u64>().ok());
            let since = since.unwrap_or(u64::MAX);
            for number in self.remembered.iter().filter(|number| **number > since) {
                new.send_json(&Told::Said { at: number.to_string(), number: *number })?;
            }
            return Ok(new.send_json(&Told::Fresh)?);
        }
        match HISTORY.resume(room, new, request).await? {
            Resumed::Caught(_) => {}
            Resumed::Fresh => new.send_json(&Told::Fresh)?,
            Resumed::Gap => new.send_json(&Told::Gap)?,
        }
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
        let number: u64 = message.json()?;
        let last: u64 = room.storage().get("last").await?.unwrap_or(0);
        if number != last + 1 {
            // It is said again, and was stored.
            return Ok(());
        }
        room.storage().put("last", &number)?;
        if self.forgets {
            self.remembered.push(number);
            room.broadcast_json(&Told::Said { at: number.to_string(), number })?.send();
        } else {
            let said = HISTORY.publish(room);
            said.send_json(|at| Told::Said { at: at.to_string(), number }).await?;
        }
        Ok(())
    }
}

/// Serves until it is killed: `log DIRECTORY [--forgets]`. The first line that it prints is the address.
///
/// # Errors
///
/// When it cannot listen, or the store cannot be opened.
pub async fn logs(arguments: &[String]) -> Result {
    let data = arguments.first().ok_or("log DIRECTORY [--forgets]")?;
    let forgets = arguments.iter().any(|it| it == "--forgets");
    tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_writer(io::stderr).init();
    let builder = Runtime::builder()
        .party_with(PARTY, move |_| Log { forgets, remembered: Vec::new() })
        .backend(desk::open(data, None)?);
    desk::serve(builder, answer).await
}

/// `/sleep`, with a room: `true` when it sleeps.
async fn answer(asked: Question) -> Result<String> {
    let room: String = asked.about()?;
    Ok(asked.handle.evict(PARTY, &room).await.is_ok().to_string())
}
