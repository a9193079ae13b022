use std::collections::VecDeque;

use super::{Event, WakeCause};
use crate::Connection;

/// The events that wait for a room, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    events: VecDeque<Event>,
    bytes: usize,
    /// Closes that arrived at a room that could not start; the next start takes them first.
    kept: VecDeque<Event>,
}

impl Mailbox {
    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += event.size();
        self.events.push_back(event);
    }

    /// Puts an event before all others.
    pub(crate) fn push_front(&mut self, event: Event) {
        self.bytes += event.size();
        self.events.push_front(event);
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= event.size();
        Some(event)
    }

    /// Keeps a close for the next start.
    pub(crate) fn keep(&mut self, event: Event) {
        self.kept.push_back(event);
    }

    /// The room has started: what was kept is next.
    pub(crate) fn unkeep(&mut self) {
        while let Some(event) = self.kept.pop_back() {
            self.push_front(event);
        }
    }

    /// Removes the first event for which `is` holds.
    pub(crate) fn remove(&mut self, mut is: impl FnMut(&Event) -> bool) -> Option<Event> {
        if let Some(at) = self.kept.iter().position(&mut is) {
            return self.kept.remove(at);
        }
        let at = self.events.iter().position(is)?;
        let event = self.events.remove(at)?;
        self.bytes -= event.size();
        Some(event)
    }

    pub(crate) fn has_message_of(&self, connection: &Connection) -> bool {
        let is_it =
            |event: &Event| matches!(event, Event::Message { sender, .. } if sender == connection);
        self.events.iter().any(is_it)
    }

    /// What a sleeping room would wake for.
    pub(crate) fn front(&self) -> Option<&Event> {
        self.events.front()
    }

    pub(crate) fn wake_cause(&self) -> Option<WakeCause> {
        self.front().map(Event::wake_cause)
    }

    pub(crate) fn is_full(&self, events: usize, bytes: usize) -> bool {
        self.events.len() >= events || self.bytes >= bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The bytes that the waiting events keep in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }
}
