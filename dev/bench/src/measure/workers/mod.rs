//! Rooms that sleep, of four makers: what an event costs, what a connection costs meanwhile, how fast a
//! broadcast is, how much later a message is answered that wakes its room.

mod asker;
mod cost;

use std::{thread, time::Duration};

use bench_party::{BROADCAST, ECHO, FIRST, LATER};
use partykit::Result;

use super::{Sizes, hall, rate, wake::Caller};
use crate::{
    child::Allocator,
    crowd::Crowd,
    report::{Goal, Report, percentile},
    server::Kind,
    sleeper::Sleeper,
};

const ASLEEP: &str = "bytes of a connection of a sleeping room";
const COLLECTED: &str = "the same, after garbage was collected";
const DELIVERIES: &str = "broadcast: deliveries a second";
const WAKE: &str = "wake: answer of a sleeping room, p50, µs";
const WAKE_LATE: &str = "wake: answer of a sleeping room, p99, µs";
const WARM: &str = "wake: answer of an awake room, p50, µs";
const WARM_LATE: &str = "wake: answer of an awake room, p99, µs";
const ADDED: &str = "wake: asleep / awake, p50";

/// The pause before a message whose answer is timed.
const REST: Duration = Duration::from_millis(2);

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    cost::take(sizes, report)?;
    let mut turns = |count: usize, turn: Turn| -> Result<()> {
        for _ in 0..count {
            for kind in Kind::SLEEPING {
                turn(kind, sizes, report).map_err(|error| format!("{}: {error}", kind.name()))?;
            }
        }
        Ok(())
    };
    turns(sizes.worker_memory_turns, memory)?;
    turns(sizes.turns, broadcast)?;
    turns(sizes.turns, wake)?;
    for measure in [ASLEEP, COLLECTED] {
        report.compare(measure, Kind::PartyServer, Some(Goal::AtMost(1.0)));
    }
    for beside in [Kind::PartyServer, Kind::Object, Kind::PartyKit] {
        if beside != Kind::PartyServer {
            report.compare(ASLEEP, beside, None);
            report.compare(COLLECTED, beside, None);
        }
        for measure in [DELIVERIES, WAKE, WAKE_LATE, WARM] {
            report.compare(measure, beside, None);
        }
    }
    Ok(())
}

type Turn = fn(Kind, &Sizes, &mut Report) -> Result<()>;

/// One speaks, all others hear it; then again.
fn broadcast(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut crowd = Crowd::new()?;
    let server = Sleeper::start(kind)?;
    crowd.connect(server.address(), sizes.worker_crowd + 1, hall)?;
    let others = sizes.worker_crowd as u64;
    let mut took = Duration::ZERO;
    // The first ones find cold caches, and code that is not compiled for speed yet.
    for round in 0..sizes.broadcasts + 5 {
        if round == 5 {
            took = Duration::ZERO;
        }
        crowd.say(0, BROADCAST)?;
        took += crowd.expect(0, others)?;
    }
    report.record(DELIVERIES, kind, rate(sizes.broadcasts * others, took));
    Ok(())
}

/// Rooms of two are woken, one after another, each several times.
fn wake(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Sleeper::start(kind)?;
    let mut rooms = Vec::new();
    for room in 0..sizes.worker_rooms {
        let name = format!("room-{room}");
        let mut caller = Caller::connect(server.address(), &name)?;
        let silent = Caller::connect(server.address(), &name)?;
        caller.ask()?;
        rooms.push((name, caller, silent));
    }
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..sizes.wakes {
        for (room, caller, _) in &mut rooms {
            server.put_to_sleep(room)?;
            cold.push(sample(caller, FIRST)?);
            // Not counted: it finds caches as the wake has left them.
            caller.ask()?;
            warm.push(sample(caller, LATER)?);
        }
    }
    let [cold_median, warm_median] = [percentile(&mut cold, 50), percentile(&mut warm, 50)];
    report.record(WAKE, kind, cold_median);
    report.record(WAKE_LATE, kind, percentile(&mut cold, 99));
    report.record(WARM, kind, warm_median);
    report.record(WARM_LATE, kind, percentile(&mut warm, 99));
    report.record(ADDED, kind, cold_median / warm_median);
    Ok(())
}

/// In microseconds, of an answer that has to come from a new instance, or must not.
fn sample(caller: &mut Caller, instance: u8) -> Result<f64> {
    thread::sleep(REST);
    let (took, answered) = caller.ask()?;
    match answered == instance {
        true => Ok(took.as_secs_f64() * 1e6),
        false => Err(format!("answered as {answered:#x}, not as {instance:#x}").into()),
    }
}

/// Many connections of one room that have spoken and heard, while it sleeps.
fn memory(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let count = sizes.worker_idle;
    let rest = Allocator::Jemalloc.rest().min(sizes.rest);
    let settled = |server: &Sleeper| {
        thread::sleep(rest);
        server.process().memory()
    };
    let mut crowd = Crowd::new()?;
    let mut server = Sleeper::start_collectable(kind)?;
    // What the first clients cost is the server's code and its threads' buffers.
    let first = 16;
    crowd.connect(server.address(), first, |_| "lobby".to_owned())?;
    crowd.say(0, ECHO)?;
    crowd.expect(1, 0)?;
    server.put_to_sleep("lobby")?;
    server.collect_garbage()?;
    let before = settled(&server)?;

    crowd.connect(server.address(), count, hall)?;
    for client in first..crowd.len() {
        crowd.say(client, ECHO)?;
        crowd.expect(1, 0)?;
    }
    server.put_to_sleep("hall")?;
    for (measure, collects) in [(ASLEEP, false), (COLLECTED, true)] {
        if collects {
            server.collect_garbage()?;
        }
        let after = settled(&server)?;
        report.record(measure, kind, (after as f64 - before as f64) / count as f64);
    }

    // They are connections: it wakes, and all of them hear of it.
    crowd.say(first, BROADCAST)?;
    crowd.expect(0, count as u64 - 1)?;
    Ok(())
}
