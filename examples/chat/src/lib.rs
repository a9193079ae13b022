//! A chat. What was said is kept, and a client that comes back gets what it has missed; who is here, and who is
//! typing, is presence. Both are add-ons of PartyKit's, and the rest is here.
//!
//! Read [`Chat`] first, then [`Member`]: who has which name, and what they may say. [`Ask`] and [`Event`] are
//! what travels.

mod member;
#[cfg(feature = "workers")]
mod page;
mod protocol;
#[cfg(feature = "workers")]
mod workers;

pub use member::{Member, Token};
pub use protocol::{Ask, Event, Join, Joined, Shows};

use partykit::{
    Close, Connection, HandlerError, Message, Options, OrReject, Reject, Request, RequestExt,
    Response, ResponseExt, Result, Room, Server, TaskResult,
    history::{History, Resumed},
    http::Method,
    presence::Presence,
};

/// What a room keeps, and what it shows to one who is new.
const HISTORY: History = History::new().keep(500);
const SHOWN: usize = 100;

/// The longest text of a message, in characters.
const MAX_TEXT: usize = 2_000;

/// The chat's server. Presence is in memory as far as it need not survive a sleep, and keeps the rest with the
/// connections.
#[derive(Debug, Default)]
pub struct Chat {
    presence: Presence,
}

impl Server for Chat {
    /// A client that sends much more than a person types is closed. [`Member`] limits how fast a member may speak.
    fn options() -> Options {
        let options = Options::new().hibernate(true).max_message(16 << 10);
        options.max_request_body(1 << 10).max_message_rate(20, 60)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        Ok(self.presence.start(room)?)
    }

    /// The token says who it is. What a client tells about its name is never believed.
    async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
        let token = request.query("token").or_reject(Reject::unauthorized("join first"))?;
        let token = Token::new(&token).or_reject(Reject::unauthorized("join again"))?;
        let member = Member::of(room, &token).await?;
        let member = member.or_reject(Reject::unauthorized("join again"))?;
        match HISTORY.resume(room, new, request).await? {
            Resumed::Caught(_) => {}
            Resumed::Fresh | Resumed::Gap => {
                new.send_json(&Event::Begin)?;
                HISTORY.replay(room, new, SHOWN).await?;
            }
        }
        // Behind this, what the page has said and has not heard of was not stored.
        new.send_json(&Event::Ready { you: &member.name })?;
        self.presence.join(room, new, &member.name, &Shows { is_typing: false })?;
        new.set_state(&token)?;
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.json()? {
            Ask::Typing { typing } => {
                self.presence.update(room, sender, &Shows { is_typing: typing })?;
            }
            Ask::Say { say, id } => {
                let token = sender.state::<Token>()?.or_reject("join first")?;
                let mut member = Member::of(room, &token).await?.or_reject("join again")?;
                if member.has_said(&id) {
                    // It was stored, and its author was away when all others heard it.
                    return Ok(());
                }
                let (text, now) = (say.trim(), room.now());
                let refused = match text.chars().count() {
                    1..=MAX_TEXT => member.says(&id, now).err(),
                    _ => Some("a message has 1 to 2,000 characters"),
                };
                if let Some(why) = refused {
                    sender.send_json(&Event::Refused { id: &id, why })?;
                    return Ok(());
                }
                member.store(room, &token)?;
                let from = &member.name;
                let when = now.as_millis();
                let said = HISTORY.publish(room);
                said.send_json(|at| Event::Said { at, id: &id, from, when, text }).await?;
            }
        }
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, connection: &Connection, _: Close) -> Result {
        Ok(self.presence.leave(room, connection)?)
    }

    async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
        Ok(self.presence.tick(room, &result)?)
    }

    async fn on_error(&mut self, room: &Room, _: HandlerError) -> Result {
        Ok(self.presence.refresh(room)?)
    }

    /// `POST` with a [`Join`] makes a member, whose token is the answer.
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        if request.method() != Method::POST {
            return Ok(Response::json(&self.presence.list::<Shows>(room)?)?);
        }
        let Join { name } = request.json()?;
        let token = Member::join(room, &name).await?;
        Ok(Response::json(&Joined { token })?)
    }
}
