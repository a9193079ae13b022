use partykit::{Close, Connection, Options, OrReject, Request, RequestExt, Result, Room, Server};
use std::collections::BTreeSet;

/// Tells all clients who is here. Several tabs of one person count once.
#[derive(Debug, Default)]
pub struct Presence;

impl Server for Presence {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
        let name = request.query("name").unwrap_or_else(|| "guest".to_owned());
        new.set_state(&name).or_reject("this name is too long")?;
        announce(room)
    }

    async fn on_close(&mut self, room: &Room, _: &Connection, _: Close) -> Result {
        announce(room)
    }
}

fn announce(room: &Room) -> Result {
    let names: BTreeSet<String> = room.states()?.into_iter().collect();
    room.broadcast_json(&names)?.send();
    Ok(())
}
