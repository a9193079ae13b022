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

const HANDSHAKES: &str = "handshakes a second";
const HANDSHAKE_TIME: &str = "processor time of a handshake, µs";
const DELIVERIES: &str = "broadcast: deliveries a second";
const DELIVERY_TIME: &str = "broadcast: processor time of a delivery, µs";
const ECHOES: &str = "echoes a second";
const ECHO_TIME: &str = "processor time of an echo, µs";

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    for _ in 0..sizes.turns {
        for kind in Kind::SERVED {
            turn(kind, sizes, report)?;
        }
    }
    report.compare(DELIVERIES, Kind::Raw, Some(Goal::AtLeast(0.85)));
    report.compare(DELIVERY_TIME, Kind::Raw, None);
    for beside in [Kind::Raw, Kind::Tungstenite] {
        for measure in [ECHOES, ECHO_TIME, HANDSHAKES, HANDSHAKE_TIME] {
            report.compare(measure, beside, None);
        }
    }
    Ok(())
}

fn turn(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut crowd = Crowd::new()?;
    let server = Server::start(kind, Allocator::Jemalloc)?;
    let mut spent = Spent::new(&server)?;

    let took = crowd.connect(server.address(), sizes.crowd, hall)?;
    let count = sizes.crowd as u64;
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
struct Spent<'a> {
    server: &'a Server,
    last: Duration,
}

impl<'a> Spent<'a> {
    fn new(server: &'a Server) -> Result<Self> {
        Ok(Self { server, last: server.process().processor_time()? })
    }

    fn since(&mut self) -> Result<Duration> {
        let now = self.server.process().processor_time()?;
        let spent = now - self.last;
        self.last = now;
        Ok(spent)
    }
}
