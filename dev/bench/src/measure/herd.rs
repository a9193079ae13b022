//! A server is killed, and all its clients come back at one moment.

use std::time::Duration;

use partykit::Result;

use super::{Sizes, hall};
use crate::{
    child::{Allocator, Server},
    crowd::Crowd,
    namespace,
    report::{Goal, Report},
};

/// PartySocket gives a handshake up after this time.
const HANDSHAKE: Duration = Duration::from_secs(4);

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let places = (2 * sizes.herd).to_string();
    let server = Server::start_with(&["serve", "hostile", &places], Allocator::Jemalloc)?;
    let port = server.address().port().to_string();
    let mut herd = Crowd::new()?;
    herd.connect(server.address(), sizes.herd, hall)?;
    // That is a kill -9: nobody is told.
    drop(server);
    drop(herd);

    let server = Server::start_with(&["serve", "hostile", &places, &port], Allocator::Jemalloc)?;
    let before = namespace::dropped_by_listeners()?;
    // Fails when one of them is refused.
    let took = Crowd::at_once()?.connect(server.address(), sizes.herd, hall)?;
    let after = namespace::dropped_by_listeners()?;
    for (measure, count) in [
        ("herd: connections that the listener drops", after.0 - before.0),
        ("herd: those of them that found its queue full", after.1 - before.1),
    ] {
        report.claim(measure, "limit", count as f64, Goal::AtMost(0.0));
    }
    let limit = Goal::AtMost(HANDSHAKE.as_secs_f64());
    report.claim("herd: all are back after, s", "limit", took.as_secs_f64(), limit);
    Ok(())
}
