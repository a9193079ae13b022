//! What the handler does that runs, and how it ends.

use std::panic::Location;

use bytes::Bytes;

use super::{
    model::{JobKind, What},
    op::{Ending, Op},
    property::Property,
    world::{Fault, Task, World},
};
use crate::{
    Body, Close, ErrorId, Message, Response, RoomAddress, RoomId,
    connection::outgoing::Shared,
    machine::{Answer, CancelReason, Failed, Scope, TransactionId, TurnMut},
    value::failure::Failure,
};

impl World {
    pub(super) fn handler_does(&mut self, op: &Op) {
        match *op {
            Op::Put(key) => self.write(false, Some((key, true))),
            Op::Delete(key) => self.write(false, Some((key, false))),
            Op::Clear => self.write(true, None),
            Op::SetAlarm(millis) => self.set_alarm(millis),
            Op::DeleteAlarm => self.delete_alarm(),
            Op::WriteNothing => assert!(self.turn().write(Vec::new()).is_ok(), "it is small"),
            Op::Send(n) => self.send(self.running, n),
            Op::Broadcast { tagged, except } => {
                let except = except.and_then(|n| self.client(n));
                self.broadcast(self.running, tagged, except);
            }
            Op::Close(n) => self.close(self.running, n),
            Op::SetState(n) => {
                if let Some(client) = self.client(n) {
                    let state = Some(Bytes::from(self.model.next_said().to_string()));
                    self.model.set_state(client, state.clone());
                    let connection = self.model.clients[client].connection.clone();
                    assert!(self.turn().set_state(&connection, state).is_ok(), "it is small");
                }
            }
            Op::Begin => {
                self.model.begin_transaction();
                let begun = self.turn().begin_transaction();
                self.transactions.push(begun.expect("it is inside of the innermost"));
            }
            Op::End { keep } => self.end_transaction(keep),
            Op::Sync => {
                let nested = self.model.transactions() > 0;
                if !nested {
                    self.model.sync();
                }
                let synced = matches!(self.turn().sync(), Ok(Some(_)));
                self.model.check(Property::Commits, synced != nested, "sync in a transaction");
            }
            Op::Spawn => {
                let (now, holder) = (self.now, ("task", Location::caller()));
                if let Some(id) = self.turn().reserve_task(now, holder) {
                    self.tasks.insert(id, Task::Announced);
                    self.model.spawn(id);
                    self.turn().spawn(id, Box::pin(std::future::ready(())));
                }
            }
            Op::Tell => self.tell(),
            Op::TakeGuard if self.fault == Fault::HiddenGuard => self.guards.push(None),
            Op::TakeGuard => {
                let (now, holder) = (self.now, ("guard", Location::caller()));
                let id = self.turn().keep_awake(now, holder);
                self.guards.push(Some(id));
            }
            Op::Finish(ending) => self.finish(ending),
            _ => {}
        }
    }

    fn write(&mut self, clear: bool, key: Option<(u8, bool)>) {
        let key = key.map(|(key, put)| (Bytes::from(vec![b'k', key]), put));
        let Some(batch) = self.model.write(clear, key) else { return };
        if clear {
            self.turn().clear();
        }
        let written = self.turn().write(batch.writes.into_iter().collect());
        assert!(written.is_ok(), "it is small");
    }

    pub(super) fn send(&mut self, turn: Option<u64>, n: u8) {
        let Some(client) = self.client(n) else { return };
        let number = self.model.next_said();
        if self.model.is_open(client) {
            self.model.say(turn, What::Frame(number, client));
        }
        let connection = self.model.clients[client].connection.clone();
        match turn {
            Some(_) => self.turn().send(&connection, message(number)),
            None => self.machine.send(&connection, message(number)),
        };
    }

