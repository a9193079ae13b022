//! All around a machine: what its driver, its store and its clients do, step by step, with the model
//! watching.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_channel::oneshot;

use super::{
    alarms::Waits,
    client::{Client, Request},
    model::{Model, What},
    op::{Ending, Fate, Op, Setup},
    property::Property,
    rows::{Rows, Segment, apply},
};
use crate::{
    Batch, Body, Claim, Close, Connection, Epoch, ErrorId, Message, Options, Refusal, RoomId,
    TaskResult, Timestamp,
    connection::Owner,
    engine::cell::RoomCell,
    machine::{Answer, Dormant, Effect, Event, Failed, Machine, RoomPhase, TransactionId},
    testing::bare::NoSocket,
    value::chain::Chain,
    value::failure::Failure,
};

/// The receiver of a request's answer.
pub(super) type Answered = oneshot::Receiver<Result<Answer, Refusal>>;

/// Something that is done wrong on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// A client's fault is an error like any other.
    RejectedFails,
    /// The gate lets everything pass.
    OpenGate,
    /// The store forgets a commit that it reports as done.
    LostCommit,
    /// The driver delivers one frame after the next one.
    Overtaken,
    /// The driver drops an answer.
    LostAnswer,
    /// A guard is taken, and the machine is not told.
    HiddenGuard,
    /// What a failed commit undid is done again.
    StateKept,
    /// An alarm is removed when it begins to ring.
    RemovedAlarm,
    /// The driver's clock is ahead.
    EarlyRing,
    /// The store forgets when a room is to be woken.
    NoWakeUp,
    /// The handler of an alarm begins before its attempt is stored.
    EarlyHandler,
    /// What is stored of an attempt has the room woken at once.
    NoPause,
}

pub(super) struct World {
    pub(super) model: Model,
    pub(super) machine: Machine,
    pub(super) fault: Fault,
    pub(super) options: Options,
    pub(super) now: Duration,
    pub(super) store: Rows,
    /// When the store says that the room is to be woken.
    pub(super) wake_up: Option<Timestamp>,
    pub(super) epoch: u64,
    pub(super) claiming: bool,
    pub(super) commit: Option<(Arc<Batch>, Epoch)>,
    pub(super) instance: bool,
    pub(super) running: Option<u64>,
    /// What the running handler waits for before it begins.
    pub(super) waits: Option<Waits>,
    /// When the process began that runs now.
    pub(super) started: Duration,
    /// The open ones, the innermost last.
    pub(super) transactions: Vec<TransactionId>,
    pub(super) tasks: BTreeMap<u64, Task>,
    pub(super) guards: Vec<Option<u64>>,
    pub(super) bodies: usize,
    pub(super) drained: bool,
    pub(super) sleeps: u64,
    pub(super) arrivals: u64,
    pub(super) handled: u64,
    pub(super) swapped: Option<Effect>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Task {
    Announced,
    Running,
}

impl World {
    pub(super) fn new(setup: &Setup, fault: Fault) -> Self {
        let mut options = Options::new().hibernate(setup.hibernate);
        if setup.tight {
            options = options.mailbox(3, 1 << 20).max_connections(3).max_held(2 * 257);
            // That a handler may say too much is no part of the model.
            options.said_bytes = usize::MAX;
        }
        Self {
            model: Model::default(),
            machine: machine(&options, Duration::ZERO, fault),
            fault,
            options,
            now: Duration::ZERO,
            store: Rows::new(),
            wake_up: None,
            epoch: 0,
            claiming: false,
            commit: None,
            instance: false,
            running: None,
            waits: None,
            started: Duration::ZERO,
            transactions: Vec::new(),
            tasks: BTreeMap::new(),
            guards: Vec::new(),
            bodies: 0,
            drained: false,
            sleeps: 0,
            arrivals: 0,
            handled: 0,
            swapped: None,
        }
    }

    /// One step, and everything that follows from it at once.
    pub(super) fn step(&mut self, op: &Op) {
        if self.running.is_some() && self.waits.is_none() {
            self.handler_does(op);
        }
        self.happens(op);
        self.pump();
        self.rest();
    }

    /// Only data is left of a room that sleeps while nothing waits. The next input finds a machine again.
    fn rest(&mut self) {
        if let Some(dormant) = self.machine.rest() {
            let before = dormant.stats(self.now).account;
            self.machine = awake(dormant, &self.options, self.now);
            self.machine.gate.switched_off = self.fault == Fault::OpenGate;
            let after = self.machine.stats(self.now).account;
            self.model.check(Property::Sleep, before == after, "a rest changes the account");
            self.check();
        }
    }

