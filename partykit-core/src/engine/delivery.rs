use std::sync::Arc;

use crate::{
    connection::{outgoing::Outgoing, peer::Peer},
    machine::Targets,
};

/// As many sockets are served before the clock is read again.
const SOCKETS: usize = 32;

/// As many places for frames are kept.
const KEPT: usize = 1024;

/// Frames on their way to the sockets, a few at a time: what a room says to very many, or very much of it, must
/// not keep its thread.
pub(super) struct Delivery {
    frames: Vec<(Targets, Arc<Outgoing>)>,
    /// All frames are for the same connections, as a lone broadcast is. Each of them is visited once.
    is_one_crowd: bool,
    /// The sockets write what they have. Without it they only queue.
    flushes: bool,
    /// The frame, or the targets, and the connection that are next.
    next: (usize, usize),
}

impl Delivery {
    /// Queues frames at the sockets.
    pub(super) fn queue(frames: Vec<(Targets, Arc<Outgoing>)>) -> Self {
        Self { frames, is_one_crowd: false, flushes: false, next: (0, 0) }
    }

    /// Queues frames, and lets everything leave. Whether `nothing_waits` at the sockets so far.
    pub(super) fn flush(frames: Vec<(Targets, Arc<Outgoing>)>, nothing_waits: bool) -> Self {
        let is_one_crowd = nothing_waits
            && frames.split_first().is_some_and(|((first, _), rest)| {
                rest.iter().all(|(to, _)| to.reaches_same(first))
            });
        Self { frames, is_one_crowd, flushes: true, next: (0, 0) }
    }

    /// Goes on for a while. `unflushed` is where something was queued that has not left yet. Whether there is
    /// more to do.
    pub(super) fn advance(&mut self, unflushed: &mut Vec<Targets>) -> bool {
        let step = if self.is_one_crowd { Self::serve_crowd } else { Self::serve_each };
        (0..SOCKETS).all(|_| step(self, unflushed))
    }

    /// It is over. Gives back the memory for the next frames, unless it is much.
    pub(super) fn end(self) -> Vec<(Targets, Arc<Outgoing>)> {
        let mut frames = self.frames;
        frames.clear();
        if frames.capacity() > KEPT { Vec::new() } else { frames }
    }

    /// All frames to one connection, and on to the next one.
    fn serve_crowd(&mut self, _: &mut Vec<Targets>) -> bool {
        let Some((crowd, _)) = self.frames.first() else { return false };
        let (frame, at) = self.next;
        let Some(peer) = crowd.reached().get(at) else { return false };
        let upto = self.frames.len().min(frame + SOCKETS);
        send(&self.frames[frame..upto], peer);
        self.next = (upto, at);
        if upto == self.frames.len() {
            peer.socket().flush();
            self.next = (0, at + 1);
        }
        true
    }

    /// One frame to one connection after another.
    fn serve_each(&mut self, unflushed: &mut Vec<Targets>) -> bool {
        let (frame, at) = self.next;
        if let Some((to, _)) = self.frames.get(frame) {
            match to.reached().get(at) {
                Some(peer) => {
                    send(&self.frames[frame..=frame], peer);
                    self.next = (frame, at + 1);
                }
                None => {
                    flush_later(unflushed, to.clone());
                    self.next = (frame + 1, 0);
                }
            }
            return true;
        }
        let Some(targets) = unflushed.get(frame - self.frames.len()).filter(|_| self.flushes)
        else {
            if self.flushes {
                unflushed.clear();
            }
            return false;
        };
        match targets.reached().get(at) {
            Some(peer) => {
                peer.socket().flush();
                self.next = (frame, at + 1);
            }
            None => self.next = (frame + 1, 0),
        }
        true
    }
}

fn send(frames: &[(Targets, Arc<Outgoing>)], peer: &Peer) {
    for (_, frame) in frames.iter().filter(|(to, _)| to.includes(peer)) {
        peer.socket().send(frame);
    }
}

/// Has something leave with the next flush.
pub(super) fn flush_later(unflushed: &mut Vec<Targets>, targets: Targets) {
    // A room mostly speaks to the same connections again.
    if !unflushed.iter().rev().take(4).any(|known| known.reaches_same(&targets)) {
        unflushed.push(targets);
    }
}
