//! What comes out of the machine, done as the driver does it.

use super::{
    client::Request,
    model::{JobKind, What},
    property::Property,
    rows::{Segment, parse},
    world::{Fault, Task, World, number_of},
};
use crate::{
    Epoch,
    connection::tags::Tags,
    machine::{Answer, Effect, Event, Job, Output, TurnId},
};

impl World {
    pub(super) fn pump(&mut self) {
        loop {
            while let Some(output) = self.machine.poll() {
                self.perform(output);
            }
            if !self.go_on() {
                break;
            }
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
            Output::Commit(batch, epoch) => {
                self.model.check(Property::Commits, self.commit.is_none(), "two commits at once");
                let newest = epoch == Some(Epoch(self.epoch));
                self.model.check(Property::Commits, newest, "a commit under an old claim");
                self.commit = epoch.map(|epoch| (batch, epoch));
                self.model.committing();
                if let (Some((batch, _)), false) = (&self.commit, self.model.pending.is_empty()) {
                    let ought = Segment::merged(&self.model.pending);
                    let same = **batch == ought;
                    let what = format!("{batch:?} is committed, and not {ought:?}");
                    self.model.check(Property::Commits, same, what);
                }
            }
            Output::Attach(_)
            | Output::Discard(_)
            | Output::GivenUp(..)
            | Output::Fact(_)
            | Output::Flush
            | Output::Probe(_) => {}
            Output::DropInstance(_) => {
                let ends = self.running.is_none();
                self.model.check(Property::OneHandler, ends, "the instance of a running handler");
                self.instance = false;
                if self.machine.stats(self.now).account.sleeps > self.sleeps {
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
            Output::Run(turn, job) => self.run(turn, &job),
        }
    }

    fn effect(&mut self, effect: Effect) {
        if self.fault == Fault::Overtaken
            && matches!(effect, Effect::Answer(..) | Effect::Frame { .. })
        {
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
            Effect::Close(peer, close) | Effect::HangUp(peer, close) => {
                let what = What::Close(parse(close.reason().as_bytes()), peer.key() as usize);
                self.model.released(what, &self.store);
            }
            Effect::Answer(peer, message) => {
                let number = parse(message.as_text().expect("text").as_bytes());
                self.model.released(What::Frame(number, peer.key() as usize), &self.store);
            }
            Effect::Frame { to, frame } => {
                let number = parse(frame.message().as_text().expect("text").as_bytes());
                for peer in to.iter() {
                    let what = What::Frame(number, peer.key() as usize);
                    self.model.released(what, &self.store);
                }
            }
            Effect::Respond(..) if self.fault == Fault::LostAnswer => {}
            Effect::Respond(reply, response) => {
                if let Ok(answer) = &response {
                    // One at a time is asked whether the alarm is due, and its answer says nothing.
                    let asks = |request: &Request| request.alarm && !request.done;
                    let number = match answer {
                        Answer::Response(response) => {
                            parse(response.body().bytes().expect("a body").trim_ascii()) as usize
                        }
                        _ => self.model.requests.iter().rposition(asks).expect("who asks"),
                    };
                    self.model.released(What::Respond(number), &self.store);
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

    fn run(&mut self, turn: TurnId, job: &Job) {
        let free = self.running.is_none() && !self.claiming;
        self.model.check(Property::OneHandler, free, "two handlers at once");
        self.model.check(Property::Drain, !self.drained, "a handler begins after the shutdown");
        let starts = matches!(job, Job::Start);
        self.model.check(
            Property::OneHandler,
            self.instance != starts,
            format!("{} on an instance that started: {}", job.handler(), self.instance),
        );
        self.running = Some(turn);
        let kind = match job {
            Job::Handle(Event::Connect { connection, request, .. }) => {
                self.arrived(request.body().bytes().map_or(0, |n| parse(n)));
                JobKind::Connect(number_of(connection))
            }
            Job::Handle(Event::Request { request, .. }) => {
                self.arrived(request.body().bytes().map_or(0, |n| parse(n)));
                JobKind::Request(parse(&request.uri().path().as_bytes()[1..]) as usize)
            }
            Job::Handle(Event::Message { message, .. }) => {
                self.arrived(message.as_text().map_or(0, |n| parse(n.as_bytes())));
                JobKind::Other
            }
            Job::Handle(Event::Close { connection, .. }) => {
                let client = &mut self.model.clients[number_of(connection)];
                client.on_close += 1;
                let right = client.on_close == 1 && client.in_room && client.ended;
                self.model.check(Property::Closes, right, "on_close of a connection not due");
                JobKind::Other
            }
            Job::Handle(Event::Alarm { .. }) => self.asked(),
            Job::Start => JobKind::Start,
            _ => JobKind::Other,
        };
        self.model.begin(turn, kind);
        if let (JobKind::Connect(client), Job::Handle(Event::Connect { connection, .. })) =
            (kind, job)
        {
            let tags = self.model.clients[client].tagged.then_some("tag");
            let listed = self.turn().list(connection, Tags::known(tags.into_iter()));
            assert!(listed.is_ok(), "it is small");
            self.model.clients[client].listed = true;
        }
        match job {
            Job::Handle(Event::Alarm { .. }) => self.begin_alarm(),
            Job::Start if self.turn().errand().is_some() => self.begin_alarm(),
            _ => {}
        }
    }

    fn arrived(&mut self, number: u64) {
        let before = std::mem::replace(&mut self.handled, number);
        self.model.check(Property::Arrival, before < number, "an event is handled out of order");
    }
}
