//! A machine on the bench: inputs by short names, outputs in words.

use std::{
    panic::Location,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_channel::oneshot;

use crate::{
    Alarm, Body, Claim, Close, Connection, Epoch, ErrorId, Message, Options, Refusal, RoomId,
    Timestamp,
    connection::{Owner, peer::Peer, tags::Tags},
    engine::cell::RoomCell,
    machine::{
        Answer, CancelReason, Dormant, Effect, Event, Fact, Failed, Job, Machine, Output, Scope,
        TransactionId, TurnMut,
    },
    testing::bare::NoSocket,
    value::chain::Chain,
    value::failure::Failure,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A machine, and what its driver would have been told, in words.
pub(super) struct Bench {
    pub(super) machine: Machine,
    options: Options,
    /// The ids of all that came, by their keys from 1 on.
    ids: Vec<String>,
    pub(super) now: Duration,
    pub(super) facts: Vec<Fact>,
    connections: u64,
    epoch: u64,
    /// The transaction whose code runs; 0 for none.
    transaction: TransactionId,
}

pub(super) type Answered = oneshot::Receiver<Result<Answer, Refusal>>;

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Options::new().hibernate(true))
    }

    pub(super) fn with(options: Options) -> Self {
        let now = Duration::ZERO;
        Self {
            machine: awake(Dormant::new(), &options, now),
            options,
            ids: Vec::new(),
            now,
            facts: Vec::new(),
            connections: 0,
            epoch: 0,
            transaction: 0,
        }
    }

    /// The handler that runs.
    pub(super) fn turn(&mut self) -> TurnMut<'_> {
        turn(&mut self.machine, self.transaction)
    }

    /// The room sleeps and nothing waits: only data is left of it, and it comes back.
    pub(super) fn rest(&mut self) {
        let dormant = self.machine.rest().expect("it has nothing to do");
        let before = dormant.stats(self.now);
        self.machine = awake(dormant, &self.options, self.now);
        let after = self.machine.stats(self.now);
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }

    /// What comes out, in words.
    pub(super) fn trace(&mut self) -> Vec<String> {
        let mut trace = Vec::new();
        while let Some(output) = self.machine.poll() {
            trace.push(match output {
                Output::Cancel(CancelReason::CommitFailed(_)) => "cancel: commit".to_owned(),
                Output::Cancel(CancelReason::SaidTooMuch { .. }) => {
                    "cancel: said too much".to_owned()
                }
                Output::Cancel(CancelReason::Timeout(limit)) => format!("cancel: {limit:?}"),
                Output::CancelTasks(tasks) => format!("cancel {} tasks", tasks.len()),
                Output::Claim => "claim".to_owned(),
                Output::Commit(batch, _) => format!("commit {}", batch.writes.len()),
                Output::Fact(fact) => {
                    self.facts.push(fact);
                    continue;
                }
                Output::Attach(_) | Output::Discard(_) | Output::Probe(_) => continue,
                Output::DropInstance(_) => "drop".to_owned(),
                Output::Effect(effect) => say(effect, &self.ids),
                Output::Flush => "flush".to_owned(),
                Output::GivenUp(plan, next) => format!("{} is given up: {next:?}", plan.name()),
                Output::Refuse(connection, close) => {
                    format!("refuse {} {}", connection.id(), close.code())
                }
                Output::Run(_, job) => run(&mut self.machine, job),
            });
        }
        trace
    }

    /// Awake, and nothing to do.
    pub(super) fn wake(&mut self) {
        let _ = self.tell();
        self.claim();
        self.done();
        self.done();
        self.trace();
    }

    /// A client that is in the room.
    pub(super) fn join(&mut self, id: &str) -> Connection {
        let (connection, taken) = self.connect(id);
        assert!(taken.is_ok());
        if self.trace().contains(&"claim".to_owned()) {
            self.claim();
            self.done();
            self.trace();
        }
        self.done();
        self.trace();
        connection
    }

    pub(super) fn connect(&mut self, id: &str) -> (Connection, Result<(), Refusal>) {
        self.connections += 1;
        self.ids.push(id.to_owned());
        let room: Weak<dyn Owner> = Weak::<RoomCell>::new();
        let connection = Connection::new(self.connections, id, "", room, Arc::new(NoSocket));
        let request = http::Request::new(Body::empty()).into();
        let event = Event::connect(connection.clone(), request, self.now);
        (connection, self.push(event))
    }

    pub(super) fn message(
        &mut self,
        sender: &Connection,
        text: &'static str,
    ) -> Result<(), Refusal> {
        self.push(Event::Message { sender: sender.clone(), message: Message::from(text) })
    }

    pub(super) fn tell(&mut self) -> Result<(), Refusal> {
        let request = http::Request::new(Body::empty()).into();
        self.push(Event::Request { request, chain: Chain::new(), reply: None })
    }

    pub(super) fn request(&mut self) -> Answered {
        let (reply, answer) = oneshot::channel();
        let request = http::Request::new(Body::empty()).into();
        let event = Event::Request { request, chain: Chain::new(), reply: Some(reply) };
        assert!(self.push(event).is_ok());
        answer
    }

    pub(super) fn push(&mut self, event: Event) -> Result<(), Refusal> {
        self.machine.push(self.now, event).map_err(|(refusal, _)| refusal)
    }

    pub(super) fn leave(&mut self, connection: &Connection) {
        self.machine.closed(self.now, connection.key(), Close::normal());
    }

    pub(super) fn claim(&mut self) {
        self.trace();
        self.epoch += 1;
        let claim = Claim { epoch: Epoch(self.epoch), empty: true };
        self.machine.claimed(self.now, Ok(claim));
        self.trace();
    }

    /// The handler succeeds.
    pub(super) fn done(&mut self) {
        self.machine.turn_ended(self.now, Ok(Answer::Done));
    }

    /// The handler returns an `Err`.
    pub(super) fn err(&mut self) {
        self.machine.turn_ended(self.now, Err(failed(Failure::Error("planned".into()))));
    }

    pub(super) fn panic(&mut self) {
        self.machine.turn_ended(self.now, Err(failed(Failure::Panic("planned".into()))));
    }

    /// The driver drops the handler, because a commit has failed.
    pub(super) fn cancelled(&mut self) {
        self.machine.turn_ended(self.now, Err(failed(Failure::Commit("planned".into()))));
    }

    pub(super) fn committed(&mut self) {
        self.machine.commit_ended(self.now, Ok(()));
    }

    pub(super) fn commit_fails(&mut self) {
        let failed = failed(Failure::Commit("planned".into()));
        self.machine.commit_ended(self.now, Err(failed));
    }

    /// The next start fails.
    pub(super) fn start_fails(&mut self) {
        self.trace();
        self.machine.claimed(self.now, Err(failed(Failure::Error("planned".into()))));
    }

    pub(super) fn put(&mut self, key: &'static str) {
        let row = (Bytes::from(key), Some(Bytes::new()));
        assert!(self.turn().write(vec![row]).is_ok());
    }

    /// The handler of the alarm begins.
    pub(super) fn ring(&mut self, wall: Timestamp) -> Option<Alarm> {
        let now = self.now;
        self.turn().ring(now, wall, None).map(|bell| bell.alarm())
    }

    /// The handler begins a transaction; what it does next belongs to that.
    pub(super) fn begin(&mut self) -> TransactionId {
        self.transaction = self.turn().begin_transaction().expect("no other is open");
        self.transaction
    }

    pub(super) fn undo(&mut self, transaction: TransactionId) {
        let now = self.now;
        self.turn().end_transaction(now, transaction, false);
        self.transaction = 0;
    }

    /// The handler says something.
    pub(super) fn send(&mut self, to: &Connection, text: &'static str) {
        self.turn().send(to, text.into());
    }

    /// Somebody else says something.
    pub(super) fn send_outside(&mut self, to: &Connection, text: &'static str) {
        self.machine.send(to, text.into());
    }

    pub(super) fn spawn(&mut self) -> u64 {
        let (now, holder) = (self.now, ("task", Location::caller()));
        let id = self.turn().reserve_task(now, holder).expect("it does not shut down");
        self.turn().spawn(id, Box::pin(std::future::ready(())));
        id
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.tick(self.now);
    }
}

