//! All around a machine: what its driver, its store and its clients do, step by step, with the model
//! watching.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::Location,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_channel::oneshot;

use super::{
    model::{
        Client, JobKind, LAST, Model, Property, Request, Rows, Segment, What, apply, last_write,
        parse,
    },
    op::{Ending, Fate, Op, Setup},
};
use crate::{
    Batch, Body, Claim, Close, Connection, Epoch, ErrorId, Message, Options, Refusal, Response,
    RoomAddress, RoomId, TaskResult,
    calls::Chain,
    error::Failure,
    host::{Outgoing, Socket},
    machine::{Answer, CancelReason, Effect, Event, Failed, Job, Machine, Output, Phase, Targets},
};

/// The receiver of a request's answer.
pub(super) type Answered = oneshot::Receiver<Result<Response, Refusal>>;

/// Something that is done wrong on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
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
}

pub(super) struct World {
    pub(super) model: Model,
    machine: Machine,
    fault: Fault,
    options: Options,
    now: Duration,
    store: Rows,
    epoch: u64,
    claiming: bool,
    commit: Option<(Arc<Batch>, Epoch)>,
    instance: bool,
    running: Option<u64>,
    tasks: BTreeMap<u64, Task>,
    guards: Vec<Option<u64>>,
    bodies: usize,
    drained: bool,
    sleeps: u64,
    arrivals: u64,
    handled: u64,
    swapped: Option<Effect>,
}

#[derive(Clone, Copy, PartialEq)]
enum Task {
    Announced,
    Running,
}

struct NoSocket;

impl Socket for NoSocket {
    fn accept(&self) {}
    fn refuse(&self, _: Close) {}
    fn send(&self, _: &Outgoing) {}
    fn close(&self, _: Close) {}
    fn flush(&self) {}
}