    /// Lets everything end that can end; what is owed then is missing.
    pub(super) fn settle(&mut self) {
        if !self.drained {
            self.all_ends();
            // The longest time in which a room that cannot start refuses.
            self.pass(Duration::from_secs(30));
            self.step(&Op::Request { reply: true });
            self.all_ends();
            self.ring_out();
        }
        self.all_ends();
        if !self.options.hibernate {
            self.everybody_leaves();
        }
        self.pass(self.options.hibernate_after);
        let asleep = self.machine.phase == RoomPhase::Asleep;
        self.model.check(Property::Sleep, asleep, "nothing is left to do, and it does not sleep");
        self.everybody_leaves();
        self.pass(self.options.hibernate_after);
        let vacant = self.machine.is_vacant();
        self.model.check(Property::Sleep, vacant, "all clients are gone, and it is not vacant");
        self.check_owed();
    }

    fn happens(&mut self, op: &Op) {
        match *op {
            Op::Connect { tagged } => self.connect(tagged),
            Op::Message(n) => {
                if let Some(client) = self.client(n)
                    && self.model.clients[client].answers > 0
                {
                    let sender = self.model.clients[client].connection.clone();
                    let message = Message::from((self.arrivals + 1).to_string());
                    self.push(Event::Message { sender, message });
                }
            }
            Op::Ring => self.ring(),
            Op::Leave(n) => self.client(n).into_iter().for_each(|client| self.leave(client)),
            Op::Request { reply } => self.request(reply),
            Op::OutsideSend(n) => self.send(None, n),
            Op::OutsideBroadcast { tagged } => self.broadcast(None, tagged, None),
            Op::OutsideClose(n) => self.close(None, n),
            Op::Hibernate => {
                let slept = self.machine.hibernate(self.now).is_ok();
                let asleep = self.machine.phase == RoomPhase::Asleep;
                self.model.check(Property::Sleep, !slept || asleep, "said to sleep, and does not");
            }
            Op::Drain => {
                self.drained = true;
                self.model.clients.iter_mut().for_each(|client| client.lost = true);
                self.model.drain();
                self.machine.drain(self.now, Duration::MAX);
            }
            Op::Crash => self.crash(),
            Op::Commit(fate) => self.end_commit(fate),
            Op::Claim { ok } => self.end_claim(ok),
            Op::TaskSays(n) => {
                if let Some(id) = self.running_task(n) {
                    let _ = self.machine.push(self.now, task_event(id, false));
                }
            }
            Op::TaskEnds(n) => {
                if let Some(id) = self.running_task(n) {
                    self.tasks.remove(&id);
                    let taken = self.machine.push(self.now, task_event(id, true));
                    assert!(taken.is_ok(), "the last event always enters");
                }
            }
            Op::DropGuard(n) if !self.guards.is_empty() => {
                let guard = self.guards.swap_remove(usize::from(n) % self.guards.len());
                if let Some(id) = guard {
                    self.machine.guard_dropped(self.now, id);
                }
            }
            Op::EndBody if self.bodies > 0 => {
                self.bodies -= 1;
                self.machine.body_ended(self.now);
            }
            Op::Pass(millis) => self.pass(Duration::from_millis(millis.into())),
            Op::Deadline => {
                let deadline = self.machine.deadline().unwrap_or(self.now);
                self.pass(deadline.saturating_sub(self.now));
            }
            Op::Tick => self.machine.tick(self.now),
            _ => {}
        }
    }

    // What comes in.

    fn connect(&mut self, tagged: bool) {
        let number = self.model.clients.len();
        let id = format!("c{number}");
        let room: Weak<dyn Owner> = Weak::<RoomCell>::new();
        let connection = Connection::new(number as u64, &*id, "", room, Arc::new(NoSocket));
        let client = Client::new(connection.clone(), tagged);
        let request = http::Request::new(Body::from((self.arrivals + 1).to_string()));
        let event = Event::connect(connection, request.into(), self.now);
        // Known before it is pushed, as it may be refused at once.
        self.model.clients.push(client);
        if !self.push(event) {
            self.model.clients.pop();
        }
    }

    fn request(&mut self, reply: bool) {
        let number = self.model.requests.len();
        let mut request = http::Request::new(Body::from((self.arrivals + 1).to_string()));
        *request.uri_mut() = format!("/{number}").parse().expect("a path");
        let (sender, answer) = reply.then(oneshot::channel).unzip();
        let request = request.into();
        let event = Event::Request { request, chain: Chain::new(), reply: sender };
        self.model.requests.push(Request { answer, done: !reply, alarm: false });
        if !self.push(event) {
            self.model.requests[number].done = true;
        }
    }

    /// Whether the machine took the event.
    pub(super) fn push(&mut self, event: Event) -> bool {
        let taken = self.machine.push(self.now, event).is_ok();
        self.arrivals += u64::from(taken);
        let refuses = self.drained && taken;
        self.model.check(Property::Drain, !refuses, "it takes an event while it shuts down");
        taken
    }

    fn leave(&mut self, client: usize) {
        self.model.clients[client].ended = true;
        let key = self.model.clients[client].connection.key();
        self.machine.closed(self.now, key, Close::normal());
        // A runtime may say so twice.
        self.machine.closed(self.now, key, Close::no_status());
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut ticks = 0;
        while let Some(due) = self.machine.deadline().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.machine.tick(self.now);
            self.pump();
            ticks += 1;
            if ticks > 1000 {
                return self.model.broken(Property::Deadlines, "ticks at the deadline are in vain");
            }
        }
        self.now = until;
        self.machine.tick(self.now);
        self.pump();
    }

