use partykit::{
    Alarm, Connection, Message, Options, OrReject, Reject, Request, RequestExt, Response,
    ResponseExt, Result, Room, Server, http::StatusCode,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A poll that ends by itself, also after every client has left.
#[derive(Debug, Default)]
pub struct Poll;

#[derive(Deserialize)]
struct Question {
    text: String,
    answers: Vec<String>,
    seconds: u32,
}

#[derive(Serialize, Deserialize)]
struct Standing {
    text: String,
    answers: Vec<String>,
    votes: Vec<u64>,
    open: bool,
}

impl Server for Poll {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    /// `{"text": "Tea?", "answers": ["yes", "no"], "seconds": 60}` opens the poll.
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let Question { text, answers, seconds } = request.json()?;
        if room.storage().get::<Standing>("poll").await?.is_some() {
            return Err(Reject::conflict("this room has its poll").into());
        }
        let votes = vec![0; answers.len()];
        room.storage().set_alarm_in(Duration::from_secs(seconds.into()))?;
        let opened = Standing { text, answers, votes, open: true };
        tell(room, &opened)?;
        Ok(Response::json(&opened)?.with_status(StatusCode::CREATED))
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, _: &Request) -> Result {
        new.send_json(&room.storage().get::<Standing>("poll").await?)?;
        Ok(())
    }

    /// `1` votes for the second answer. Each connection has one vote.
    async fn on_message(&mut self, room: &Room, voter: &Connection, message: Message) -> Result {
        let vote: usize = message.json()?;
        let poll = room.storage().get::<Standing>("poll").await?.filter(|poll| poll.open);
        let mut poll = poll.or_reject("no poll is open")?;
        *poll.votes.get_mut(vote).or_reject("there is no such answer")? += 1;
        if voter.state::<usize>()?.is_some() {
            return Err(Reject::conflict("you have voted").into());
        }
        voter.set_state(&vote)?;
        tell(room, &poll)
    }

    async fn on_alarm(&mut self, room: &Room, _: Alarm) -> Result {
        let poll = room.storage().get::<Standing>("poll").await?;
        poll.map_or(Ok(()), |poll| tell(room, &Standing { open: false, ..poll }))
    }
}

/// Stores it first, so those who hear of it can rely on it.
fn tell(room: &Room, poll: &Standing) -> Result {
    room.storage().put("poll", poll)?;
    room.broadcast_json(poll)?.send();
    Ok(())
}
