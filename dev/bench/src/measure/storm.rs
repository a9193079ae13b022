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

/// What is measured of a storm.
pub(super) struct Names {
    pub(super) deliveries: &'static str,
    pub(super) time: &'static str,
    /// By how much messages leave, or at least arrive, together.
    together: &'static str,
    /// Of deliveries beside Bun.
    goal: Goal,
}

/// In a few large rooms, and in many small ones.
pub(super) const STORMS: [Names; 2] = [
    Names {
        deliveries: "storm: deliveries a second",
        time: "storm: processor time of a delivery, µs",
        together: "storm: messages that a client reads at once",
        goal: Goal::AtLeast(1.3),
    },
    Names {
        deliveries: "storm in small rooms: deliveries a second",
        time: "storm in small rooms: processor time of a delivery, µs",
        together: "storm in small rooms: messages that a client reads at once",
        goal: Goal::AtLeast(1.0),
    },
];

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    for (storm, names) in sizes.storms.into_iter().zip(&STORMS) {
        for _ in 0..sizes.turns {
            for kind in Kind::WITH_ROOMS {
                turn(kind, storm, names, sizes.window, report)
                    .map_err(|error| format!("{}: {error}", kind.name()))?;
            }
        }
        report.compare(names.deliveries, Kind::Bun, Some(names.goal));
        report.compare(names.time, Kind::Bun, None);
        report.compare(names.together, Kind::Bun, None);
    }
    let large = &STORMS[0];
    report.compare(large.deliveries, Kind::Raw, Some(Goal::AtLeast(5.0)));
    report.compare(large.time, Kind::Raw, None);
    Ok(())
}

/// With a server that is started for it.
pub(super) fn turn(
    kind: Kind,
    (rooms, talkers): (usize, usize),
    names: &Names,
    window: Duration,
    report: &mut Report,
) -> Result<()> {
    let mut crowd = Crowd::new()?;
    let server = Server::start(kind, Allocator::Jemalloc)?;
    let room = |index| format!("room-{}", index / talkers);
    crowd.connect(server.address(), rooms * talkers, room)?;

    let mut unanswered = vec![0; crowd.len()];
    let others = u32::try_from(talkers - 1)?;
    for talker in 0..crowd.len() {
        crowd.say(talker, BROADCAST)?;
    }
    let mut listen = |window: Duration| -> Result<(u64, u64, Duration)> {
        let (begun, mut count, mut reads) = (Instant::now(), 0, 0);
        crowd.listen(
            || begun.elapsed() >= window,
            |crowd, talker, heard| {
                count += u64::from(heard.broadcasts);
                reads += u64::from(heard.broadcasts > 0);
                unanswered[talker] += heard.broadcasts;
                if unanswered[talker] < others {
                    return Ok(());
                }
                unanswered[talker] -= others;
                crowd.say(talker, BROADCAST)
            },
        )?;
        Ok((count, reads, begun.elapsed()))
    };
    listen(window / 4)?;
    let before = server.process().processor_time()?;
    let (count, reads, took) = listen(window)?;
    let time = server.process().processor_time()? - before;
    report.record(names.deliveries, kind, rate(count, took));
    report.record(names.time, kind, each(count, time));
    report.record(names.together, kind, count as f64 / reads as f64);
    Ok(())
}
