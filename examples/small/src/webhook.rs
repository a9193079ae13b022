use partykit::{Options, Request, RequestExt, Response, ResponseExt, Result, Room, Server};
use serde::{Deserialize, Serialize};

/// Passes what another service posts on to all who are here, and answers how many that are.
#[derive(Debug, Default)]
pub struct Webhook;

#[derive(Serialize, Deserialize)]
struct Push {
    repository: String,
    commits: u32,
}

#[derive(Serialize)]
struct Delivered {
    to: usize,
}

impl Server for Webhook {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let push: Push = request.json()?;
        room.broadcast_json(&push)?.send();
        Ok(Response::json(&Delivered { to: room.count() })?)
    }
}
