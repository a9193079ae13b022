//! What ought to be, kept beside the machine: each write, word and state, and what became of it.

use bytes::Bytes;

use super::{
    alarms::{Attempted, Ringing},
    client::{Client, Request},
    property::Property,
    rows::{LAST, Rows, Segment, apply, last_write},
};
use crate::{Batch, Timestamp};

#[derive(Default)]
pub(super) struct Model {
    pub(super) violations: Vec<(Property, String)>,
    /// What the store holds of what the room knows to be stored.
    pub(super) stored: Rows,
    /// The number of the last write in it.
    pub(super) acked: u64,
    /// What successful handlers wrote since, oldest first.
    pub(super) pending: Vec<Segment>,
    /// How many of them are in the commit that is in flight.
    pub(super) in_flight: usize,
    pub(super) turn: Option<Turn>,
    /// All attempts of this process to ring the alarm: their rows tell of no death.
    pub(super) attempts: Vec<Attempted>,
    /// The server goes down.
    pub(super) drained: bool,
    pub(super) said: Vec<Said>,
    pub(super) clients: Vec<Client>,
    pub(super) requests: Vec<Request>,
    last_write: u64,
    last_said: u64,
}

/// The handler that runs.
pub(super) struct Turn {
    pub(super) id: u64,
    pub(super) job: JobKind,
    /// The last write before its own; after a `sync`, before those that were not synced.
    pub(super) base: u64,
    pub(super) writes: Vec<(u64, Batch)>,
    states: Vec<(usize, Option<Bytes>)>,
    spawns: Vec<u64>,
    savepoints: Vec<Savepoint>,
    pub(super) ringing: Option<Ringing>,
    /// A commit before it has failed: nothing of it counts.
    pub(super) void: bool,
}

