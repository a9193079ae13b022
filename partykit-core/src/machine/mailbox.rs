use std::{collections::VecDeque, sync::Arc};

use super::{
    event::Event,
    lane::Lane,
    mailboxes::{Mailboxes, Portion},
    shares::{Share, Shares},
    wake_cause::WakeCause,
};
use crate::Options;

/// The events that wait for a room, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    events: Lane<[Event; 1]>,
    bytes: usize,
    /// The connects among them. They have bounds of their own, so they take no place of other events.
    connects: Share,
    /// The share of what all rooms have together.
    portion: Portion,
    /// What each connection has of the messages that wait.
    shares: Shares,
    /// Closes that arrived at a room that could not start; the next start takes them first.
    kept: VecDeque<Event>,
}

/// How much may wait, of one kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    events: usize,
    bytes: usize,
}

impl Bounds {
    /// For messages, and for values of tasks.
    pub(crate) fn messages(options: &Options) -> Self {
        Self { events: options.mailbox_events, bytes: options.mailbox_bytes }
    }

    /// For requests: an eighth more, which messages cannot take.
    pub(crate) fn requests(options: &Options) -> Self {
        let Self { events, bytes } = Self::messages(options);
        let add_eighth = |limit: usize| limit.saturating_add((limit / 8).max(1));
        Self { events: add_eighth(events), bytes: add_eighth(bytes) }
    }

    /// For connects, beside all else: as many as there may be connections, and four times the bytes. After
    /// a restart all clients of a room come at one moment, and none of them should be turned away.
    pub(crate) fn connects(options: &Options) -> Self {
        Self { events: options.max_connections, bytes: options.mailbox_bytes.saturating_mul(4) }
    }

    /// For the messages of one connection: an eighth of the events, or 16 if that is more, and a quarter
    /// of the bytes.
    pub(crate) fn one_connection(options: &Options) -> Self {
        let all = Self::messages(options);
        Self { events: (all.events / 8).max(16), bytes: all.bytes / 4 }
    }

    /// Whether `size` bytes more fit beside what waits. An empty mailbox takes one event of any size.
    pub(crate) fn admit(self, events: usize, bytes: usize, size: usize) -> bool {
        events == 0 || (events < self.events && bytes.saturating_add(size) <= self.bytes)
    }
}

impl Mailbox {
    /// An empty one. What waits in it is counted together with what waits for other rooms.
    pub(crate) fn of(all: Option<Arc<Mailboxes>>) -> Self {
        Self { portion: Portion::of(all), ..Self::default() }
    }

    /// Whether `size` bytes more have to wait until this room has less, because all rooms together have too
    /// much. The event that is `next`, with no other before it, does not wait.
    pub(crate) fn has_to_wait(&self, bytes: usize, size: usize, next: bool) -> bool {
        let would_be = self.bytes.saturating_add(bytes).saturating_add(size);
        would_be > Portion::STEP && !next && self.portion.is_short()
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.count(&event);
        self.events.push_back(event);
    }

    /// Puts an event before all others.
    pub(crate) fn push_front(&mut self, event: Event) {
        self.count(&event);
        self.events.push_front(event);
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.discount(&event);
        Some(event)
    }

    /// The first event that is no message of these connections.
    pub(crate) fn pop_but_of(&mut self, connections: &[u64]) -> Option<Event> {
        if connections.is_empty() {
            return self.pop();
        }
        let is_next = |event: &Event| match event {
            Event::Message { sender, .. } => !connections.contains(&sender.key()),
            _ => true,
        };
        let at = self.events.iter().position(is_next)?;
        let event = self.events.remove(at)?;
        self.discount(&event);
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
        self.discount(&event);
        Some(event)
    }

    pub(crate) fn has_message_of(&self, connection: u64) -> bool {
        self.shares.get(connection).is_some()
    }

    /// What a sleeping room would wake for.
    pub(crate) fn front(&self) -> Option<&Event> {
        self.events.front()
    }

    pub(crate) fn wake_cause(&self) -> Option<WakeCause> {
        self.front().map(Event::wake_cause)
    }

    /// Whether an event of `size` bytes that is not a connect fits within `bounds`, beside the events and
    /// bytes that are still to come.
    pub(crate) fn has_space_beside(
        &self,
        bounds: Bounds,
        (events, bytes): (usize, usize),
        size: usize,
    ) -> bool {
        let Share { events: connects, bytes: of_connects } = self.connects;
        let (events, bytes) =
            (self.events.len() - connects + events, self.bytes - of_connects + bytes);
        bounds.admit(events, bytes, size)
    }

    /// Whether a connect of `size` bytes fits within `bounds`.
    pub(crate) fn has_space_to_connect(&self, bounds: Bounds, size: usize) -> bool {
        bounds.admit(self.connects.events, self.connects.bytes, size)
    }

    /// Whether a message of `size` bytes fits within what one connection may have here.
    pub(crate) fn has_space_of(&self, connection: u64, bounds: Bounds, size: usize) -> bool {
        let share = self.shares.get(connection).unwrap_or_default();
        bounds.admit(share.events, share.bytes, size)
    }

    /// Whether a connection has at most half of what it may have here.
    pub(crate) fn is_half_free(&self, connection: u64, bounds: Bounds) -> bool {
        let share = self.shares.get(connection).unwrap_or_default();
        share.events <= bounds.events / 2 && share.bytes <= bounds.bytes / 2
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

    /// Gives back the memory that a busy time took.
    pub(crate) fn shrink(&mut self) {
        self.events.shrink(0);
        self.shares.shrink();
    }

    fn count(&mut self, event: &Event) {
        let size = event.size();
        self.bytes += size;
        self.portion.adjust(self.bytes);
        match event {
            Event::Message { sender, .. } => self.shares.add(sender.key(), size),
            Event::Connect { .. } => {
                self.connects.events += 1;
                self.connects.bytes += size;
            }
            _ => {}
        }
    }

    fn discount(&mut self, event: &Event) {
        let size = event.size();
        self.bytes -= size;
        self.portion.adjust(self.bytes);
        match event {
            Event::Message { sender, .. } => self.shares.subtract(sender.key(), size),
            Event::Connect { .. } => {
                self.connects.events -= 1;
                self.connects.bytes -= size;
            }
            _ => {}
        }
    }
}
