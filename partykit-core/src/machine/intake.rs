//! What a room takes in, and what has to wait outside.

use std::time::Duration;

use super::{Event, Machine, mailbox::Bounds};
use crate::{Connection, Handler, Refusal};

/// What there is space for. Made with [`Machine::intake`].
#[derive(Clone, Copy)]
pub(crate) struct Intake<'a> {
    machine: &'a Machine,
}

impl Machine {
    pub(crate) fn intake(&self) -> Intake<'_> {
        Intake { machine: self }
    }

    /// Whether an event may enter the mailbox.
    pub(super) fn admits(&mut self, now: Duration, event: &Event) -> Result<(), Refusal> {
        let is_order = event.order().is_some() && !self.draining;
        if !self.intake().takes_events(now) && !is_order {
            if matches!(event, Event::Message { .. }) && !self.draining {
                self.accountant.dropped_message();
            }
            return Err(match self.draining {
                true => Refusal::ShuttingDown,
                false => Refusal::Unavailable(self.refused_until - now),
            });
        }
        // "Limits": connections of a room.
        if matches!(event, Event::Connect { .. })
            && self.roster.len() >= self.options.max_connections
        {
            return Err(Refusal::Full);
        }
        if self.intake().has_space_for(event) { Ok(()) } else { Err(Refusal::Overloaded) }
    }
}

impl Intake<'_> {
    /// Whether events are refused only for want of space.
    pub(crate) fn takes_events(self, now: Duration) -> bool {
        !self.machine.draining && now >= self.machine.refused_until
    }

    /// Whether a message of `size` bytes has space beside others that are still to come. A room that goes
    /// down takes no more, so that its sockets are not read.
    pub(crate) fn has_space_beside(self, events: usize, bytes: usize, size: usize) -> bool {
        let bounds = Bounds::messages(&self.machine.options);
        !self.machine.draining
            && !self.has_to_wait(events, bytes, size)
            && self.machine.mailbox.has_space_beside(bounds, (events, bytes), size)
    }

    /// Whether a message of `size` bytes has space beside those that wait of the same connection.
    pub(crate) fn has_space_of(self, connection: u64, size: usize) -> bool {
        let bounds = Bounds::one_connection(&self.machine.options);
        self.machine.mailbox.has_space_of(connection, bounds, size)
    }

    /// The connection whose message is handled now, if what waits of it is at most half of what may.
    pub(crate) fn half_free_sender(self) -> Option<u64> {
        let turn = self.machine.turn.as_ref().filter(|it| it.handler == Handler::OnMessage)?;
        let sender = turn.connection.as_ref().map(Connection::key)?;
        let bounds = Bounds::one_connection(&self.machine.options);
        self.machine.mailbox.is_half_free(sender, bounds).then_some(sender)
    }

    /// Whether no event waits.
    pub(crate) fn is_empty(self) -> bool {
        self.machine.mailbox.is_empty()
    }

    /// "When there is too much": a close and an alarm always get in, and requests and connects have
    /// places that messages cannot take.
    fn has_space_for(self, event: &Event) -> bool {
        let (mailbox, options) = (&self.machine.mailbox, &self.machine.options);
        let size = event.size();
        match event {
            // Without them a room that is full would stay so, or forget its alarm.
            Event::Alarm { .. } | Event::Order { .. } => true,
            Event::Connect { .. } => {
                mailbox.has_space_to_connect(Bounds::connects(options), size)
                    && !self.has_to_wait(0, 0, size)
            }
            Event::Request { .. } => {
                mailbox.has_space_beside(Bounds::requests(options), (0, 0), size)
                    && !self.has_to_wait(0, 0, size)
            }
            Event::Message { sender, .. } => {
                self.has_space_beside(0, 0, size) && self.has_space_of(sender.key(), size)
            }
            _ => self.has_space_beside(0, 0, size),
        }
    }

    /// Whether all rooms together have no space for `size` bytes more in this one's mailbox, beside what
    /// was promised.
    fn has_to_wait(self, events: usize, bytes: usize, size: usize) -> bool {
        let mailbox = &self.machine.mailbox;
        let next = self.machine.turn.is_none() && mailbox.is_empty() && events == 0;
        mailbox.has_to_wait(bytes, size, next)
    }
}