struct Savepoint {
    writes: usize,
    base: u64,
    states: Vec<(usize, Option<Bytes>)>,
    spawns: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum JobKind {
    /// For the request with this number.
    Alarm(usize),
    Start,
    Connect(usize),
    Request(usize),
    Other,
}

/// Something that was said, to one receiver.
pub(super) struct Said {
    pub(super) what: What,
    turn: Option<u64>,
    /// The last write before it.
    after: u64,
    order: u64,
    pub(super) fate: Spoken,
    /// For the connection that is connecting: waits for the end of its turn.
    deferred: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    Accept(usize),
    Close(u64, usize),
    Frame(u64, usize),
    Respond(usize),
    Spawn(u64),
    Tell(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Spoken {
    Held,
    Released,
    /// Taken back.
    Void,
}

impl Model {
    pub(super) fn broken(&mut self, property: Property, what: impl Into<String>) {
        self.violations.push((property, what.into()));
    }

    pub(super) fn check(&mut self, property: Property, holds: bool, what: impl Into<String>) {
        if !holds {
            self.broken(property, what);
        }
    }

    pub(super) fn begin(&mut self, id: u64, job: JobKind) {
        let turn = Turn {
            id,
            job,
            base: self.latest(),
            writes: Vec::new(),
            states: Vec::new(),
            spawns: Vec::new(),
            savepoints: Vec::new(),
            ringing: None,
            void: false,
        };
        self.turn = Some(turn);
    }

    /// Numbers a write of the running handler and gives it the row that tells its number.
    pub(super) fn write(&mut self, clear: bool, key: Option<(Bytes, bool)>) -> Option<Batch> {
        let number = Bytes::from(self.next_write().to_string());
        let mut batch = Batch { clear, ..Batch::default() };
        if let Some((key, put)) = key {
            batch.writes.insert(key, put.then(|| number.clone()));
        }
        batch.writes.insert(Bytes::from_static(LAST), Some(number));
        self.turn.as_mut()?.writes.push((self.last_write, batch.clone()));
        Some(batch)
    }

    pub(super) fn next_write(&mut self) -> u64 {
        self.last_write += 1;
        self.last_write
    }

    /// What the running handler reads.
    pub(super) fn view(&self) -> Rows {
        let mut rows = self.kept();
        let own = self.turn.iter().flat_map(|turn| &turn.writes);
        own.for_each(|(_, batch)| apply(&mut rows, batch));
        rows
    }

    /// What successful handlers have written, stored or not.
    pub(super) fn kept(&self) -> Rows {
        let mut rows = self.stored.clone();
        self.pending.iter().flat_map(|it| &it.writes).for_each(|(_, it)| apply(&mut rows, it));
        rows
    }

    /// The connections that a frame is for.
    pub(super) fn receivers(&self, tagged: bool, except: Option<usize>) -> Vec<usize> {
        let all = 0..self.clients.len();
        all.filter(|n| self.is_open(*n) && Some(*n) != except)
            .filter(|n| !tagged || self.clients[*n].tagged)
            .collect()
    }

    pub(super) fn is_open(&self, client: usize) -> bool {
        let client = &self.clients[client];
        client.listed && !client.ended && client.closing.is_none()
    }

    /// Numbers a frame, a close or a tell.
    pub(super) fn next_said(&mut self) -> u64 {
        self.last_said += 1;
        self.last_said
    }

    pub(super) fn say(&mut self, turn: Option<u64>, what: What) {
        let order = self.next_said();
        let (connecting, void) = match &self.turn {
            Some(Turn { job: JobKind::Connect(new), void, .. }) => (Some(*new), *void),
            Some(turn) => (None, turn.void),
            None => (None, false),
        };
        let deferred = match what {
            What::Frame(_, to) | What::Close(_, to) => Some(to) == connecting,
            _ => false,
        };
        let fate = if void && turn.is_some() { Spoken::Void } else { Spoken::Held };
        if let What::Close(number, to) = what
            && fate == Spoken::Held
        {
            self.clients[to].closing = Some(number);
        }
        self.said.push(Said { what, turn, after: self.latest(), order, fate, deferred });
    }

    pub(super) fn set_state(&mut self, client: usize, state: Option<Bytes>) {
        if let Some(turn) = &mut self.turn {
            turn.states.retain(|(other, _)| *other != client);
            turn.states.push((client, state));
        }
    }

    pub(super) fn spawn(&mut self, id: u64) {
        self.turn.iter_mut().for_each(|turn| turn.spawns.push(id));
    }

    pub(super) fn transactions(&self) -> usize {
        self.turn.as_ref().map_or(0, |turn| turn.savepoints.len())
    }

    pub(super) fn begin_transaction(&mut self) {
        let base = self.latest();
        if let Some(turn) = &mut self.turn {
            turn.savepoints.push(Savepoint {
                writes: turn.writes.len(),
                base,
                states: turn.states.clone(),
                spawns: turn.spawns.len(),
            });
        }
    }

    /// Ends the innermost transaction; returns the tasks that are taken back.
    pub(super) fn end_transaction(&mut self, keep: bool) -> Vec<u64> {
        let Some(turn) = &mut self.turn else { return Vec::new() };
        let Some(savepoint) = turn.savepoints.pop() else { return Vec::new() };
        if keep {
            return Vec::new();
        }
        turn.writes.truncate(savepoint.writes);
        turn.states = savepoint.states;
        // A shutdown may have cancelled some meanwhile.
        let spawns = turn.spawns.split_off(savepoint.spawns.min(turn.spawns.len()));
        let id = turn.id;
        self.take_back(|said| said.turn == Some(id) && said.after > savepoint.base);
        spawns
    }

    pub(super) fn sync(&mut self) {
        self.sync_alarm();
        let latest = self.latest();
        let Some(turn) = &mut self.turn else { return };
        let (writes, states) = (std::mem::take(&mut turn.writes), std::mem::take(&mut turn.states));
        turn.base = latest;
        self.keep(writes, states);
    }

    /// The running handler succeeded.
    pub(super) fn finish(&mut self) {
        self.finish_alarm();
        let Some(turn) = self.turn.take() else { return };
        self.keep(turn.writes, turn.states);
        if self.drained {
            self.restore_alarm();
        }
        if let JobKind::Connect(client) = turn.job {
            (self.clients[client].in_room, self.clients[client].listed) = (true, true);
            self.say(None, What::Accept(client));
            let (after, mut order) = (self.latest(), self.last_said);
            for said in self.said.iter_mut().filter(|said| said.deferred) {
                order += 1;
                (said.after, said.order, said.deferred) = (after, order, false);
            }
            self.last_said = order;
        }
        if let JobKind::Request(request) | JobKind::Alarm(request) = turn.job
            && self.requests[request].answer.is_some()
        {
            self.say(None, What::Respond(request));
        }
        turn.spawns.into_iter().for_each(|id| self.say(None, What::Spawn(id)));
    }

    /// The running handler failed, at this time. Returns the tasks that are taken back.
    pub(super) fn fail(&mut self, wall: Timestamp) -> Vec<u64> {
        let Some(turn) = self.turn.take() else { return Vec::new() };
        self.take_back(|said| {
            said.deferred || (said.turn == Some(turn.id) && said.after > turn.base)
        });
        if let JobKind::Connect(client) = turn.job {
            self.clients[client].listed = false;
        }
        if let (JobKind::Alarm(asked), Some(ringing), false) = (turn.job, &turn.ringing, turn.void)
        {
            self.fail_alarm(asked, ringing, wall);
        } else if !turn.void {
            self.restore_alarm();
        }
        turn.spawns
    }

    /// All that waits is put in flight.
    pub(super) fn committing(&mut self) {
        self.in_flight = self.pending.len();
    }

    /// The commit in flight is durable, and the room knows it.
    pub(super) fn committed(&mut self) {
        let done = std::mem::take(&mut self.in_flight);
        for segment in self.pending.drain(..done) {
            segment.writes.iter().for_each(|(_, batch)| apply(&mut self.stored, batch));
            self.acked = segment.last;
        }
        let upto = self.acked;
        for client in &mut self.clients {
            let durable = client.states.iter().rposition(|(after, _)| *after <= upto);
            client.states.drain(..durable.unwrap_or(0));
        }
    }

    /// A commit failed: all that waited for it is void. `stored` is what the store holds.
    pub(super) fn commit_failed(&mut self, stored: Rows) {
        // A close that no handler asked for is not taken back: it leaves now.
        let stays = |said: &Said| said.turn.is_none() && matches!(said.what, What::Close(..));
        self.take_back(|said| !said.deferred && !stays(said));
        for client in &mut self.clients {
            client.states.retain(|(after, _)| *after <= self.acked);
        }
        self.lost(stored);
        self.attempts.iter_mut().for_each(|it| (it.ahead, it.doubtful) = (false, true));
        self.turn.iter_mut().for_each(|turn| turn.void = true);
    }

    /// Something leaves the room while the store holds these rows.
    pub(super) fn released(&mut self, what: What, store: &Rows) {
        let Some(at) = self.said.iter().rposition(|said| said.what == what) else {
            return self.broken(Property::Order, format!("{what:?} left, and was never said"));
        };
        let Said { after, order, fate, .. } = self.said[at];
        self.said[at].fate = Spoken::Released;
        match fate {
            Spoken::Held => {}
            Spoken::Released => self.broken(Property::Order, format!("{what:?} left twice")),
            Spoken::Void => self.broken(
                Property::Rollback,
                format!("{what:?} left, although what was written before it is taken back"),
            ),
        }
        let (needs, has) = (self.live_until(after), self.reached(store));
        if needs > has {
            let what = format!("{what:?} follows write {needs}, and the store has up to {has}");
            self.broken(Property::Gate, what);
        }
        if let What::Accept(to) | What::Close(_, to) | What::Frame(_, to) = what {
            let got = std::mem::replace(&mut self.clients[to].got, order);
            self.check(Property::Order, got < order, format!("{what:?} overtook something"));
            let answered = self.clients[to].answers > 0;
            self.check(
                Property::Order,
                answered || matches!(what, What::Accept(_)),
                format!("{what:?} overtook the handshake's answer"),
            );
        }
    }

    /// Whether everything has left that waits for nothing.
    pub(super) fn check_late(&mut self) {
        let late: Vec<What> =
            self.held().filter(|said| !self.waits(said)).map(|s| s.what).collect();
        for what in late {
            self.broken(Property::Rollback, format!("{what:?} is held, and waits for nothing"));
        }
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &Said> {
        self.said.iter().filter(|said| said.fate == Spoken::Held)
    }

    pub(super) fn is_void(&self, what: What) -> bool {
        self.said.iter().any(|said| said.what == what && said.fate == Spoken::Void)
    }

    /// What ought to be the committed state of a connection.
    pub(super) fn state(&self, client: usize) -> Option<Bytes> {
        self.clients[client].states.last().and_then(|(_, state)| state.clone())
    }

    /// A task is cancelled, whether it has started or not.
    pub(super) fn cancel(&mut self, task: u64) {
        self.turn.iter_mut().for_each(|turn| turn.spawns.retain(|id| *id != task));
        self.take_back(|said| said.what == What::Spawn(task));
    }

    /// The server's process is gone, and with it everything but the store.
    pub(super) fn crash(&mut self, stored: Rows) {
        self.take_back(|_| true);
        (self.turn, self.drained) = (None, false);
        self.attempts.clear();
        self.lost(stored);
        for client in &mut self.clients {
            (client.lost, client.ended, client.listed) = (true, true, false);
            client.states = vec![(0, client.connection.committed_state())];
        }
        self.requests.iter_mut().for_each(|request| request.done = true);
    }

    /// What waits is void, and the store holds these rows.
    fn lost(&mut self, stored: Rows) {
        self.acked = self.reached(&stored);
        self.pending.clear();
        self.in_flight = 0;
        self.stored = stored;
    }

    /// The number of the last write that a store with these rows has.
    fn reached(&self, store: &Rows) -> u64 {
        let whole = Segment::fold(&self.stored, &self.pending[..self.in_flight]);
        match self.pending[..self.in_flight].last() {
            Some(last) if *store == whole => last.last,
            _ if *store == self.stored => self.acked,
            _ => last_write(store),
        }
    }

    /// The number of the last write that was not taken back.
    pub(super) fn latest(&self) -> u64 {
        self.live_until(u64::MAX)
    }

    /// The number of the last such write up to this one.
    fn live_until(&self, upto: u64) -> u64 {
        let pending = self.pending.iter().flat_map(|segment| &segment.writes);
        let own = self.turn.iter().filter(|turn| !turn.void).flat_map(|turn| &turn.writes);
        let numbers = pending.chain(own).map(|(number, _)| *number);
        numbers.rev().find(|number| *number <= upto).unwrap_or(self.acked.min(upto))
    }

    fn waits(&self, said: &Said) -> bool {
        said.deferred || self.live_until(said.after) > self.acked
    }

    fn keep(&mut self, writes: Vec<(u64, Batch)>, states: Vec<(usize, Option<Bytes>)>) {
        if let Some((last, _)) = writes.last() {
            self.pending.push(Segment { last: *last, writes });
        }
        let after = self.latest();
        for (client, state) in states {
            self.clients[client].states.push((after, state));
        }
    }

    fn take_back(&mut self, is: impl Fn(&Said) -> bool) {
        for said in self.said.iter_mut().filter(|said| said.fate == Spoken::Held && is(said)) {
            said.fate = Spoken::Void;
            match said.what {
                What::Close(number, to) if self.clients[to].closing == Some(number) => {
                    self.clients[to].closing = None;
                }
                What::Accept(to) => {
                    (self.clients[to].listed, self.clients[to].in_room) = (false, false);
                }
                _ => {}
            }
        }
    }
}

impl Turn {
    /// All that it wrote since the last `sync`.
    pub(super) fn merged(&self) -> Batch {
        let mut merged = Batch::default();
        self.writes.iter().for_each(|(_, batch)| merged.merge(batch.clone()));
        merged
    }
}
