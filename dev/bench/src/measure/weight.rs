//! What a server's memory weighs while nothing happens.

use std::{thread, time::Duration};

use partykit::Result;

use super::Sizes;
use crate::{
    child::{Allocator, Server},
    heap::Heap,
    server::Kind,
};

/// Connections that are there before anything is weighed: what the first ones cost is the server's code and
/// its threads' buffers.
pub(super) const FIRST: usize = 16;

/// The same where a single connection weighs little: allocators keep some memory for each thread, and a few hundred
/// connections fill that.
pub(super) const WARM: usize = 512;

/// How a server is weighed.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    kind: Kind,
    allocator: Allocator,
    /// From the last event on.
    rest: Duration,
    /// Rooms do not fall asleep so soon, and are put to sleep.
    is_short: bool,
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    /// The process's share of memory.
    pub(super) share: f64,
    /// What the program has asked for. `None` if its allocator does not tell.
    pub(super) heap: Option<f64>,
}

impl Scales {
    pub(super) fn new(kind: Kind, allocator: Allocator, sizes: &Sizes) -> Self {
        // Raw has no rooms that fall asleep, and tungstenite none at all; Bun gets as long as we do.
        let rest = match kind {
            Kind::PartyKit | Kind::Bun => allocator.rest_of_rooms(),
            _ => allocator.rest(),
        };
        Self { kind, allocator, rest: rest.min(sizes.rest), is_short: sizes.rest < rest }
    }

    /// Waits until everything sleeps that does, and weighs it then. No client may have been silent for long,
    /// as none answers pings meanwhile: those come after 30 s.
    ///
    /// # Errors
    ///
    /// When one of our rooms is awake then.
    pub(super) fn settled(
        &self,
        server: &mut Server,
        rooms: impl Iterator<Item = String>,
    ) -> Result<Weight> {
        thread::sleep(self.rest);
        if self.kind == Kind::PartyKit {
            if self.is_short {
                for room in rooms {
                    server.ask(&format!("evict {room}"))?;
                }
            }
            let awake = server.count("awake")?;
            if awake > 0 {
                return Err(format!("{awake} rooms are awake, {:?} later", self.rest).into());
            }
        }
        self.now(server)
    }

    /// Weighs it as it is.
    pub(super) fn now(&self, server: &mut Server) -> Result<Weight> {
        let share = server.process().memory()? as f64;
        let tells = (self.kind, self.allocator) == (Kind::PartyKit, Allocator::Jemalloc);
        let heap =
            if tells { Some(Heap::parse(&server.ask("heap")?)?.allocated as f64) } else { None };
        Ok(Weight { share, heap })
    }
}

impl Weight {
    /// What one of this many weighs that have come since.
    pub(super) fn of_one(self, before: Self, count: usize) -> Self {
        let of_one = |now: f64, before: f64| (now - before) / count as f64;
        let heap = self.heap.zip(before.heap).map(|(now, before)| of_one(now, before));
        Self { share: of_one(self.share, before.share), heap }
    }
}
