use partykit::{
    Connection, Message, Options, Request, Response, ResponseExt, Result, Room, Server,
    http::StatusCode,
};
use serde_json::{Value, json};

use super::{
    Command, PROBE, SECRET,
    parties::{instance, order, yields},
};

/// Counts its starts in storage, and fails to start while the room of [`Probe`](crate::Probe) with the
/// same id has `false` stored under `open`.
///
/// To every event it answers with `instance` and the number of `starts`.
#[derive(Debug, Default)]
pub struct Starter {
    instance: String,
}

impl Server for Starter {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        let question = order(PROBE, room.id(), &Command::Get { key: "open".into() })?;
        let answer = room.party(PROBE).room(room.id()).request(question).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the switch answers {}", answer.status()).into());
        }
        let answer: Value = serde_json::from_slice(answer.body().bytes().map_or(&[], |it| it))?;
        let starts = room.storage().get::<u32>("starts").await?.unwrap_or(0);
        room.storage().put("starts", &(starts + 1))?;
        if answer["value"] == false {
            return Err(SECRET.into());
        }
        yields(50).await;
        self.instance = instance(room);
        Ok(())
    }

    async fn on_connect(&mut self, room: &Room, connection: &Connection, _: &Request) -> Result {
        connection.send_json(&self.answer(room).await?)?;
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, _: Message) -> Result {
        sender.send_json(&self.answer(room).await?)?;
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        Ok(Response::json(&self.answer(room).await?)?)
    }
}

impl Starter {
    async fn answer(&self, room: &Room) -> Result<Value> {
        let starts = room.storage().get::<u32>("starts").await?;
        Ok(json!({ "instance": self.instance, "starts": starts }))
    }
}
