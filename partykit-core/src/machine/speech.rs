//! What is said: by handlers and by others, until it leaves.

use std::{mem, sync::Arc};

use super::{CancelReason, Discard, Effect, Machine, Output, Targets, ids::Scope, turn::Turn};
use crate::{
    Close, Connection, Handler, Message,
    connection::{outgoing::Shared, peer::Peer, record::Status},
};

/// Outputs from outside of a handler: from code that holds a connection, and from the runtime. An output over
/// the limit comes back, to be dropped outside of all locks.
impl Machine {
    /// Two times as much as a handler may say may wait in the room with it.
    pub(crate) fn send(&mut self, to: &Connection, message: Message) -> Option<Effect> {
        self.send_by(None, to, message)
    }

    /// Sends to all listed connections, or to those of a tag. A quarter of what a handler may say may wait in
    /// the room with it.
    pub(crate) fn broadcast(&mut self, tag: Option<&str>, frame: Arc<Shared>) -> Option<Effect> {
        self.broadcast_by(None, tag, &[], frame)
    }

    pub(crate) fn close(&mut self, peer: Peer, close: Close) -> Option<Effect> {
        self.close_by(None, peer, close)
    }

    /// The bytes of messages to a connection that wait for the handler to await something or to end.
    pub(crate) fn unsent_to(&self, connection: &Connection) -> usize {
        let is_it = |peer: &Peer| peer.key() == connection.key();
        let own = self.outputs.iter().filter_map(|output| match output {
            Output::Effect(Effect::Answer(peer, message)) if is_it(peer) => Some(message.len()),
            Output::Effect(Effect::Frame { to, frame }) if to.iter().any(is_it) => {
                Some(frame.message().len())
            }
            _ => None,
        });
        own.sum()
    }
}

/// The way of what is said: `say`, then the gate, then out.
impl Machine {
    pub(super) fn send_by(
        &mut self,
        by: Option<Scope>,
        to: &Connection,
        message: Message,
    ) -> Option<Effect> {
        if self.roster.status(to.key()) != Some(Status::Open) {
            return None;
        }
        let effect = Effect::Answer(to.peer(), message);
        let limit = self.options.said_bytes.saturating_mul(2);
        if by.is_none() && !self.may_wait(effect.cost(), limit) {
            return Some(effect);
        }
        self.say(by, effect)
    }

    pub(super) fn broadcast_by(
        &mut self,
        by: Option<Scope>,
        tag: Option<&str>,
        except: &[Connection],
        frame: Arc<Shared>,
    ) -> Option<Effect> {
        let all = match tag {
            None => self.roster.peers(),
            Some(tag) => self.roster.tagged_peers(tag).into(),
        };
        if all.is_empty() {
            return None;
        }
        // One of another room may have the same key here.
        let here = except.iter().filter(|it| self.roster.peer(it.key()) == Some(it.peer()));
        let except = here.map(Connection::key).collect();
        let to = Targets::Many { all, except, is_own: tag.is_some() };
        let effect = Effect::Frame { to, frame };
        if by.is_none() && !self.may_wait(effect.cost(), self.options.said_bytes / 4) {
            return Some(effect);
        }
        self.say(by, effect)
    }

    pub(super) fn close_by(
        &mut self,
        by: Option<Scope>,
        peer: Peer,
        close: Close,
    ) -> Option<Effect> {
        if self.roster.status(peer.key()) != Some(Status::Open) {
            return None;
        }
        self.roster.set_status(peer.key(), Status::Closing);
        // No handler's failure takes back what others do.
        let effect = match by {
            Some(_) => Effect::Close(peer, close.into()),
            None => Effect::HangUp(peer, close.into()),
        };
        self.say(by, effect)
    }