    pub(super) fn broadcast(&mut self, turn: Option<u64>, tagged: bool, except: Option<usize>) {
        let number = self.model.next_said();
        for client in self.model.receivers(tagged, except) {
            self.model.say(turn, What::Frame(number, client));
        }
        let except = except.map(|client| self.model.clients[client].connection.clone());
        let tag = tagged.then_some("tag");
        match turn {
            Some(_) => self.turn().broadcast(tag, except.as_slice(), Shared::new(message(number))),
            None => self.machine.broadcast(tag, Shared::new(message(number))),
        };
    }

    pub(super) fn close(&mut self, turn: Option<u64>, n: u8) {
        let Some(client) = self.client(n) else { return };
        let number = self.model.next_said();
        if self.model.is_open(client) {
            self.model.say(turn, What::Close(number, client));
        }
        let close = Close::new(4000, number.to_string()).expect("a close");
        let connection = self.model.clients[client].connection.clone();
        match turn {
            Some(_) => self.turn().close(&connection, close),
            None => self.machine.close(connection.peer(), close),
        };
    }

    fn tell(&mut self) {
        let Some(turn) = self.running else { return };
        let number = self.model.next_said();
        self.model.say(Some(turn), What::Tell(number));
        let to = RoomAddress::new("main", RoomId::new("other").expect("a room id"));
        self.turn().tell(to, http::Request::new(Body::from(number.to_string())));
    }

    fn end_transaction(&mut self, keep: bool) {
        let tasks = self.model.end_transaction(keep);
        self.tasks.retain(|id, _| !tasks.contains(id));
        if let Some(id) = self.transactions.pop() {
            let now = self.now;
            self.turn().end_transaction(now, id, keep);
        }
    }

    pub(super) fn innermost(&self) -> TransactionId {
        self.transactions.last().copied().unwrap_or(0)
    }

    /// The handler that runs, inside the innermost transaction.
    pub(super) fn turn(&mut self) -> TurnMut<'_> {
        let turn = self.running.expect("a handler runs");
        let transaction = self.innermost();
        self.machine.turn(Scope { turn, transaction }).expect("its turn runs")
    }

    pub(super) fn finish(&mut self, ending: Ending) {
        let done = matches!(ending, Ending::Done | Ending::Streaming);
        while self.model.transactions() > 0 {
            self.end_transaction(done);
        }
        let job = self.model.turn.as_ref().map(|turn| turn.job);
        let is_clients = !matches!(job, Some(JobKind::Start | JobKind::Alarm(_)));
        if ending == Ending::Reject && is_clients {
            return self.reject();
        }
        if !done {
            let failure = match ending {
                Ending::Panic => Failure::Panic("planned".to_owned()),
                _ => Failure::Error("planned".into()),
            };
            return self.fail(failure);
        }
        let answer = match job {
            Some(JobKind::Request(number)) => {
                if ending == Ending::Streaming {
                    self.bodies += 1;
                    let now = self.now;
                    self.turn().open_body(now);
                }
                Response::new(Body::from(number.to_string())).into()
            }
            _ => Answer::Done,
        };
        self.model.finish();
        self.running = None;
        self.instance = true;
        self.machine.turn_ended(self.now, Ok(answer));
    }

    fn fail(&mut self, failure: Failure) {
        let tasks = self.model.fail(self.wall());
        self.tasks.retain(|id, _| !tasks.contains(id));
        (self.running, self.waits) = (None, None);
        self.machine.turn_ended(self.now, Err(Failed { failure, id: ErrorId::planned(0) }));
    }

    /// The driver drops the handler's future; what it held is dropped with it, and may say something.
    pub(super) fn cancel(&mut self, reason: CancelReason) {
        let Some(turn) = self.running else { return };
        while self.model.transactions() > 0 {
            self.end_transaction(false);
        }
        if self.waits.is_none() {
            self.broadcast(Some(turn), false, None);
        }
        self.fail(match reason {
            CancelReason::CommitFailed(_) => Failure::Commit("planned".to_owned()),
            CancelReason::SaidTooMuch { bytes, limit } => Failure::SaidTooMuch { bytes, limit },
            CancelReason::Timeout(limit) => Failure::Timeout(limit),
        });
    }
}

fn message(number: u64) -> Message {
    Message::from(number.to_string())
}
