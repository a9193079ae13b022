//! What `workerd` works for each event of a room, in processor time, with four Workers that take turns.

use std::{thread, time::Duration};

use bench_party::{BROADCAST, FIRST};
use partykit::Result;

use super::super::{Sizes, each, hall, wake::Caller};
use crate::{
    child::Process,
    crowd::Crowd,
    measure::workers::asker::Asker,
    report::{Goal, Report},
    server::Kind,
    sleeper::Sleeper,
};

/// An event, how it is made to happen, and the goal beside PartyServer.
struct Event {
    name: &'static str,
    /// Lets it happen that many times. Returns how many times it was, in what counts.
    happen: fn(&mut Contender, u64) -> Result<u64>,
    /// How often it happens before anything is measured: then V8 has compiled for speed what it will.
    warm_up: u64,
    /// How often it happens before each turn: the platform drops what was idle for 10 s.
    first: u64,
    /// How often it happens in a turn.
    count: u64,
    goal: Option<Goal>,
}

const EVENTS: [Event; 6] = [
    Event {
        name: "processor time of an echo, µs",
        happen: Contender::echo,
        warm_up: 30_000,
        first: 20,
        count: 400,
        goal: Some(Goal::AtMost(1.1)),
    },
    Event {
        name: "processor time of a request, µs",
        happen: Contender::request,
        warm_up: 6_000,
        first: 5,
        count: 60,
        goal: Some(Goal::AtMost(1.15)),
    },
    Event {
        name: "processor time of a connect, µs",
        happen: Contender::connect,
        warm_up: 3_000,
        first: 1,
        count: 40,
        goal: Some(Goal::AtMost(1.15)),
    },
    Event {
        name: "processor time of the end of a connection, µs",
        happen: Contender::leave,
        // As many as have connected.
        warm_up: 3_000,
        first: 0,
        count: 40,
        goal: None,
    },
    Event {
        name: "processor time of a delivery of a broadcast, µs",
        happen: Contender::broadcast,
        warm_up: 100,
        first: 1,
        count: 6,
        goal: Some(Goal::AtMost(0.8)),
    },
    Event {
        name: "processor time of a wake, µs",
        happen: Contender::wake,
        warm_up: 300,
        first: 0,
        count: 20,
        goal: Some(Goal::AtMost(1.1)),
    },
];

/// Rooms that are put to sleep and woken.
const ROOMS: usize = 10;

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut contenders = Vec::new();
    for kind in Kind::WORKERS {
        let failed = |error| format!("{}: {error}", kind.name());
        let mut contender = Contender::start(kind, sizes).map_err(failed)?;
        // Twice, as an event of a new kind makes V8 drop what it has compiled for the kinds before.
        for _ in 0..2 {
            for event in &EVENTS {
                let count = event.warm_up / (2 * sizes.worker_warm_up_part);
                (event.happen)(&mut contender, count).map_err(failed)?;
            }
        }
        contenders.push(contender);
    }
    // All of one event's turns in a row would meet one mood of the machine.
    for _ in 0..sizes.worker_cost_turns {
        for event in &EVENTS {
            for contender in &mut contenders {
                let cost = contender.measure(event)?;
                report.record(event.name, contender.kind, cost);
            }
        }
    }
    for event in &EVENTS {
        report.compare(event.name, Kind::PartyServer, event.goal);
    }
    for event in &EVENTS {
        report.bound(event.name, Kind::Floor, Kind::PartyServer);
    }
    for beside in [Kind::Object, Kind::Floor] {
        for event in &EVENTS {
            report.compare(event.name, beside, None);
        }
    }
    Ok(())
}

/// A Worker in a `workerd` of its own, and its clients.
struct Contender {
    kind: Kind,
    server: Sleeper,
    speaker: Caller,
    crowd: Crowd,
    listeners: u64,
    /// A caller and one who says nothing, in each.
    rooms: Vec<(String, Caller, Caller)>,
    /// Those who have connected and not left.
    guests: Vec<Caller>,
    /// The processor time until the last wake began, which is not the wakes'.
    aside: Duration,
}

impl Contender {
    fn start(kind: Kind, sizes: &Sizes) -> Result<Self> {
        let server = Sleeper::start_compiling(kind)?;
        let address = server.address();
        let mut crowd = Crowd::new()?;
        crowd.connect(address, sizes.worker_crowd + 1, hall)?;
        let mut rooms = Vec::new();
        for room in 0..ROOMS {
            let name = format!("room-{room}");
            let caller = Caller::connect(address, &name)?;
            let silent = Caller::connect(address, &name)?;
            rooms.push((name, caller, silent));
        }
        Ok(Self {
            kind,
            speaker: Caller::connect(address, "echo")?,
            crowd,
            listeners: sizes.worker_crowd as u64,
            rooms,
            guests: Vec::new(),
            aside: Duration::ZERO,
            server,
        })
    }

    /// Processor time of one event, in microseconds.
    fn measure(&mut self, event: &Event) -> Result<f64> {
        let process = self.server.process();
        if event.first > 0 {
            (event.happen)(self, event.first)?;
        }
        self.aside = Duration::ZERO;
        let before = settled(process)?;
        let count = (event.happen)(self, event.count)?;
        let spent = settled(process)?.saturating_sub(before + self.aside);
        Ok(each(count, spent))
    }

    /// One after another, of one client.
    fn echo(&mut self, count: u64) -> Result<u64> {
        for _ in 0..count {
            self.speaker.ask()?;
        }
        Ok(count)
    }

    /// One after another on one connection, which `workerd` would not keep until the next turn.
    fn request(&mut self, count: u64) -> Result<u64> {
        let mut asker = Asker::connect(self.server.address(), "asked")?;
        for _ in 0..count {
            asker.ask()?;
        }
        Ok(count)
    }

    fn connect(&mut self, count: u64) -> Result<u64> {
        for _ in 0..count {
            self.guests.push(Caller::connect(self.server.address(), "guests")?);
        }
        Ok(count)
    }

    /// All that have connected leave, each with a Close frame.
    fn leave(&mut self, _: u64) -> Result<u64> {
        let count = self.guests.len() as u64;
        for guest in self.guests.drain(..) {
            guest.leave()?;
        }
        Ok(count)
    }

    fn broadcast(&mut self, count: u64) -> Result<u64> {
        for _ in 0..count {
            self.crowd.say(0, BROADCAST)?;
            self.crowd.expect(0, self.listeners)?;
        }
        Ok(count * self.listeners)
    }

    /// What putting them to sleep costs does not count.
    fn wake(&mut self, count: u64) -> Result<u64> {
        let mut left = count;
        while left > 0 {
            let before = self.server.process().processor_time()?;
            for (room, caller, _) in &mut self.rooms {
                caller.ask()?;
                self.server.put_to_sleep(room)?;
            }
            self.aside += settled(self.server.process())? - before;
            for (_, caller, _) in &mut self.rooms {
                let (_, instance) = caller.ask()?;
                if instance != FIRST {
                    return Err("a room that slept has answered as one that was awake".into());
                }
            }
            // The next round finds rooms that have answered.
            left = left.saturating_sub(self.rooms.len() as u64);
        }
        Ok(count)
    }
}

/// The processor time of a process, when what was begun has ended: it no longer grows.
fn settled(process: Process) -> Result<Duration> {
    const PAUSE: Duration = Duration::from_millis(10);
    const IDLE: Duration = Duration::from_micros(50);
    let mut last = process.processor_time()?;
    for _ in 0..100 {
        thread::sleep(PAUSE);
        let now = process.processor_time()?;
        if now - last < IDLE {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
