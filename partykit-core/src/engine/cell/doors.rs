//! The two ways to a room's machine, and the driver's own.
//!
//! They differ in what they allow, and in who checks afterwards whether there is work.
//! [`outside`](RoomCell::outside) leads to the machine, and starts or wakes the driver. [`inside`](
//! RoomCell::inside) leads to the turn that runs: the driver polls this code, so the driver looks. [`InTurn`]
//! is the proof. Only the driver can [`report`](Driving::report).

use std::{mem, ops::Deref, sync::Arc, task::Waker, time::Duration};

use smallvec::SmallVec;

use super::{Awake, RoomCell};
use crate::{
    engine::scope,
    machine::{Machine, Output, Scope, TurnId, TurnMut},
};

/// The outputs that the driver takes at once, the first one last. They are few, so that they need no memory of their
/// own.
pub(crate) type Outputs = SmallVec<[Output; 3]>;

/// The proof that this code is a part of a turn, which the driver of the room polls.
#[derive(Debug)]
pub(crate) struct InTurn(TurnId);

impl RoomCell {
    /// The proof, if a turn of this room runs on this thread.
    pub(super) fn in_turn(&self) -> Option<InTurn> {
        scope::current(self).map(|scope| InTurn(scope.turn))
    }

    /// Does something as a part of the running turn, in the transaction whose code runs on this thread.
    /// The driver looks afterwards.
    pub(crate) fn inside<R>(&self, in_turn: &InTurn, act: impl FnOnce(&mut TurnMut<'_>) -> R) -> R {
        let transaction = scope::current(self).map_or(0, |scope| scope.transaction);
        let mut state = self.lock();
        let scope = Scope { turn: in_turn.0, transaction };
        match state.awake().and_then(|awake| awake.machine.turn(scope)) {
            Some(mut turn) => act(&mut turn),
            None => unreachable!("the driver ends a turn when the code of its handler is dropped"),
        }
    }

    /// Does something to the machine from anywhere, with the time. Starts or wakes the driver if
    /// something is to be done then.
    pub(crate) fn outside<R>(self: &Arc<Self>, act: impl FnOnce(&mut Machine, Duration) -> R) -> R {
        self.enter(|state, now| act(&mut state.machine, now))
    }

    /// Wakes all that [watch](RoomCell::watch) and that may go on.
    pub(crate) fn notify(&self) {
        let wakers = self.lock().awake().map(Awake::wakers);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Awake {
    /// Takes outputs, up to the next one that the driver has to act on by itself. There are none in `into` yet.
    fn take_outputs(&mut self, into: &mut Outputs) {
        while let Some(output) = self.machine.poll() {
            self.flushing |= matches!(output, Output::Flush);
            let stop = matches!(
                output,
                Output::Run(..) | Output::Cancel(_) | Output::DropInstance(_) | Output::Flush
            );
            into.push(output);
            if stop || into.len() == into.inline_size() {
                break;
            }
        }
        into.reverse();
    }
}

/// A room that its driver runs. There is one for each run of [`drive`](crate::runtime::drive).
pub(crate) struct Driving {
    cell: Arc<RoomCell>,
}

impl Driving {
    pub(crate) fn new(cell: Arc<RoomCell>) -> Self {
        Self { cell }
    }

    /// The proof for the handler that begins.
    pub(crate) fn begin_turn(&self, turn: TurnId) -> InTurn {
        InTurn(turn)
    }

    /// The time now.
    pub(crate) fn now(&self) -> Duration {
        self.host().elapsed()
    }

    /// Tells the machine what the driver has done or waited for, and the time that was just read. All that watch the
    /// room are woken. Then takes outputs, if there is a place for them, as [`Driving::take_outputs`] does: those that
    /// were taken last have to have left. The driver looks afterwards in any case.
    pub(crate) fn report<R>(
        &self,
        now: Duration,
        into: Option<&mut Outputs>,
        report: impl FnOnce(&mut Machine, Duration) -> R,
    ) -> R {
        let mut state = self.cell.lock();
        let awake = state.wake(&self.cell, now);
        let result = report(&mut awake.machine, now);
        let wakers = awake.wakers();
        if let Some(into) = into {
            awake.flushing = false;
            awake.take_outputs(into);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Takes outputs, up to the next one that the driver has to act on by itself. Keeps the driver's waker.
    /// Returns when the machine wants to be called again.
    pub(crate) fn take_outputs(&self, waker: &Waker, into: &mut Outputs) -> Option<Duration> {
        let (taken, wakers) = self.cell.state.take(waker, |state| {
            let Some(state) = state.awake() else { return (None, Vec::new()) };
            // The outputs that were taken last have left.
            let wakers = if mem::take(&mut state.flushing) {
                mem::take(&mut state.watchers)
            } else {
                Vec::new()
            };
            state.take_outputs(into);
            (state.machine.deadline(), wakers)
        });
        wakers.into_iter().for_each(Waker::wake);
        taken
    }

    /// Ends the driver if there is nothing left to do. No other driver can start in between.
    pub(crate) fn retire(&self) -> bool {
        let retired = self.cell.state.retire(|state| {
            let mut watchers = Vec::new();
            if let Some(awake) = state.awake() {
                if !awake.machine.is_at_rest() {
                    return None;
                }
                watchers = mem::take(&mut awake.watchers);
                state.rest();
            }
            let vacant = state.is_vacant();
            Some((vacant, if vacant { state.release_claim() } else { None }, watchers))
        });
        let Some((vacant, claim, wakers)) = retired else { return false };
        wakers.into_iter().for_each(Waker::wake);
        if let Some(epoch) = claim {
            self.host().backend().release(self.address(), epoch);
        }
        if vacant {
            self.host().vacant(&self.cell);
        }
        true
    }
}

impl Deref for Driving {
    type Target = Arc<RoomCell>;

    fn deref(&self) -> &Arc<RoomCell> {
        &self.cell
    }
}
