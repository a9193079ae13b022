use partykit::{
    Connection, List, Message, Options, OrReject, Request, RequestExt, Result, Room, Server,
};
use serde::{Deserialize, Serialize};

/// A chat. Who comes gets the last 100 lines, the oldest first.
#[derive(Debug, Default)]
pub struct Chat;

#[derive(Deserialize)]
struct Said {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    text: String,
}

impl Server for Chat {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
        new.set_state(&request.query("name")).or_reject("this name is too long")?;
        let latest = List::new().prefix("line:").reverse().limit(100);
        let lines = room.storage().list::<Line>(latest).await?.into_iter().rev();
        new.send_json(&lines.map(|(_, line)| line).collect::<Vec<_>>())?;
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let Said { text } = message.json()?;
        let line = Line { name: sender.state()?.unwrap_or_default(), text };
        room.storage().append("line:", &line).await?;
        room.broadcast_json(&line)?.send();
        Ok(())
    }
}