impl World {
    pub(super) fn new(setup: &Setup, fault: Fault) -> Self {
        let mut options = Options::new().hibernate(setup.hibernate);
        if setup.tight {
            options = options.mailbox(3, 1 << 20).max_connections(3).max_held(2);
        }
        Self {
            model: Model::default(),
            machine: machine(&options, Duration::ZERO, fault),
            fault,
            options,
            now: Duration::ZERO,
            store: Rows::new(),
            epoch: 0,
            claiming: false,
            commit: None,
            instance: false,
            running: None,
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
        if self.running.is_some() {
            self.handler_does(op);
        }
        self.happens(op);
        self.pump();
    }

    /// Lets everything end that can end; what is owed then is missing.
    pub(super) fn settle(&mut self) {
        if !self.drained {
            self.all_ends();
            // The longest time in which a room that cannot start refuses.
            self.pass(Duration::from_secs(30));
            self.step(&Op::Request { reply: true });
        }
        self.all_ends();
        if !self.options.hibernate {
            self.everybody_leaves();
        }
        self.pass(self.options.hibernate_after);
        let asleep = self.machine.phase() == Phase::Asleep;
        self.model.check(Property::Sleep, asleep, "nothing is left to do, and it does not sleep");
        self.everybody_leaves();
        self.pass(self.options.hibernate_after);
        let vacant = self.machine.is_vacant();
        self.model.check(Property::Sleep, vacant, "everybody is gone, and it is not vacant");
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
            Op::Leave(n) => self.client(n).into_iter().for_each(|client| self.leave(client)),
            Op::Request { reply } => self.request(reply),
            Op::OutsideSend(n) => self.send(None, n),
            Op::OutsideBroadcast { tagged } => self.broadcast(None, tagged, None),
            Op::OutsideClose(n) => self.close(None, n),
            Op::Hibernate => {
                let slept = self.machine.hibernate(self.now).is_ok();
                let asleep = self.machine.phase() == Phase::Asleep;
                self.model.check(Property::Sleep, !slept || asleep, "said to sleep, and does not");
            }
            Op::Drain => {
                self.drained = true;
                self.model.clients.iter_mut().for_each(|client| client.lost = true);
                self.machine.drain(self.now);
            }
            Op::Crash => self.crash(),
            Op::Commit(fate) => self.end_commit(fate),
            Op::Claim { ok } => self.end_claim(ok),
            Op::TaskSays(n) => {
                if let Some(id) = self.running_task(n) {
                    let _ = self.machine.task_says(self.now, id, task_event(false));
                }
            }
            Op::TaskEnds(n) => {
                if let Some(id) = self.running_task(n) {
                    self.tasks.remove(&id);
                    self.machine.task_ended(self.now, id, task_event(true));
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

    fn handler_does(&mut self, op: &Op) {
        match *op {
            Op::Put(key) => self.write(false, Some((key, true))),
            Op::Delete(key) => self.write(false, Some((key, false))),
            Op::Clear => self.write(true, None),
            Op::WriteNothing => assert!(self.machine.write(Vec::new()).is_ok(), "it is small"),
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
                    self.machine.set_state(&self.model.clients[client].connection, state);
                }
            }
            Op::Begin => {
                self.model.begin_transaction();
                self.machine.begin_transaction();
            }
            Op::End { keep } => self.end_transaction(keep),
            Op::Sync => {
                let nested = self.model.transactions() > 0;
                if !nested {
                    self.model.sync();
                }
                let synced = self.machine.sync().is_ok();
                self.model.check(Property::Commits, synced != nested, "sync in a transaction");
            }
            Op::Spawn => {
                if let Some(id) = self.machine.reserve_task(("task", Location::caller())) {
                    self.tasks.insert(id, Task::Announced);
                    self.model.spawn(id);
                    self.machine.spawn(id, Box::pin(std::future::ready(())));
                }
            }
            Op::Tell => self.tell(),
            Op::TakeGuard if self.fault == Fault::HiddenGuard => self.guards.push(None),
            Op::TakeGuard => {
                self.guards.push(Some(self.machine.guard_taken(("guard", Location::caller()))));
            }
            Op::Finish(ending) => self.finish(ending),
            _ => {}
        }
    }

    // What comes in.

    fn connect(&mut self, tagged: bool) {
        let number = self.model.clients.len();
        let id = format!("c{number}");
        let connection = Connection::new(number as u64, &id, "", Weak::new(), Arc::new(NoSocket));
        let client = Client::new(connection.clone(), tagged);
        let request = http::Request::new(Body::from((self.arrivals + 1).to_string()));
        let event = Event::Connect { connection, request: request.into(), arrived: self.now };
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
        self.model.requests.push(Request { answer, done: !reply });
        if !self.push(event) {
            self.model.requests[number].done = true;
        }
    }

    /// Whether the machine took the event.
    fn push(&mut self, event: Event) -> bool {
        let taken = self.machine.push(self.now, event).is_ok();
        self.arrivals += u64::from(taken);
        let refuses = self.drained && taken;
        self.model.check(Property::Drain, !refuses, "it takes an event while it shuts down");
        taken
    }

    fn leave(&mut self, client: usize) {
        self.model.clients[client].ended = true;
        let connection = self.model.clients[client].connection.clone();
        self.machine.closed(self.now, &connection, Close::normal());
        // A runtime may say so twice.
        self.machine.closed(self.now, &connection, Close::no_status());
    }

    fn pass(&mut self, time: Duration) {
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
            let (store, segments) = (&self.store, &self.model.pending);
            let upto = batch.writes.get(LAST).cloned().flatten().map_or(0, |n| parse(&n));
            let done = segments.iter().take_while(|segment| segment.last <= upto).count();
            let whole = Segment::fold(store, &segments[..done]);
            // Half of the commits that are cut off reach the store all the same.
            if upto % 2 == 0 {
                apply(&mut self.store, &batch);
                self.model.check(Property::Storage, self.store == whole, "a batch is not whole");
            }
        }
        self.model.crash(self.store.clone());
        self.machine = machine(&self.options, self.now, self.fault);
        (self.running, self.claiming, self.instance, self.drained) = (None, false, false, false);
        (self.bodies, self.sleeps, self.swapped) = (0, 0, None);
        self.tasks.clear();
        self.guards.clear();
    }

    // What the handler does.

    fn write(&mut self, clear: bool, key: Option<(u8, bool)>) {
        let key = key.map(|(key, put)| (Bytes::from(vec![b'k', key]), put));
        let Some(batch) = self.model.write(clear, key) else { return };
        if clear {
            self.machine.clear();
        }
        let written = self.machine.write(batch.writes.into_iter().collect());
        assert!(written.is_ok(), "it is small");
    }

    fn send(&mut self, turn: Option<u64>, n: u8) {
        let Some(client) = self.client(n) else { return };
        let number = self.model.next_said();
        if self.model.is_open(client) {
            self.model.say(turn, What::Frame(number, client));
        }
        self.machine.send(turn, &self.model.clients[client].connection, frame(number));
    }

    fn broadcast(&mut self, turn: Option<u64>, tagged: bool, except: Option<usize>) {
        let number = self.model.next_said();
        for client in self.model.receivers(tagged, except) {
            self.model.say(turn, What::Frame(number, client));
        }
        let except = except.map(|client| self.model.clients[client].connection.clone());
        let tag = tagged.then_some("tag");
        self.machine.broadcast(turn, tag, except.into_iter().collect(), frame(number));
    }

    fn close(&mut self, turn: Option<u64>, n: u8) {
        let Some(client) = self.client(n) else { return };
        let number = self.model.next_said();
        if self.model.is_open(client) {
            self.model.say(turn, What::Close(number, client));
        }
        let close = Close::new(4000, number.to_string()).expect("a close");
        self.machine.close(turn, &self.model.clients[client].connection, close);
    }

    fn tell(&mut self) {
        let Some(turn) = self.running else { return };
        let number = self.model.next_said();
        self.model.say(Some(turn), What::Tell(number));
        let to = RoomAddress::new("main", RoomId::new("other").expect("a room id"));
        self.machine.tell(turn, to, http::Request::new(Body::from(number.to_string())));
    }

    fn end_transaction(&mut self, keep: bool) {
        let tasks = self.model.end_transaction(keep);
        self.tasks.retain(|id, _| !tasks.contains(id));
        self.machine.end_transaction(keep);
    }

    fn finish(&mut self, ending: Ending) {
        let done = matches!(ending, Ending::Done | Ending::Streaming);
        while self.model.transactions() > 0 {
            self.end_transaction(done);
        }
        if !done {
            let failure = match ending {
                Ending::Err => Failure::Error("planned".into()),
                _ => Failure::Panic("planned".to_owned()),
            };
            return self.fail(failure);
        }
        let job = self.model.turn.as_ref().map(|turn| turn.job);
        let answer = match job {
            Some(JobKind::Request(number)) => {
                if ending == Ending::Streaming {
                    self.bodies += 1;
                    self.machine.body_opened();
                }
                Answer::Response(Response::new(Body::from(number.to_string())))
            }
            _ => Answer::Done,
        };
        self.model.finish();
        self.running = None;
        self.instance = true;
        self.machine.turn_ended(self.now, Ok(answer));
    }

    fn fail(&mut self, failure: Failure) {
        let tasks = self.model.fail();
        self.tasks.retain(|id, _| !tasks.contains(id));
        self.running = None;
        self.machine.turn_ended(self.now, Err(Failed { failure, id: ErrorId(0) }));
    }

    /// The driver drops the handler's future; what it held is dropped with it, and may say something.
    fn cancel(&mut self, reason: CancelReason) {
        let Some(turn) = self.running else { return };
        while self.model.transactions() > 0 {
            self.end_transaction(false);
        }
        self.broadcast(Some(turn), false, None);
        self.fail(match reason {
            CancelReason::CommitFailed(_) => Failure::Commit("planned".to_owned()),
            CancelReason::Timeout(limit) => Failure::Timeout(limit),
        });
    }

    // What the room waits for.

    fn end_claim(&mut self, ok: bool) {
        if !std::mem::take(&mut self.claiming) {
            return;
        }
        // One that failed may have taken the room over, too.
        self.epoch += 1;
        let claim = Claim { epoch: Epoch(self.epoch), empty: self.store.is_empty() };
        let failed = || Failed { failure: Failure::Error("planned".into()), id: ErrorId(0) };
        if !ok {
            self.model.fail();
            self.running = None;
        }
        self.machine.claimed(self.now, if ok { Ok(claim) } else { Err(failed()) });
    }

    fn end_commit(&mut self, fate: Fate) {
        let Some((batch, _)) = self.commit.take() else { return };
        let upto = batch.writes.get(LAST).cloned().flatten().map_or(0, |number| parse(&number));
        let done = self.model.pending.iter().take_while(|segment| segment.last <= upto).count();
        let whole = Segment::fold(&self.model.stored, &self.model.pending[..done]);
        if fate != Fate::Failed && self.fault != Fault::LostCommit {
            apply(&mut self.store, &batch);
            let is_whole = self.store == whole && last_write(&whole) == upto;
            self.model.check(
                Property::Storage,
                is_whole,
                format!("{:?} is stored, and the handlers wrote {whole:?}", self.store),
            );
        }
        if fate == Fate::Stored {
            self.model.committed(upto);
            self.machine.commit_ended(self.now, Ok(()));
        } else {
            self.model.commit_failed(self.store.clone());
            let model = &self.model;
            self.tasks.retain(|id, _| !model.is_void(What::Spawn(*id)));
            let failed = Failed { failure: Failure::Commit("planned".into()), id: ErrorId(0) };
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

    // What comes out.

    fn pump(&mut self) {
        while let Some(output) = self.machine.poll() {
            self.perform(output);
        }
        if let Some(effect) = self.swapped.take() {
            self.deliver(effect);
        }
        self.check();
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Cancel(reason) => self.cancel(reason),
            Output::CancelTasks(ids) => {
                for id in ids {
                    self.tasks.remove(&id);
                    self.model.cancel(id);
                }
            }
            Output::Claim => {
                let alone = !self.claiming && self.commit.is_none();
                self.model.check(Property::Commits, alone, "claimed beside a claim or a commit");
                self.claiming = true;
            }
            Output::Commit(batch) => {
                self.model.check(Property::Commits, self.commit.is_none(), "two commits at once");
                let epoch = self.machine.epoch();
                let newest = epoch == Some(Epoch(self.epoch));
                self.model.check(Property::Commits, newest, "a commit under an old claim");
                self.commit = epoch.map(|epoch| (batch, epoch));
            }
            Output::Discard(_) | Output::Flush => {}
            Output::DropInstance => {
                let ends = self.running.is_none();
                self.model.check(Property::OneHandler, ends, "the instance of a running handler");
                self.instance = false;
                if self.machine.account(self.now).sleeps > self.sleeps {
                    self.sleeps += 1;
                    let idle = self.idle();
                    self.model.check(Property::Sleep, idle, "it sleeps, and something is pending");
                } else {
                    let cancelled = self.tasks.is_empty();
                    self.model.check(Property::Tasks, cancelled, "a task outlives a reset");
                }
            }
            Output::Effect(effect) => self.effect(effect),
            Output::Refuse(connection, _) => {
                let client = number_of(&connection);
                let client = &mut self.model.clients[client];
                client.answers += 1;
                (client.refused, client.listed) = (true, false);
                let once = client.answers == 1;
                self.model.check(Property::Answers, once, "a handshake is answered twice");
            }
            Output::Run(job) => self.run(job),
        }
    }

    fn effect(&mut self, effect: Effect) {
        if self.fault == Fault::Overtaken && matches!(effect, Effect::Frame { .. }) {
            match self.swapped.take() {
                None => self.swapped = Some(effect),
                Some(first) => {
                    self.deliver(effect);
                    self.deliver(first);
                }
            }
            return;
        }
        self.deliver(effect);
    }

    fn deliver(&mut self, effect: Effect) {
        match effect {
            Effect::Accept(connection) => {
                let client = number_of(&connection);
                self.model.released(What::Accept(client), &self.store);
                self.model.clients[client].answers += 1;
                let once = self.model.clients[client].answers == 1;
                self.model.check(Property::Answers, once, "a handshake is answered twice");
            }
            Effect::Close(connection, close) => {
                let what = What::Close(parse(close.reason().as_bytes()), number_of(&connection));
                self.model.released(what, &self.store);
            }
            Effect::Frame { to, frame } => {
                let number = parse(frame.message().as_text().expect("text").as_bytes());
                let to: &Targets = &to;
                for connection in to.iter() {
                    let what = What::Frame(number, number_of(connection));
                    self.model.released(what, &self.store);
                }
            }
            Effect::Respond(..) if self.fault == Fault::LostAnswer => {}
            Effect::Respond(reply, response) => {
                if let Ok(response) = &response {
                    let number = parse(response.body().bytes().expect("a body"));
                    self.model.released(What::Respond(number as usize), &self.store);
                }
                drop(reply.send(response));
            }
            Effect::Spawn { id, .. } => {
                self.model.released(What::Spawn(id), &self.store);
                let announced = self.tasks.insert(id, Task::Running) == Some(Task::Announced);
                self.model.check(Property::Tasks, announced, "a task starts that was cancelled");
            }
            Effect::Tell { request, .. } => {
                let number = parse(request.body().bytes().expect("a body"));
                self.model.released(What::Tell(number), &self.store);
            }
        }
    }

    fn run(&mut self, job: Job) {
        let free = self.running.is_none() && !self.claiming;
        self.model.check(Property::OneHandler, free, "two handlers at once");
        self.model.check(Property::Drain, !self.drained, "a handler begins after the shutdown");
        let starts = matches!(job, Job::Start);
        self.model.check(
            Property::OneHandler,
            self.instance != starts,
            format!("{} on an instance that started: {}", job.handler(), self.instance),
        );
        let Some(turn) = self.machine.current_turn() else {
            return self.model.broken(Property::OneHandler, "a handler without a turn");
        };
        self.running = Some(turn);
        let kind = match &job {
            Job::Connect { connection, request, .. } => {
                self.arrived(request.body().bytes().map_or(0, |n| parse(n)));
                JobKind::Connect(number_of(connection))
            }
            Job::Request { request } => {
                self.arrived(request.body().bytes().map_or(0, |n| parse(n)));
                JobKind::Request(parse(&request.uri().path().as_bytes()[1..]) as usize)
            }
            Job::Message { message, .. } => {
                self.arrived(message.as_text().map_or(0, |n| parse(n.as_bytes())));
                JobKind::Other
            }
            Job::Close { connection, .. } => {
                let client = &mut self.model.clients[number_of(connection)];
                client.on_close += 1;
                let right = client.on_close == 1 && client.in_room && client.ended;
                self.model.check(Property::Closes, right, "on_close of a connection not due");
                JobKind::Other
            }
            Job::Start => JobKind::Start,
            _ => JobKind::Other,
        };
        self.model.begin(turn, kind);
        if let (JobKind::Connect(client), Job::Connect { connection, .. }) = (kind, &job) {
            let tags = if self.model.clients[client].tagged { vec!["tag".into()] } else { vec![] };
            connection.set_tags(tags.into());
            self.machine.list(connection);
            self.model.clients[client].listed = true;
        }
    }

    fn arrived(&mut self, number: u64) {
        let before = std::mem::replace(&mut self.handled, number);
        self.model.check(Property::Arrival, before < number, "an event is handled out of order");
    }

    // What has to hold whenever nothing moves.

    fn check(&mut self) {
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
        let awake = self.machine.phase() == Phase::Awake;
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
        let waiting = self.machine.waiting();
        let waits = awake || self.running.is_some() || self.claiming || waiting == 0;
        self.model.check(Property::Sleep, waits, "it sleeps, and events wait");
        let works = self.running.is_some() || self.claiming || self.commit.is_some();
        let stuck = awake && !works && waiting > 0;
        self.model.check(Property::Sleep, !stuck, "events wait, and nothing happens");
        let vacant = self.machine.is_vacant();
        let nobody = self.model.clients.iter().all(|client| client.ended || client.refused);
        let nothing = idle && !awake && nobody && !self.owes_close() && self.holders() == 0;
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
        let keys: BTreeSet<&Bytes> = view.keys().chain(self.store.keys()).collect();
        for key in keys {
            let pending = self.machine.lookup(key);
            let is = pending.unwrap_or_else(|| self.store.get(key).cloned());
            let ought = view.get(key).cloned();
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

    fn check_owed(&mut self) {
        let answered = self.model.requests.iter().all(|request| request.done);
        self.model.check(Property::Answers, answered, "a request has no answer");
        let unanswered = |client: &Client| client.answers == 0 && !client.ended;
        let met = !self.model.clients.iter().any(unanswered);
        self.model.check(Property::Answers, met, "a handshake has no answer");
        let owes = self.owes_close();
        self.model.check(Property::Closes, !owes, "a connection has ended without its on_close");
    }

    // What is pending.

    fn idle(&self) -> bool {
        let awake = self.machine.phase() == Phase::Awake;
        let here = |client: &Client| !client.ended && !client.refused;
        let connections = !self.options.hibernate && awake && self.model.clients.iter().any(here);
        self.running.is_none()
            && !self.claiming
            && self.machine.waiting() == 0
            && self.commit.is_none()
            && self.model.pending.is_empty()
            && self.model.held().next().is_none()
            && (self.drained || (self.holders() == 0 && !connections))
    }

    fn holders(&self) -> usize {
        self.tasks.len() + self.guards.len() + self.bodies
    }

    fn owes_close(&self) -> bool {
        let owed = |client: &Client| client.in_room && client.ended && client.on_close == 0;
        self.model.clients.iter().any(|client| owed(client) && !client.lost)
    }

    fn client(&self, n: u8) -> Option<usize> {
        let here = |n: &usize| !self.model.clients[*n].ended && !self.model.clients[*n].refused;
        let here: Vec<usize> = (0..self.model.clients.len()).filter(here).collect();
        (!here.is_empty()).then(|| here[usize::from(n) % here.len()])
    }

    fn running_task(&self, n: u8) -> Option<u64> {
        let running = self.tasks.iter().filter(|(_, task)| **task == Task::Running);
        let running: Vec<u64> = running.map(|(id, _)| *id).collect();
        (!running.is_empty()).then(|| running[usize::from(n) % running.len()])
    }

    fn everybody_leaves(&mut self) {
        while self.client(0).is_some() {
            self.step(&Op::Leave(0));
            self.all_ends();
        }
    }

    fn all_ends(&mut self) {
        for _ in 0..10_000 {
            let next = if self.claiming {
                Op::Claim { ok: true }
            } else if self.running.is_some() {
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
    let mut machine = Machine::new(options.clone(), now);
    machine.gate.switched_off = fault == Fault::OpenGate;
    machine
}

fn frame(number: u64) -> Arc<Outgoing> {
    Arc::new(Outgoing::new(Message::from(number.to_string())))
}

fn task_event(last: bool) -> Event {
    Event::Task(TaskResult::planned("task", last))
}

fn number_of(connection: &Connection) -> usize {
    connection.key() as usize
}
