//! This revision beside another one, whose servers are those of its own bench: what a change costs shows
//! when both take turns, on whatever machine.

use std::time::Instant;

use partykit::Result;

use super::{Sizes, crowd, each, handshakes, rate, rooms, storm, wake};
use crate::{
    child::Server,
    report::{Goal, Report},
    server::Kind,
};

const WRITTEN: &str = "rooms that are written a second";
const WRITTEN_TIME: &str = "processor time of a room that is written, µs";

/// By how much this revision may seem slower and be as fast: two runs of one revision differ by as much.
const LESS: Goal = Goal::AtMost(1.1);
const MORE: Goal = Goal::AtLeast(0.9);

/// What the server works, and what clients notice of it.
const TIMES: [&str; 9] = [
    crowd::HANDSHAKE_TIME,
    handshakes::HANDSHAKE_TIME,
    crowd::DELIVERY_TIME,
    crowd::ECHO_TIME,
    storm::STORMS[0].time,
    storm::STORMS[1].time,
    wake::COLD,
    wake::WARM,
    WRITTEN_TIME,
];
const RATES: [&str; 7] = [
    crowd::HANDSHAKES,
    handshakes::HANDSHAKES,
    crowd::DELIVERIES,
    crowd::ECHOES,
    storm::STORMS[0].deliveries,
    storm::STORMS[1].deliveries,
    WRITTEN,
];

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let kinds = [Kind::PartyKit, Kind::Former];
    for turn in 0..sizes.turns {
        for at in 0..kinds.len() {
            // What comes second may find another machine than what comes first.
            let kind = kinds[(turn + at) % kinds.len()];
            one(kind, sizes, report).map_err(|error| format!("{}: {error}", kind.name()))?;
        }
    }
    for measure in TIMES {
        report.compare(measure, Kind::Former, Some(LESS));
    }
    for measure in RATES {
        report.compare(measure, Kind::Former, Some(MORE));
    }
    Ok(())
}

fn one(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    crowd::turn(kind, sizes, report)?;
    handshakes::turn(kind, sizes, report)?;
    for (storm, names) in sizes.storms.into_iter().zip(&storm::STORMS) {
        storm::turn(kind, storm, names, sizes.window, report)?;
    }
    wake::turn(kind, sizes, report)?;
    write(kind, sizes, report)
}

/// Requests that each write a room, and are answered when that is durable.
fn write(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let home = rooms::home()?;
    let mut server = Server::start_rooms(kind, home.path())?;
    let (first, count) = (sizes.written / 10, sizes.written);
    server.count(&format!("burst 0 {first}"))?;
    let before = server.process().processor_time()?;
    let begun = Instant::now();
    server.count(&format!("burst {first} {}", first + count))?;
    let took = begun.elapsed();
    let spent = server.process().processor_time()? - before;
    report.record(WRITTEN, kind, rate(count, took));
    report.record(WRITTEN_TIME, kind, each(count, spent));
    Ok(())
}
