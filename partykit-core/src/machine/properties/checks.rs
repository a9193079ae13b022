//! What has to hold whenever nothing moves, and what is owed at the end.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{client::Client, op::Op, property::Property, world::World};
use crate::machine::RoomPhase;

impl World {
    pub(super) fn check(&mut self) {
        self.model.check_late();
        self.check_answers();
        for client in 0..self.model.clients.len() {
            let is = self.model.clients[client].connection.committed_state();
            let ought = self.model.state(client);
            if is != ought {
                let what = format!("the state of {client} is {is:?} and not {ought:?}");
                self.model.broken(Property::States, what);
            }
        }
        self.check_reads();
        self.check_alarm();
        let awake = self.machine.phase == RoomPhase::Awake;
        let idle = self.idle();
        let reasons = self.machine.reasons();
        if reasons.is_empty() != idle {
            let what = format!("idle is {idle} and the reasons are {reasons:?}");
            self.model.broken(Property::Sleep, what);
        }
        let deadline = self.machine.deadline();
        if awake && idle {
            self.model.check(Property::Sleep, deadline.is_some(), "it will never sleep");
        }
        if self.running.is_some() {
            self.model.check(Property::Deadlines, deadline.is_some(), "a handler has no deadline");
        }
        let waiting = self.machine.mailbox.len();
        let waits = awake || self.running.is_some() || self.claiming || waiting == 0;
        self.model.check(Property::Sleep, waits, "it sleeps, and events wait");
        let works = self.running.is_some() || self.claiming || self.commit.is_some();
        let stuck = awake && !works && waiting > 0;
        self.model.check(Property::Sleep, !stuck, "events wait, and nothing happens");
        let vacant = self.machine.is_vacant();
        let gone = self.model.clients.iter().all(|client| client.ended || client.refused);
        let nothing = idle && !awake && gone && !self.owes_close() && self.holders() == 0;
        self.model.check(
            Property::Sleep,
            !vacant || nothing,
            "it says that it is vacant, and something is left",
        );
    }

    fn check_reads(&mut self) {
        if self.model.turn.as_ref().is_none_or(|turn| turn.void) || self.running.is_none() {
            return;
        }
        let view = self.model.view();
        let keys: BTreeSet<Bytes> = view.keys().chain(self.store.keys()).cloned().collect();
        for key in keys {
            let pending = self.turn().lookup(&key);
            let is = pending.or_ask(|| self.store.get(&key).cloned());
            let ought = view.get(&key).cloned();
            if is != ought {
                let what = format!("{key:?} reads {is:?} and not {ought:?}");
                self.model.violations.push((Property::Reads, what));
            }
        }
    }

    fn check_answers(&mut self) {
        for request in &mut self.model.requests {
            let Some(answer) = request.answer.as_mut().filter(|_| !request.done) else { continue };
            match answer.try_recv() {
                Ok(None) => {}
                Ok(Some(_)) => request.done = true,
                Err(_) => {
                    request.done = true;
                    let what = "a request is dropped without an answer".to_owned();
                    self.model.violations.push((Property::Answers, what));
                }
            }
        }
    }

    pub(super) fn check_owed(&mut self) {
        let answered = self.model.requests.iter().all(|request| request.done);
        self.model.check(Property::Answers, answered, "a request has no answer");
        let unanswered = |client: &Client| client.answers == 0 && !client.ended;
        let met = !self.model.clients.iter().any(unanswered);
        self.model.check(Property::Answers, met, "a handshake has no answer");
        let owes = self.owes_close();
        self.model.check(Property::Closes, !owes, "a connection has ended without its on_close");
    }

    pub(super) fn everybody_leaves(&mut self) {
        while self.client(0).is_some() {
            self.step(&Op::Leave(0));
            self.all_ends();
        }
    }

    pub(super) fn idle(&self) -> bool {
        let awake = self.machine.phase == RoomPhase::Awake;
        let here = |client: &Client| !client.ended && !client.refused;
        let connections = !self.options.hibernate && awake && self.model.clients.iter().any(here);
        self.running.is_none()
            && !self.claiming
            && self.machine.mailbox.is_empty()
            && self.commit.is_none()
            && self.model.pending.is_empty()
            && self.model.held().next().is_none()
            && (self.drained || (self.holders() == 0 && !connections))
    }

    pub(super) fn holders(&self) -> usize {
        self.tasks.len() + self.guards.len() + self.bodies
    }

    pub(super) fn owes_close(&self) -> bool {
        let owed = |client: &Client| client.in_room && client.ended && client.on_close == 0;
        self.model.clients.iter().any(|client| owed(client) && !client.lost)
    }
}