fn awake(dormant: Dormant, options: &Options, now: Duration) -> Machine {
    let room: Weak<dyn Owner> = Weak::<RoomCell>::new();
    let id = RoomId::new("a").expect("a room id");
    dormant.wake(&id, Arc::new(options.clone()), None, room, now)
}

fn turn(machine: &mut Machine, transaction: TransactionId) -> TurnMut<'_> {
    let turn = machine.last_turn;
    machine.turn(Scope { turn, transaction }).expect("a handler runs")
}

fn failed(failure: Failure) -> Failed {
    Failed { failure, id: ErrorId::planned(7) }
}

fn say(effect: Effect, ids: &[String]) -> String {
    let id = |peer: &Peer| &*ids[peer.key() as usize - 1];
    match effect {
        Effect::Accept(connection) => format!("accept {}", connection.id()),
        Effect::Close(peer, close) | Effect::HangUp(peer, close) => {
            format!("close {} {}", id(&peer), close.code())
        }
        Effect::Answer(peer, message) => {
            format!("{} <- {}", id(&peer), message.as_text().unwrap_or_default())
        }
        Effect::Frame { to, frame } => {
            let to: Vec<&str> = to.iter().map(id).collect();
            format!("{} <- {}", to.join(","), frame.message().as_text().unwrap_or_default())
        }
        Effect::Respond(reply, response) => {
            let text = match &response {
                Ok(Answer::Response(response)) => response.status().to_string(),
                Ok(_) => "done".to_owned(),
                Err(refusal) => refusal.to_string(),
            };
            drop(reply.send(response));
            format!("respond {text}")
        }
        Effect::Spawn { id, .. } => format!("spawn {id}"),
        Effect::Tell { to, .. } => format!("tell {to}"),
    }
}

/// Names what runs; lists who connects.
fn run(machine: &mut Machine, job: Job) -> String {
    let name = job.handler().name();
    match job {
        Job::Start => format!("{name} {:?}", machine.start_reason),
        Job::Handle(Event::Connect { connection, .. }) => {
            assert!(turn(machine, 0).list(&connection, Tags::default()).is_ok());
            format!("{name} {}", connection.id())
        }
        Job::Handle(Event::Close { connection, .. }) => format!("{name} {}", connection.id()),
        Job::Handle(Event::Error(error)) => {
            format!("{name} {}: {:?}", error.handler(), error.kind())
        }
        Job::Handle(Event::Message { sender, message }) => {
            format!("{name} {} {}", sender.id(), message.as_text().unwrap_or_default())
        }
        Job::Handle(_) => name.to_owned(),
    }
}

pub(super) fn refused(answer: &mut Answered) -> Option<Refusal> {
    answer.try_recv().ok().flatten().and_then(Result::err)
}
