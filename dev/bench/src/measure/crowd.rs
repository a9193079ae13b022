//! One full room: handshakes, broadcasts to all, echoes to a few.

use std::time::{Duration, Instant};

use bench_party::{BROADCAST, ECHO};
use partykit::Result;

use super::{Sizes, each, hall, rate};
use crate::{
    child::{Allocator, Server},
    crowd::Crowd,
    report::{Goal, Report},
    server::Kind,
};

pub(super) const HANDSHAKES: &str = "handshakes a second";
pub(super) const HANDSHAKE_TIME: &str = "processor time of a handshake, µs";
pub(super) const DELIVERIES: &str = "broadcast: deliveries a second";
pub(super) const DELIVERY_TIME: &str = "broadcast: processor time of a delivery, µs";
pub(super) const ECHOES: &str = "echoes a second";
pub(super) const ECHO_TIME: &str = "processor time of an echo, µs";

/// One in this many handshakes is not counted: before those, nothing is compiled, or in a cache.
pub(super) const WARM_UP: usize = 10;

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    for _ in 0..sizes.turns {
        for kind in Kind::SOCKETS {
            turn(kind, sizes, report).map_err(|error| format!("{}: {error}", kind.name()))?;
        }
    }
    report.compare(HANDSHAKE_TIME, Kind::Bun, Some(Goal::AtMost(1.0)));
    report.compare(ECHO_TIME, Kind::Bun, Some(Goal::AtMost(0.8)));
    report.compare(ECHO_TIME, Kind::Raw, Some(Goal::AtMost(1.1)));
    report.compare(DELIVERIES, Kind::Raw, Some(Goal::AtLeast(0.95)));
    report.compare(DELIVERY_TIME, Kind::Bun, Some(Goal::AtMost(0.9)));
    report.compare(DELIVERY_TIME, Kind::Raw, None);
    report.compare(DELIVERIES, Kind::Bun, None);
    report.compare(HANDSHAKE_TIME, Kind::Raw, None);
    for beside in [Kind::Bun, Kind::Raw] {
        for measure in [ECHOES, HANDSHAKES] {
            report.compare(measure, beside, None);
        }
    }
    for measure in [ECHOES, ECHO_TIME, HANDSHAKES, HANDSHAKE_TIME] {
        report.compare(measure, Kind::Tungstenite, None);
    }
    Ok(())
}

/// With a server that is started for it.
pub(super) fn turn(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut crowd = Crowd::new()?;
    let server = Server::start(kind, Allocator::Jemalloc)?;
    let warm_up = sizes.crowd / WARM_UP;
    crowd.connect(server.address(), warm_up, hall)?;
    let mut spent = Spent::new(&server)?;
    let took = crowd.connect(server.address(), sizes.crowd - warm_up, hall)?;
    let count = (sizes.crowd - warm_up) as u64;
    report.record(HANDSHAKES, kind, rate(count, took));
    report.record(HANDSHAKE_TIME, kind, each(count, spent.since()?));

    if kind != Kind::Tungstenite {
        let (count, took, time) = broadcast(&mut crowd, sizes, &mut spent)?;
        report.record(DELIVERIES, kind, rate(count, took));
        report.record(DELIVERY_TIME, kind, each(count, time));
    }

    let (count, took, time) = echo(&mut crowd, sizes, &mut spent)?;
    report.record(ECHOES, kind, rate(count, took));
    report.record(ECHO_TIME, kind, each(count, time));
    Ok(())
}

/// One speaks, all others hear it; then again.
fn broadcast(
    crowd: &mut Crowd,
    sizes: &Sizes,
    spent: &mut Spent<'_>,
) -> Result<(u64, Duration, Duration)> {
    let others = crowd.len() as u64 - 1;
    let round = |crowd: &mut Crowd| {
        crowd.say(0, BROADCAST)?;
        crowd.expect(0, others)
    };
    // The first ones find cold caches.
    for _ in 0..2 {
        round(crowd)?;
    }
    spent.since()?;
    let mut took = Duration::ZERO;
    for _ in 0..sizes.broadcasts {
        took += round(crowd)?;
    }
    Ok((sizes.broadcasts * others, took, spent.since()?))
}

/// A few ask, each again as soon as it has its answer; all others are silent.
fn echo(
    crowd: &mut Crowd,
    sizes: &Sizes,
    spent: &mut Spent<'_>,
) -> Result<(u64, Duration, Duration)> {
    let apart = crowd.len() / sizes.active;
    for asker in 0..sizes.active {
        crowd.say(asker * apart, ECHO)?;
    }
    let mut listen = |window: Duration| -> Result<(u64, Duration)> {
        let (begun, mut count) = (Instant::now(), 0);
        crowd.listen(
            || begun.elapsed() >= window,
            |crowd, asker, heard| {
                count += u64::from(heard.answers);
                if heard.answers > 0 { crowd.say(asker, ECHO) } else { Ok(()) }
            },
        )?;
        Ok((count, begun.elapsed()))
    };
    listen(sizes.window / 10)?;
    spent.since()?;
    let (count, took) = listen(sizes.window)?;
    Ok((count, took, spent.since()?))
}

/// Processor time of a server from one look to the next.
pub(super) struct Spent<'a> {
    server: &'a Server,
    last: Duration,
}

impl<'a> Spent<'a> {
    pub(super) fn new(server: &'a Server) -> Result<Self> {
        Ok(Self { server, last: server.process().processor_time()? })
    }

    pub(super) fn since(&mut self) -> Result<Duration> {
        let now = self.server.process().processor_time()?;
        let spent = now - self.last;
        self.last = now;
        Ok(spent)
    }
}