    /// Emits an effect, unless it is for the connection that is connecting: its own come after the
    /// handshake's answer. An effect that is one too many comes back, to be dropped outside of all locks: a
    /// handler that goes on all the same fills no memory with what no client will hear.
    pub(super) fn say(&mut self, by: Option<Scope>, mut effect: Effect) -> Option<Effect> {
        let cost = effect.cost();
        if by.is_some() && !self.may_say(cost) {
            self.unsay(&effect);
            return Some(effect);
        }
        // No transaction of the handler takes back what others say: that is before every write.
        let (within, written) = by.map_or((0, 0), |scope| (scope.transaction, self.gate.written()));
        if let Some(Turn {
            connection: Some(new),
            deferred,
            deferred_cost,
            handler: Handler::OnConnect,
            ..
        }) = &mut self.turn
        {
            match &mut effect {
                // "Connecting": the client's `open` comes first, and that comes after the commit.
                own if Turn::is_for_new(new, own) => {
                    deferred.push((within, written, effect));
                    *deferred_cost += cost;
                    return None;
                }
                // A broadcast leaves for all others at once, and for the new one with its own frames.
                Effect::Frame { to: Targets::Many { all, except, .. }, frame }
                    if is_among(all, new) && !except.contains(&new.key()) =>
                {
                    let to = Targets::One(new.peer());
                    deferred.push((within, written, Effect::Frame { to, frame: frame.clone() }));
                    *deferred_cost += cost;
                    except.push(new.key());
                }
                _ => {}
            }
        }
        let held = self.gate.held();
        self.emit(by, effect);
        if by.is_some()
            && let Some(turn) = &mut self.turn
        {
            let waits = if self.gate.held() > held { &mut turn.held } else { &mut turn.said };
            *waits += cost;
        }
        None
    }

    /// Whether something that takes this much memory may wait in the room beside all that does.
    fn may_wait(&self, cost: usize, limit: usize) -> bool {
        let waits = self.gate.held_bytes() + self.bytes_unflushed;
        waits == 0 || waits + cost <= limit
    }

    /// Whether the running handler may say something that takes this much memory. When it may not, it
    /// is cancelled, and fails even if it is about to succeed.
    fn may_say(&mut self, cost: usize) -> bool {
        let Some(turn) = &mut self.turn else { return true };
        // What it read is void, so no client may hear what it makes of it.
        if turn.void || turn.overflow.is_some() {
            return false;
        }
        let limit = self.options.said_bytes;
        let bytes = turn.said + turn.held + turn.deferred_cost + cost;
        if bytes <= limit {
            return true;
        }
        // "When there is too much": a handler that says more than 64 MiB at once fails.
        turn.overflow = Some(bytes);
        if !turn.cancelled {
            turn.cancelled = true;
            self.outputs.push_back(Output::Cancel(CancelReason::SaidTooMuch { bytes, limit }));
        }
        false
    }

    /// Lets an effect leave, now or when the writes before it are durable.
    pub(super) fn emit(&mut self, by: Option<Scope>, effect: Effect) {
        if let Some(effect) = self.gate.hold(by, effect) {
            self.leave(effect);
        }
    }

    /// Lets everything leave whose writes are durable.
    pub(super) fn release(&mut self) {
        while let Some(effect) = self.gate.release() {
            self.leave(effect);
        }
        if self.gate.held() == 0
            && let Some(turn) = &mut self.turn
        {
            turn.said += mem::take(&mut turn.held);
        }
    }

    pub(super) fn leave(&mut self, effect: Effect) {
        if let Effect::Spawn { id, .. } = &effect
            && !self.holders.has_task(*id)
        {
            // It was cancelled while it waited for its commit.
            return self.discard(Discard::Effect(effect));
        }
        if let Effect::Answer(..) | Effect::Frame { .. } | Effect::Close(..) | Effect::HangUp(..) =
            &effect
        {
            self.unflushed = true;
            self.bytes_unflushed += effect.cost();
        }
        // "Connecting": an older socket of the same id may be dead, so it is pinged.
        let older = match &effect {
            Effect::Accept(connection) => self.roster.before(connection),
            _ => None,
        };
        self.outputs.push_back(Output::Effect(effect));
        self.outputs.extend(older.map(Output::Probe));
    }

    /// What was said is flushed.
    pub(super) fn flushed(&mut self) {
        (self.unflushed, self.turns_unflushed, self.bytes_unflushed) = (false, 0, 0);
        if let Some(turn) = &mut self.turn {
            turn.said = 0;
        }
    }

    /// Ends an effect that was taken back before it left.
    pub(super) fn undo(&mut self, now: std::time::Duration, effect: Effect) {
        if let Effect::Spawn { id, .. } = &effect {
            self.holders.end_task(now, *id);
        }
        self.unsay(&effect);
        self.discard(Discard::Effect(effect));
    }

    fn unsay(&mut self, effect: &Effect) {
        if let Effect::Close(peer, _) = effect
            && self.roster.status(peer.key()) == Some(Status::Closing)
        {
            self.roster.set_status(peer.key(), Status::Open);
        }
    }
}

/// Whether a connection is in a list, which is in connection order.
fn is_among(all: &[Peer], connection: &Connection) -> bool {
    all.binary_search_by_key(&connection.key(), Peer::key).is_ok()
}
