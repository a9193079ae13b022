//! What an operator does to a room from outside of it.

use std::time::Duration;

use super::{Effect, Machine, alarm::Errand, event::Event, turn::Turn};
use crate::{Connection, value::order::Order};

impl Machine {
    /// A turn that has erased the room has succeeded: the next start meets a new room. What could bring
    /// back what was stored goes: the instance with the end of this turn, and the tasks.
    pub(super) fn forget_past(&mut self, now: Duration) {
        self.blank_at = Some(self.gate.written());
        self.start_failures = 0;
        self.remembered_until = None;
        self.refused_until = Duration::ZERO;
        self.cancel_tasks(now);
    }

    /// Whether nothing is stored, nor about to be, as far as the room knows without asking.
    pub(super) fn is_blank(&self) -> bool {
        self.blank_at == Some(self.gate.written())
    }
}

impl Turn {
    /// Whether it deletes all that the room stores, for an operator.
    pub(super) fn erases(&self) -> bool {
        self.order == Some(Order::Erase) || self.errand == Some(Errand::Order(Order::Erase))
    }

    /// Whether an effect is for the connection that is connecting: it waits for the handshake's answer.
    pub(super) fn is_for_new(new: &Connection, effect: &Effect) -> bool {
        matches!(
            effect,
            Effect::Answer(to, _)
                | Effect::Close(to, _)
                | Effect::HangUp(to, _) if to.key() == new.key()
        )
    }
}

impl Event {
    /// What an operator wants.
    pub(super) fn order(&self) -> Option<Order> {
        match self {
            Self::Order { order, .. } => Some(*order),
            _ => None,
        }
    }
}
