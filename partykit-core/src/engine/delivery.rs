use crate::{
    connection::{outgoing::Frame, peer::Peer},
    machine::Targets,
};

/// As many sockets are served before the clock is read again.
const SOCKETS: usize = 32;

/// As many places for frames are kept.
const KEPT: usize = 1024;

/// Frames on their way to the sockets, a few at a time: what a room says to very many, or very much of it, must
/// not keep its thread.
pub(super) struct Delivery {
    frames: Vec<(Targets, Frame)>,
    order: Order,
    /// The sockets write what they have. Without it they only queue.
    flushes: bool,
    /// The frame, or the targets, and the connection that are next.
    next: (usize, usize),
}

/// In which order sockets are served. Each gets its frames in their order, in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Each frame goes to its connections, one frame after another. The flush comes after all of them.
    Frames,
    /// All frames are for the same connections, as a lone broadcast is. Each of these is visited once.
    Crowd,
    /// Each frame is for one connection, as an answer is. They are sorted, so each connection is visited once.
    Answers,
}

impl Delivery {
    /// Queues frames at the sockets.
    pub(super) fn queue(frames: Vec<(Targets, Frame)>) -> Self {
        Self { frames, order: Order::Frames, flushes: false, next: (0, 0) }
    }

    /// Queues frames, and lets everything leave. Whether `nothing_waits` at the sockets so far.
    pub(super) fn flush(mut frames: Vec<(Targets, Frame)>, nothing_waits: bool) -> Self {
        let order = if nothing_waits { Order::of(&frames) } else { Order::Frames };
        if order == Order::Answers {
            // A stable sort: what is said to one connection stays in order.
            frames.sort_by_key(|(to, _)| to.reached().first().map(Peer::key));
        }
        Self { frames, order, flushes: true, next: (0, 0) }
    }

    /// Goes on for a while. `unflushed` is where something was queued that has not left yet. Whether there is
    /// more to do.
    pub(super) fn advance(&mut self, unflushed: &mut Vec<Targets>) -> bool {
        (0..SOCKETS).all(|_| match self.order {
            Order::Frames => self.serve_frames(unflushed),
            Order::Crowd => self.serve_crowd(),
            Order::Answers => self.serve_answers(),
        })
    }

    /// It is over. Gives back the memory for the next frames, unless it is much.
    pub(super) fn end(self) -> Vec<(Targets, Frame)> {
        let mut frames = self.frames;
        frames.clear();
        if frames.capacity() > KEPT { Vec::new() } else { frames }
    }

    /// All frames to one connection, and on to the next one.
    fn serve_crowd(&mut self) -> bool {
        let Some((crowd, _)) = self.frames.first() else { return false };
        let (frame, at) = self.next;
        let Some(peer) = crowd.reached().get(at) else { return false };
        let upto = self.frames.len().min(frame + SOCKETS);
        let is_last = upto == self.frames.len();
        send(&self.frames[frame..upto], peer, is_last);
        self.next = if is_last { (0, at + 1) } else { (upto, at) };
        true
    }

    /// The frames to one connection, and on to the next one.
    fn serve_answers(&mut self) -> bool {
        let (frame, _) = self.next;
        let Some((to, _)) = self.frames.get(frame) else { return false };
        let same = self.frames[frame..].iter().take_while(|(other, _)| other.reaches_same(to));
        let upto = frame + same.take(SOCKETS).count();
        let is_last = self.frames.get(upto).is_none_or(|(other, _)| !other.reaches_same(to));
        to.reached().iter().for_each(|peer| send(&self.frames[frame..upto], peer, is_last));
        self.next = (upto, 0);
        true
    }

    /// One frame to one connection after another.
    fn serve_frames(&mut self, unflushed: &mut Vec<Targets>) -> bool {
        let (frame, at) = self.next;
        if let Some((to, _)) = self.frames.get(frame) {
            match to.reached().get(at) {
                Some(peer) => {
                    send(&self.frames[frame..=frame], peer, false);
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

impl Order {
    fn of(frames: &[(Targets, Frame)]) -> Self {
        let Some(((first, _), rest)) = frames.split_first() else { return Self::Frames };
        if frames.iter().all(|(to, _)| matches!(to, Targets::One(_))) {
            Self::Answers
        } else if rest.iter().all(|(to, _)| to.reaches_same(first)) {
            Self::Crowd
        } else {
            Self::Frames
        }
    }
}

/// Gives a connection those of these frames that are for it.
fn send(frames: &[(Targets, Frame)], peer: &Peer, flushes: bool) {
    let own = frames.iter().filter(|(to, _)| to.includes(peer));
    peer.socket().send_all(&mut own.map(|(_, frame)| frame.outgoing()), flushes);
}

/// Has something leave with the next flush.
pub(super) fn flush_later(unflushed: &mut Vec<Targets>, targets: Targets) {
    // A room mostly speaks to the same connections again.
    if !unflushed.iter().rev().take(4).any(|known| known.reaches_same(&targets)) {
        unflushed.push(targets);
    }
}
