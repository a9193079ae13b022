//! Connections that each make a room.

use partykit::Result;

use super::{
    Sizes,
    crowd::{Spent, WARM_UP},
    each, own_room, rate,
};
use crate::{
    child::{Allocator, Server},
    crowd::Crowd,
    report::{Goal, Report},
    server::Kind,
};

pub(super) const HANDSHAKES: &str = "handshakes that make a room, a second";
pub(super) const HANDSHAKE_TIME: &str = "processor time of a handshake that makes a room, µs";

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    for _ in 0..sizes.turns {
        for kind in Kind::WITH_ROOMS {
            turn(kind, sizes, report).map_err(|error| format!("{}: {error}", kind.name()))?;
        }
    }
    report.compare(HANDSHAKE_TIME, Kind::Bun, Some(Goal::AtMost(1.0)));
    report.compare(HANDSHAKE_TIME, Kind::Raw, None);
    report.compare(HANDSHAKES, Kind::Bun, None);
    Ok(())
}

/// With a server that is started for it.
pub(super) fn turn(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut crowd = Crowd::new()?;
    let server = Server::start(kind, Allocator::Jemalloc)?;
    let (count, warm_up) = (sizes.fresh_rooms, sizes.fresh_rooms / WARM_UP);
    crowd.connect(server.address(), warm_up, own_room)?;
    let mut spent = Spent::new(&server)?;
    let took = crowd.connect(server.address(), count, |index| own_room(warm_up + index))?;
    let count = count as u64;
    report.record(HANDSHAKES, kind, rate(count, took));
    report.record(HANDSHAKE_TIME, kind, each(count, spent.since()?));
    Ok(())
}
