//! What a sleeping room costs that has one connection, among thousands of its kind, and what a burst leaves
//! behind in which all of them were awake.

use std::time::Duration;

use partykit::Result;

use super::{
    Sizes,
    memory::echo,
    own_room,
    weight::{Scales, WARM},
};
use crate::{
    child::{Allocator, Server},
    crowd::Crowd,
    report::{Goal, Report},
    server::Kind,
};

const ASLEEP: &str = "bytes of a sleeping room with one connection";
const ASLEEP_HEAP: &str = "bytes of a sleeping room with one connection, on the heap";
const AWAKE: &str = "bytes of a room with one connection while all are awake";
const AFTER: &str = "bytes of a sleeping room with one connection, a minute after all were awake";

/// From a burst on, until the scales wait. Pings come within it.
const LONG: Duration = Duration::from_secs(40);

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut left = Vec::new();
    for _ in 0..sizes.memory_turns {
        for kind in [Kind::PartyKit, Kind::Bun] {
            let ratio = turn(kind, sizes, report)?;
            if kind == Kind::PartyKit {
                left.push(ratio);
            }
        }
    }
    report.limit(ASLEEP, "nothing: bytes", Some(Goal::AtMost(600.0)));
    report.limit(ASLEEP_HEAP, "nothing: bytes", None);
    report.compare(ASLEEP, Kind::Bun, None);
    report.claim_each(AFTER, "the same before", left, Some(Goal::AtMost(1.3)));
    Ok(())
}

/// By how much a burst makes them larger.
fn turn(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<f64> {
    let (count, allocator) = (sizes.sleepers, Allocator::Jemalloc);
    let scales = Scales::new(kind, allocator, sizes);
    let rooms = || (0..WARM + count).map(own_room);
    let mut crowd = Crowd::new()?;
    let mut server = Server::start_to_weigh(kind, allocator)?;
    crowd.connect(server.address(), WARM, own_room)?;
    echo(&mut crowd, ..)?;
    let before = scales.settled(&mut server, rooms())?;

    crowd.connect(server.address(), count, |index| own_room(WARM + index))?;
    echo(&mut crowd, ..)?;
    let asleep = scales.settled(&mut server, rooms())?.of_one(before, count);

    echo(&mut crowd, ..)?;
    if kind == Kind::PartyKit {
        let (awake, all) = (server.count("awake")?, crowd.len() as u64);
        if awake != all {
            return Err(format!("{awake} of {all} rooms are awake").into());
        }
    }
    let awake = scales.now(&mut server)?.of_one(before, count);
    // The rest of the minute is what the scales wait.
    crowd.rest(LONG.min(sizes.rest))?;
    let after = scales.settled(&mut server, rooms())?.of_one(before, count);
    if kind == Kind::PartyKit {
        let (asleep, all) = (server.count("asleep")?, crowd.len() as u64);
        if asleep != all {
            return Err(format!("{asleep} of {all} rooms are asleep").into());
        }
    }
    for (measure, weight) in [(ASLEEP, asleep), (AWAKE, awake), (AFTER, after)] {
        report.record(measure, kind, weight.share);
    }
    if let Some(heap) = asleep.heap {
        report.record(ASLEEP_HEAP, kind, heap);
    }
    Ok(after.share / asleep.share)
}
