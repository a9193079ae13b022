//! The time limits of a socket, and what becomes of a client that does not keep them.

use std::{sync::atomic::Ordering, time::Duration};

use partykit_core::runtime::CloseReason;

use super::{LAST_WORDS, Phase, Reading, State};
use crate::{
    codec::encode_ping,
    socket::{
        LinkSettings,
        sweeper::{NEVER, Second, past},
    },
};

impl State {
    /// Pings the client. It is given up if it says nothing for `patience`.
    pub(in crate::socket) fn ping(&mut self, settings: &LinkSettings, patience: Duration) {
        if !self.speaks() || self.carriage.is_absent() {
            return;
        }
        let until = settings.sweeper.after(patience);
        if self.trial() == 0 || until < self.trial() {
            (self.heard, self.on_trial) = (until, true);
            // No payload is needed: any sign of life counts as an answer.
            self.send(encode_ping(&[]), settings);
        }
    }

    /// Enforces the time limits that are over.
    pub(in crate::socket) fn enforce(&mut self, settings: &LinkSettings) {
        let now = settings.sweeper.now();
        let is_over = |deadline: Second| deadline > 0 && deadline <= now;
        if is_over(self.deadline()) {
            // If everything is with the operating system, the connection is not reset: the client may still
            // read the last frames.
            if self.behind || self.queue.is_some() {
                self.reset();
            }
            return self.lose(CloseReason::HangsUpTooLate);
        }
        if is_over(self.stall_due(settings)) {
            if self.phase == Phase::Open {
                return self.fall_behind(settings);
            }
            self.reset();
            return self.lose(CloseReason::ReadsNothing);
        }
        if !self.listens() {
            return;
        }
        if is_over(self.trial()) {
            self.reset();
            self.lose(CloseReason::NoAnswer);
        } else if is_over(self.message_due(settings)) {
            self.fail(CloseReason::MessageTooSlow.close(), settings);
        } else if self.trial() == 0 && is_over(past(self.heard, settings.keep_alive)) {
            self.ping(settings, settings.keep_alive);
        }
        self.write(settings);
    }

    /// When [`State::enforce`] may have something to do.
    pub(in crate::socket) fn due(&self, settings: &LinkSettings) -> Second {
        if self.carriage.is_absent() || self.phase == Phase::Ended {
            return NEVER;
        }
        let deadline = if self.deadline() > 0 { self.deadline() } else { NEVER };
        let due = deadline.min(self.stall_due(settings));
        if !self.listens() {
            return due;
        }
        let silence =
            if self.trial() > 0 { self.trial() } else { past(self.heard, settings.keep_alive) };
        due.min(silence).min(self.message_due(settings))
    }

    fn message_due(&self, settings: &LinkSettings) -> Second {
        let begun = self.rare.as_ref().map_or(0, |rare| rare.begun);
        if begun > 0 { past(begun, settings.message_timeout) } else { NEVER }
    }

    /// When the client is given up because it reads nothing. For last frames the phase has a deadline, so
    /// this applies only to clients that are behind.
    fn stall_due(&self, settings: &LinkSettings) -> Second {
        match &self.queue {
            Some(queue) if self.behind => past(queue.moved(), settings.last_words),
            Some(queue) if self.phase != Phase::Draining => {
                past(queue.moved(), settings.write_stall)
            }
            _ => NEVER,
        }
    }

    /// Whether a silent client may be gone. Silence means nothing while nothing is read.
    fn listens(&self) -> bool {
        self.speaks() && self.reading == Reading::On
    }

    /// Gives the client up because too much waits for it.
    pub(in crate::socket) fn fall_behind(&mut self, settings: &LinkSettings) {
        if !self.speaks() {
            return;
        }
        settings.slow_clients.fetch_add(1, Ordering::Relaxed);
        settings.meter.slow_client();
        self.behind = true;
        self.fail(CloseReason::TooFarBehind.close(), settings);
        // The last frames have a time limit of their own.
        if let Some(queue) = &mut self.queue {
            queue.restart(settings.sweeper.now());
        }
    }

    /// Gives the client up because too much waits for all clients. If much waits for this one, it is dropped
    /// at once, and the client gets no Close.
    pub(in crate::socket) fn give_up(&mut self, settings: &LinkSettings) {
        self.fall_behind(settings);
        if self.behind && self.waiting() > LAST_WORDS {
            self.reset();
            self.lose(CloseReason::NoSpace);
            self.queue = None;
        }
    }
}
