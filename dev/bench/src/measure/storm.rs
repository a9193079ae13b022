//! Everyone talks: each client speaks again as soon as it has heard as much as everyone else says.

use std::time::{Duration, Instant};

use bench_party::BROADCAST;
use partykit::Result;

use super::{Sizes, each, rate};
use crate::{
    child::{Allocator, Server},
    crowd::Crowd,
    report::{Goal, Report},
    server::Kind,
};

const DELIVERIES: &str = "storm: deliveries a second";
const DELIVERY_TIME: &str = "storm: processor time of a delivery, µs";

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    for _ in 0..sizes.turns {
        for kind in [Kind::PartyKit, Kind::Raw] {
            turn(kind, sizes, report)?;
        }
    }
    report.compare(DELIVERIES, Kind::Raw, Some(Goal::AtLeast(5.0)));
    report.compare(DELIVERY_TIME, Kind::Raw, None);
    Ok(())
}

fn turn(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut crowd = Crowd::new()?;
    let server = Server::start(kind, Allocator::Jemalloc)?;
    let talkers = sizes.storm_talkers;
    crowd.connect(server.address(), sizes.storm_rooms * talkers, |index| {
        format!("room-{}", index / talkers)
    })?;

    let mut unanswered = vec![0; crowd.len()];
    let others = u32::try_from(talkers - 1)?;
    for talker in 0..crowd.len() {
        crowd.say(talker, BROADCAST)?;
    }
    let mut listen = |window: Duration| -> Result<(u64, Duration)> {
        let (begun, mut count) = (Instant::now(), 0);
        crowd.listen(
            || begun.elapsed() >= window,
            |crowd, talker, heard| {
                count += u64::from(heard.broadcasts);
                unanswered[talker] += heard.broadcasts;
                if unanswered[talker] < others {
                    return Ok(());
                }
                unanswered[talker] -= others;
                crowd.say(talker, BROADCAST)
            },
        )?;
        Ok((count, begun.elapsed()))
    };
    listen(sizes.window / 4)?;
    let before = server.process().processor_time()?;
    let (count, took) = listen(sizes.window)?;
    let time = server.process().processor_time()? - before;
    report.record(DELIVERIES, kind, rate(count, took));
    report.record(DELIVERY_TIME, kind, each(count, time));
    Ok(())
}
