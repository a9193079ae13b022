use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::future::AbortHandle;

use super::{RoomCell, space::Space};
use crate::{
    Epoch, Refusal, RoomId, RoomStats,
    connection::Owner,
    machine::{Dormant, Machine, Records},
};

/// A room as it is kept: as data while it sleeps and nothing waits, else as a machine.
pub(super) enum State {
    Asleep(Dormant),
    Awake(Box<Awake>),
}

/// The machine, and the wakers of waiting code.
pub(super) struct Awake {
    pub(super) machine: Machine,
    /// The connections that wait for space in the mailbox. `None` if there are none.
    pub(super) space: Option<Box<Space>>,
    /// Wakers of code that waits for the room's sleep, for a commit, or for outputs to leave.
    pub(super) watchers: Vec<Waker>,
    /// The driver is sending outputs.
    pub(super) flushing: bool,
    /// `None` if no task was started since the room woke.
    pub(super) tasks: Option<Box<Tasks>>,
}

/// How the room's tasks are ended, by their numbers.
#[derive(Default)]
pub(super) struct Tasks(pub(super) HashMap<u64, AbortHandle>);

impl State {
    /// The machine, made of the data if the room sleeps.
    pub(super) fn wake(&mut self, cell: &Arc<RoomCell>, now: Duration) -> &mut Awake {
        if let Self::Asleep(dormant) = self {
            let dormant = mem::replace(dormant, Dormant::new());
            let room: Weak<dyn Owner> = Arc::<RoomCell>::downgrade(cell);
            let (options, all) = (cell.kind.options().clone(), cell.host().mailboxes());
            // The memory comes first, so that the machine is made in its place and not moved there.
            let awake = Box::write(
                Box::new_uninit(),
                Awake {
                    machine: dormant.wake(cell.address.room(), options, all, room, now),
                    space: None,
                    watchers: Vec::new(),
                    flushing: false,
                    tasks: None,
                },
            );
            *self = Self::Awake(awake);
        }
        match self {
            Self::Awake(awake) => awake,
            Self::Asleep(_) => unreachable!("it was woken above"),
        }
    }

    /// The machine, if there is one.
    pub(super) fn awake(&mut self) -> Option<&mut Awake> {
        match self {
            Self::Awake(awake) => Some(awake),
            Self::Asleep(_) => None,
        }
    }

    /// Only data is left if the room sleeps and nothing waits.
    pub(super) fn rest(&mut self) {
        if let Self::Awake(awake) = self
            && awake.is_idle()
            && let Some(dormant) = awake.machine.rest()
        {
            *self = Self::Asleep(dormant);
        }
    }

    /// Has `look` see the records of `room`.
    pub(super) fn with_records<R>(
        &mut self,
        room: &RoomId,
        look: impl FnOnce(&mut Records) -> R,
    ) -> R {
        match self {
            Self::Asleep(dormant) => dormant.records().with(room, look),
            Self::Awake(awake) => look(awake.machine.roster().records()),
        }
    }

    pub(super) fn stats(&self, now: Duration) -> RoomStats {
        match self {
            Self::Asleep(dormant) => dormant.stats(now),
            Self::Awake(awake) => awake.machine.stats(now),
        }
    }

    /// Gives the claim back: the next start claims again.
    pub(super) fn release_claim(&mut self) -> Option<Epoch> {
        match self {
            Self::Asleep(dormant) => dormant.release_claim(),
            Self::Awake(awake) => awake.machine.release_claim(),
        }
    }

    pub(super) fn is_vacant(&self) -> bool {
        match self {
            Self::Asleep(dormant) => dormant.is_vacant(),
            Self::Awake(awake) => awake.machine.is_vacant(),
        }
    }
}

impl Awake {
    /// Gives something to the machine. It has to wait for its turn when the mailbox is full.
    pub(super) fn push_in_turn<T>(
        &mut self,
        now: Duration,
        who: u64,
        it: T,
        push: impl FnOnce(&mut Machine, T) -> Result<(), (Refusal, T)>,
    ) -> Result<(), (Refusal, T)> {
        if let Some(space) = &mut self.space
            && space.has_to_queue(who, self.machine.intake())
            && self.machine.intake().takes_events(now)
        {
            return Err((Refusal::Overloaded, it));
        }
        let pushed = push(&mut self.machine, it);
        if !matches!(pushed, Err((Refusal::Overloaded, _))) {
            self.forgo(who);
        }
        pushed
    }

    /// Also returns the wakers of others that may go on.
    pub(super) fn poll_space(
        &mut self,
        who: u64,
        size: usize,
        cx: &mut Context<'_>,
    ) -> (Poll<()>, Vec<Waker>) {
        let mut wakers = Vec::new();
        let space = self.space.get_or_insert_default();
        if !space.is_promised(who) {
            space.wait(who, size, cx.waker(), self.machine.intake());
            // There may be new space since the event was refused.
            space.wake(self.machine.intake(), &mut wakers);
        }
        let is_ready = space.is_promised(who);
        (if is_ready { Poll::Ready(()) } else { Poll::Pending }, wakers)
    }

    pub(super) fn forgo(&mut self, who: u64) {
        if let Some(space) = &mut self.space {
            space.forget(who);
        }
    }

    /// The wakers of all that may go on now.
    pub(super) fn wakers(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.watchers);
        if let Some(space) = &mut self.space {
            space.wake(self.machine.intake(), &mut wakers);
        }
        wakers
    }

    /// Whether no other code waits for the room, or works for it.
    fn is_idle(&self) -> bool {
        self.space.as_ref().is_none_or(|space| space.is_idle())
            && self.watchers.is_empty()
            && !self.flushing
            && self.tasks.as_ref().is_none_or(|tasks| tasks.0.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a room that is awake takes from the allocator, which has a size class there.
    #[test]
    fn it_fits_into_two_kibibytes() {
        assert!(size_of::<Awake>() <= 2048, "{} bytes", size_of::<Awake>());
    }
}
