//! Reminders that a room shares. Each one is a [schedule](partykit::Room::schedules): it is stored, and rings at
//! its time while the room sleeps, or as soon as the server runs again.

mod page;
mod protocol;
#[cfg(feature = "workers")]
mod workers;

use std::time::Duration;

pub use page::answer;
use partykit::{
    Connection, List, Message, Options, Request, Result, Room, Run, Server, Timestamp, When,
};
use protocol::{Rang, Reminder, Shown, Wish};

/// How many reminders a room has at most.
const REMINDERS: usize = 50;
/// How many of those that have rung are kept.
const RANG: usize = 20;
/// How long a reminder's text may be, in characters.
const TEXT: usize = 200;
/// How often a reminder may ring.
const OFTEN: Duration = Duration::from_secs(5);

/// A room with reminders.
#[derive(Debug, Default)]
pub struct Reminders;

impl Server for Reminders {
    fn options() -> Options {
        Options::new().hibernate(true).max_message(4096).max_message_rate(5, 10)
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, _: &Request) -> Result {
        Ok(new.send_json(&shown(room).await?)?)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.json()? {
            Wish::Remind { text, when } => match remind(room, text.trim(), when).await? {
                Ok(()) => {}
                Err(why) => return Ok(sender.send_json(&protocol::refused(why))?),
            },
            Wish::Cancel { id } => drop(room.schedules().delete(&id).await?),
        }
        show(room).await
    }

    async fn on_schedule(&mut self, room: &Room, run: Run) -> Result {
        let rang = Rang { text: run.payload()?, at: room.now(), missed: run.missed };
        room.storage().append("rang:", &rang).await?;
        let rows = room.storage().list::<Rang>(List::new().prefix("rang:")).await?;
        let old = rows.len().saturating_sub(RANG);
        room.storage().delete_many(rows.iter().take(old).map(|(key, _)| key))?;
        show(room).await
    }
}

/// Sets a reminder; or says why not.
async fn remind(room: &Room, text: &str, when: When) -> Result<Result<(), &'static str>> {
    let is_soon = |at: Timestamp| at.since(room.now()) < Duration::from_secs(366 * 86_400);
    let may_be = match when {
        When::After(time) => is_soon(room.now() + time),
        When::At(at) => is_soon(at),
        When::Every(time) => time >= OFTEN && is_soon(room.now() + time),
        _ => false,
    };
    if !may_be {
        return Ok(Err("within a year, and not more often than every 5 s"));
    }
    if text.is_empty() || text.chars().count() > TEXT {
        return Ok(Err("a reminder has 1 to 200 characters"));
    }
    let schedules = room.schedules();
    if schedules.list().await?.len() >= REMINDERS {
        return Ok(Err("a room has at most 50 reminders"));
    }
    let id = format!("{:016x}", u64::from_le_bytes(room.random()));
    schedules.set_with(&id, when, text).await?;
    Ok(Ok(()))
}

/// Tells all clients what there is.
async fn show(room: &Room) -> Result {
    room.broadcast_json(&shown(room).await?)?.send();
    Ok(())
}

async fn shown(room: &Room) -> Result<Shown> {
    let mut reminders = Vec::new();
    for schedule in room.schedules().list().await? {
        let text = schedule.payload()?;
        let (id, when, next) = (schedule.name, schedule.when, schedule.next);
        reminders.push(Reminder { id, text, when, next });
    }
    reminders.sort_by_key(|reminder| reminder.next);
    let rang = room.storage().list::<Rang>(List::new().prefix("rang:").reverse()).await?;
    let rang = rang.into_iter().map(|(_, rang)| rang).collect();
    Ok(Shown { now: room.now(), reminders, rang })
}
