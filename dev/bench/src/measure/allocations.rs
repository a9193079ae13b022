//! How often the server asks for memory, and for how much, for each thing that happens. Counted, not sampled:
//! the same in every run, but for what the runtime does beside it.

use std::{thread, time::Duration};

use bench_party::{BROADCAST, ECHO};
use partykit::Result;

use super::{Sizes, hall, own_room};
use crate::{
    child::Server,
    crowd::Crowd,
    heap::Allocations,
    report::{Goal, Report},
    server::Kind,
};

/// What has begun has ended then.
const REST: Duration = Duration::from_millis(300);

/// Connections, echoes and broadcasts before anything is counted.
const FIRST: usize = 100;

/// Those that hear a broadcast.
const LISTENERS: usize = 100;

/// How often it is asked for, how much, and the goal of how often.
type Names = (&'static str, &'static str, Option<Goal>);

const HANDSHAKE: Names =
    ("allocations of a handshake", "bytes allocated by a handshake", Some(Goal::AtMost(20.0)));
const FRESH: Names = (
    "allocations of a handshake that makes a room",
    "bytes allocated by a handshake that makes a room",
    Some(Goal::AtMost(20.0)),
);
const ECHOED: Names =
    ("allocations of an echo", "bytes allocated by an echo", Some(Goal::AtMost(3.0)));
const DELIVERED: Names =
    ("allocations of a delivery of a broadcast", "bytes allocated by a delivery", None);

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Server::start_counting()?;
    let mut crowd = Crowd::new()?;
    let (address, counted) = (server.address(), sizes.counted);
    crowd.connect(address, FIRST, hall)?;
    count(&mut server, HANDSHAKE, counted, report, || {
        crowd.connect(address, counted, hall).map(drop)
    })?;
    // The same of rooms that are not there yet; those of the crowd's first clients are.
    let mut others = Crowd::new()?;
    others.connect(address, FIRST, own_room)?;
    count(&mut server, FRESH, counted, report, || {
        others.connect(address, counted, |index| own_room(FIRST + index)).map(drop)
    })?;
    // One asks at a time, each in a room of its own that is awake.
    for client in 0..FIRST {
        others.say(client, ECHO)?;
        others.expect(1, 0)?;
    }
    count(&mut server, ECHOED, counted, report, || {
        for echo in 0..counted {
            others.say(echo % FIRST, ECHO)?;
            others.expect(1, 0)?;
        }
        Ok(())
    })?;
    let mut listeners = Crowd::new()?;
    listeners.connect(address, LISTENERS + 1, |_| "listeners".to_owned())?;
    let mut broadcast = |rounds: usize| -> Result<()> {
        for _ in 0..rounds {
            listeners.say(0, BROADCAST)?;
            listeners.expect(0, LISTENERS as u64)?;
        }
        Ok(())
    };
    broadcast(FIRST)?;
    let rounds = counted / 10;
    count(&mut server, DELIVERED, rounds * LISTENERS, report, || broadcast(rounds))
}

/// Counts what it takes to let something happen that many times.
fn count(
    server: &mut Server,
    (often, much, goal): Names,
    times: usize,
    report: &mut Report,
    happen: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut settled = || {
        thread::sleep(REST);
        Allocations::parse(&server.ask("allocations")?)
    };
    // What the first answer takes is not of what happens.
    settled()?;
    let before = settled()?;
    happen()?;
    let after = settled()?;
    // The answers are counted too.
    let answer = settled()?;
    let of_one = |before: u64, after: u64, answer: u64| {
        let asked = answer.saturating_sub(after);
        (after - before).saturating_sub(asked) as f64 / times as f64
    };
    report.record(often, Kind::PartyKit, of_one(before.count, after.count, answer.count));
    report.record(much, Kind::PartyKit, of_one(before.bytes, after.bytes, answer.bytes));
    report.limit(often, "nothing: how often", goal);
    Ok(())
}
