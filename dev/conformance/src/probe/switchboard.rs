use std::time::Duration;

use partykit::{
    Alarm, Close, Connection, Message, Options, Request, Response, Result, Room, Server,
};
use serde_json::{Value, json};

/// Tells everybody how many are here, whenever that changes, and passes on what anybody says.
///
/// To `who` it answers with what it knows: `count`, `connections` (their ids) and `events`, how many
/// this instance has seen. `alarm` sets the alarm, in two seconds, and so does `alarm in an hour`. To
/// `heartbeat` the runtime answers.
#[derive(Debug, Default)]
pub struct Switchboard {
    events: u32,
}

impl Server for Switchboard {
    fn options() -> Options {
        Options::new().hibernate(true).auto_response("heartbeat", "alive")
    }

    async fn on_connect(&mut self, room: &Room, _: &Connection, _: &Request) -> Result {
        self.events += 1;
        announce(room)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        // Numbers of the kinds that a log has to write itself.
        tracing::info!(float = 0.25, least = i128::MIN, most = u128::MAX, "a message is handled");
        self.events += 1;
        let within = match message.as_text() {
            Some("who") => {
                sender.send_json(&self.who(room))?;
                return Ok(());
            }
            Some("alarm") => Duration::from_secs(2),
            Some("alarm in an hour") => Duration::from_secs(3600),
            _ => {
                room.broadcast(message).send();
                return Ok(());
            }
        };
        room.storage().set_alarm(room.now() + within)?;
        sender.send("the alarm is set");
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, _: &Connection, _: Close) -> Result {
        self.events += 1;
        announce(room)
    }

    async fn on_alarm(&mut self, room: &Room, _: Alarm) -> Result {
        self.events += 1;
        let events = self.events;
        room.broadcast_json(&json!({ "alarm": events }))?.send();
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        self.events += 1;
        Ok(Response::new(self.who(room).to_string().into()))
    }
}

impl Switchboard {
    fn who(&self, room: &Room) -> Value {
        let ids: Vec<_> = room.connections().map(|it| it.id().to_owned()).collect();
        json!({ "count": room.count(), "connections": ids, "events": self.events })
    }
}

fn announce(room: &Room) -> Result {
    let count = room.count();
    let mode = if count > 1 { "multi" } else { "solo" };
    room.broadcast_json(&json!({ "count": count, "mode": mode }))?.send();
    Ok(())
}
