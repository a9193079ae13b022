//! Handlers that reject what a client sent.

use super::{
    model::{JobKind, Model, What},
    property::Property,
    world::{Fault, World},
};
use crate::{ErrorId, Reject, Timestamp, machine::Failed, value::failure::Failure};

impl World {
    /// The running handler does.
    pub(super) fn reject(&mut self) {
        let Some(turn) = &self.model.turn else { return };
        let void = turn.void;
        let text = match turn.job {
            JobKind::Request(number) => number.to_string(),
            _ => String::new(),
        };
        let failure = match self.fault {
            Fault::RejectedFails => Failure::Error("planned".into()),
            _ => Failure::Rejected(Reject::bad_request(text)),
        };
        let before = self.machine.stats(self.now).account;
        let tasks = self.model.reject(self.wall());
        self.tasks.retain(|id, _| !tasks.contains(id));
        (self.running, self.waits) = (None, None);
        self.machine.turn_ended(self.now, Err(Failed { failure, id: ErrorId::planned(0) }));
        let after = self.machine.stats(self.now).account;
        let stays = after.resets == before.resets || void;
        self.model.check(Property::Rejected, stays, "a client's fault takes the instance");
        let counted = after.rejected == before.rejected + 1;
        self.model.check(Property::Rejected, counted, "a client's fault is not counted");
    }
}

impl Model {
    /// The running handler rejected what a client sent. Returns the tasks that are taken back.
    pub(super) fn reject(&mut self, wall: Timestamp) -> Vec<u64> {
        let job = self.turn.as_ref().map(|turn| turn.job);
        let spawns = self.fail(wall);
        if let Some(JobKind::Request(request)) = job
            && self.requests[request].answer.is_some()
        {
            self.say(None, What::Respond(request));
        }
        spawns
    }
}