    fn crash(&mut self) {
        if let Some((batch, _)) = self.commit.take() {
            let whole = Segment::fold(&self.store, &self.model.pending[..self.model.in_flight]);
            // Half of the commits that are cut off reach the store all the same.
            if self.arrivals.is_multiple_of(2) {
                self.store_batch(&batch);
                self.model.check(Property::Storage, self.store == whole, "a batch is not whole");
            }
        }
        self.model.crash(self.store.clone());
        self.machine = machine(&self.options, self.now, self.fault);
        (self.running, self.claiming, self.instance, self.drained) = (None, false, false, false);
        (self.waits, self.started) = (None, self.now);
        (self.bodies, self.sleeps, self.swapped) = (0, 0, None);
        self.transactions.clear();
        self.tasks.clear();
        self.guards.clear();
    }

    // What the room waits for.

    fn end_claim(&mut self, ok: bool) {
        if !std::mem::take(&mut self.claiming) {
            return;
        }
        // One that failed may have taken the room over, too.
        self.epoch += 1;
        let claim = Claim { epoch: Epoch(self.epoch), empty: self.store.is_empty() };
        let failed =
            || Failed { failure: Failure::Error("planned".into()), id: ErrorId::planned(0) };
        if !ok {
            self.model.fail(self.wall());
            self.running = None;
        }
        self.machine.claimed(self.now, if ok { Ok(claim) } else { Err(failed()) });
    }

    fn end_commit(&mut self, fate: Fate) {
        let Some((batch, _)) = self.commit.take() else { return };
        let done = &self.model.pending[..self.model.in_flight];
        let whole = Segment::fold(&self.model.stored, done);
        if fate != Fate::Failed && self.fault != Fault::LostCommit {
            self.store_batch(&batch);
            self.model.check(
                Property::Storage,
                self.store == whole,
                format!("{:?} is stored, and the handlers wrote {whole:?}", self.store),
            );
        }
        if fate == Fate::Stored {
            self.model.committed();
            self.machine.commit_ended(self.now, Ok(()));
        } else {
            self.model.commit_failed(self.store.clone());
            let model = &self.model;
            self.tasks.retain(|id, _| !model.is_void(What::Spawn(*id)));
            let failed =
                Failed { failure: Failure::Commit("planned".into()), id: ErrorId::planned(0) };
            self.machine.commit_ended(self.now, Err(failed));
            if self.fault == Fault::StateKept {
                let kept = Some(Bytes::from_static(b"kept"));
                let clients = &self.model.clients;
                clients
                    .iter()
                    .for_each(|client| drop(client.connection.commit_state(kept.clone())));
            }
        }
    }

    fn store_batch(&mut self, batch: &Batch) {
        let batch = self.spoiled(batch.clone());
        apply(&mut self.store, &batch);
        self.wake_up_stored(&batch);
    }

    pub(super) fn client(&self, n: u8) -> Option<usize> {
        let here = |n: &usize| !self.model.clients[*n].ended && !self.model.clients[*n].refused;
        let here: Vec<usize> = (0..self.model.clients.len()).filter(here).collect();
        (!here.is_empty()).then(|| here[usize::from(n) % here.len()])
    }

    pub(super) fn running_task(&self, n: u8) -> Option<u64> {
        let running = self.tasks.iter().filter(|(_, task)| **task == Task::Running);
        let running: Vec<u64> = running.map(|(id, _)| *id).collect();
        (!running.is_empty()).then(|| running[usize::from(n) % running.len()])
    }

    pub(super) fn all_ends(&mut self) {
        for _ in 0..10_000 {
            let next = if self.claiming {
                Op::Claim { ok: true }
            } else if self.running.is_some() && self.waits.is_none() {
                Op::Finish(Ending::Done)
            } else if self.commit.is_some() {
                Op::Commit(Fate::Stored)
            } else if self.running_task(0).is_some() {
                Op::TaskEnds(0)
            } else if !self.guards.is_empty() {
                Op::DropGuard(0)
            } else if self.bodies > 0 {
                Op::EndBody
            } else {
                return;
            };
            self.step(&next);
        }
        self.model.broken(Property::Sleep, "it never comes to an end");
    }
}

fn machine(options: &Options, now: Duration, fault: Fault) -> Machine {
    let mut machine = awake(Dormant::new(), options, now);
    machine.gate.switched_off = fault == Fault::OpenGate;
    machine
}

fn awake(dormant: Dormant, options: &Options, now: Duration) -> Machine {
    let room: Weak<dyn Owner> = Weak::<RoomCell>::new();
    let id = RoomId::new("a").expect("a room id");
    dormant.wake(&id, Arc::new(options.clone()), None, room, now)
}

fn task_event(id: u64, last: bool) -> Event {
    Event::Task { id, result: TaskResult::planned("task", last) }
}

pub(super) fn number_of(connection: &Connection) -> usize {
    connection.key() as usize
}
