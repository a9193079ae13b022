//! The room whose alarm rings, and what it stores.

use std::{fmt, str::FromStr, time::Duration};

use partykit::{Alarm, Options, Request, Response, Result, Room, Server, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::witness::{Line, say};

/// For how long a room is quiet before it sleeps.
const QUIET: Duration = Duration::from_millis(500);

/// How long after a ring the next one of the same room is due, in milliseconds.
const NEXT: std::ops::Range<u64> = 200..4_000;

/// What a room's handler does. The room's name says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// It does its work.
    Sound {
        number: usize,
        /// How many milliseconds it takes.
        takes: u64,
        /// How often it fails before it succeeds.
        fails: u32,
        /// How many alarms it has, each of which sets the next one.
        laps: u32,
        /// It stores a part of its work and waits for that, before it goes on.
        syncs: bool,
    },
    /// It ends the process at once.
    Poisonous { number: usize },
}

impl fmt::Display for Nature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound { number, takes, fails, laps, syncs } => {
                write!(f, "sound-{number}-{takes}-{fails}-{laps}-{}", u8::from(*syncs))
            }
            Self::Poisonous { number } => write!(f, "poisonous-{number}"),
        }
    }
}

impl FromStr for Nature {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let wrong = || format!("{name} is no room of a soak");
        let mut words = name.split('-');
        let kind = words.next().ok_or_else(wrong)?;
        let numbers: Result<Vec<u32>, _> = words.map(str::parse).collect();
        Ok(match (kind, &numbers.map_err(|_| wrong())?[..]) {
            ("sound", &[number, takes, fails, laps, syncs]) => Self::Sound {
                number: number as usize,
                takes: takes.into(),
                fails,
                laps,
                syncs: syncs == 1,
            },
            ("poisonous", &[number]) => Self::Poisonous { number: number as usize },
            _ => return Err(wrong()),
        })
    }
}

/// The alarm that was set last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Set {
    /// The first is 1.
    pub(super) lap: u32,
    /// In milliseconds of the epoch, as all moments here.
    pub(super) at: u64,
}

/// The effect of a handler that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ring {
    pub(super) set: Set,
    pub(super) scheduled: u64,
    /// When its handler began.
    pub(super) began: u64,
    pub(super) retries: u32,
    pub(super) deaths: u32,
}

/// Everything that a room has stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) set: Option<Set>,
    pub(super) rings: Vec<Ring>,
    /// The last handler has come to its end.
    pub(super) done: bool,
    /// A handler that failed has stored something.
    pub(super) stray: bool,
    /// An alarm is there.
    pub(super) pending: bool,
}

/// The room.
#[derive(Debug, Default)]
pub(super) struct Bell;

impl Server for Bell {
    fn options() -> Options {
        Options::new().hibernate(true).hibernate_after(QUIET)
    }

    /// Sets the first alarm, if the body is a moment. Answers with what is stored.
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let storage = room.storage();
        let body = request.body().bytes().map_or(&[][..], |bytes| bytes);
        if !body.is_empty() {
            let at = serde_json::from_slice(body)?;
            storage.put("set", &Set { lap: 1, at })?;
            storage.set_alarm(Timestamp::from_millis(at))?;
        }
        let stored = Stored {
            set: storage.get("set").await?,
            rings: storage.get("rings").await?.unwrap_or_default(),
            done: storage.get("done").await?.unwrap_or(false),
            stray: storage.get("stray").await?.unwrap_or(false),
            pending: storage.alarm().await?.is_some(),
        };
        Ok(Response::new(serde_json::to_string(&stored)?.into()))
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        let storage = room.storage();
        let set: Set = storage.get("set").await?.ok_or("no alarm was set")?;
        let (scheduled, began) = (alarm.scheduled.as_millis(), room.now().as_millis());
        let Alarm { retries, deaths, .. } = alarm;
        say(&Line { room: room.id().into(), lap: set.lap, scheduled, began, retries, deaths })?;
        let (takes, fails, laps, syncs) = match room.id().parse()? {
            Nature::Poisonous { .. } => std::process::abort(),
            Nature::Sound { takes, fails, laps, syncs, .. } => (takes, fails, laps, syncs),
        };
        if syncs {
            storage.put("half", &set.lap)?;
            storage.sync().await?;
        }
        sleep(Duration::from_millis(takes)).await;
        if retries < fails {
            storage.put("stray", &true)?;
            return Err("it is to fail".into());
        }
        let mut rings: Vec<Ring> = storage.get("rings").await?.unwrap_or_default();
        rings.push(Ring { set, scheduled, began, retries, deaths });
        storage.put("rings", &rings)?;
        if set.lap < laps {
            let wait = u64::from_le_bytes(room.random()) % (NEXT.end - NEXT.start);
            let at = room.now().as_millis() + NEXT.start + wait;
            storage.put("set", &Set { lap: set.lap + 1, at })?;
            storage.set_alarm(Timestamp::from_millis(at))?;
        } else {
            storage.put("done", &true)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_its_room_does() {
        let sound = Nature::Sound { number: 7, takes: 400, fails: 2, laps: 3, syncs: true };
        for nature in [sound, Nature::Poisonous { number: 9 }] {
            assert_eq!(nature.to_string().parse(), Ok(nature));
        }
        assert!("sound-1".parse::<Nature>().is_err() && "lobby".parse::<Nature>().is_err());
    }
}
