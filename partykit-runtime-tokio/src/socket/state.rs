use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::atomic::Ordering,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use partykit_core::{Close, runtime::CloseReason};
use tokio::{io::AsyncWrite, sync::oneshot, task::coop::unconstrained};

use super::{
    Io, LinkSettings, Verdict,
    pace::MessageCount,
    queue::Queue,
    sweeper::{NEVER, Second, past},
};
use crate::codec::{encode_close, encode_ping};

/// The most bytes that may wait for a client that was given up: the rest of a message that has begun, and its
/// Close.
const LAST_WORDS: usize = 64 << 10;

/// The state of a [`Link`](super::Link), behind its lock.
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) io: Option<Box<dyn Io>>,
    /// The socket's task.
    pub(super) task: Option<Waker>,
    pub(super) verdict: Option<oneshot::Sender<Verdict>>,
    pub(super) queue: Option<Box<Queue>>,
    pub(super) messages: Option<Box<MessageCount>>,
    /// How the connection ended. `None` again when the task has told the room.
    pub(super) report: Option<Box<Close>>,
    /// The task is telling the room how the connection ended.
    telling: bool,
    heard: Second,
    /// When the client is given up unless it says something. 0 if there is no such time.
    trial: Second,
    /// When the unfinished message began. 0 if there is none.
    pub(super) begun: Second,
    /// When the phase ends, no matter what the client does. 0 if there is no such time.
    deadline: Second,
    /// When the sweeper visits this link.
    pub(super) visit: Second,
    /// Nothing is read, because the room takes no message now.
    pub(super) stalled: bool,
    /// The client did something forbidden. Nothing more is read. The room closes the connection after it has
    /// answered the earlier messages.
    pub(super) condemned: bool,
    /// Written bytes may still be in a buffer of the socket.
    unflushed: bool,
    /// Nothing can be written any more.
    broken: bool,
    /// The client read too slowly.
    pub(super) behind: bool,
    /// Too much waited for the client, so no message of it was taken.
    clogged: bool,
    /// The write half is shut down.
    shut: bool,
    /// The task has something to do.
    pub(super) wake: bool,
}

/// The phase of a socket. It only moves forward.
pub(super) enum Phase {
    /// Messages go both ways.
    Open,
    /// This Close of the server is queued or sent. The client's Close is still to come.
    Closing(Box<Close>),
    /// The connection is over for the room. The last frames are written, then the client hangs up.
    Draining,
    /// The socket is to be dropped.
    Ended,
}

impl State {
    pub(super) fn new(verdict: oneshot::Sender<Verdict>) -> Self {
        Self {
            phase: Phase::Open,
            io: None,
            task: None,
            verdict: Some(verdict),
            queue: None,
            messages: None,
            report: None,
            telling: false,
            heard: 0,
            trial: 0,
            begun: 0,
            deadline: 0,
            visit: NEVER,
            stalled: false,
            condemned: false,
            unflushed: false,
            broken: false,
            behind: false,
            clogged: false,
            shut: false,
            wake: false,
        }
    }

    pub(super) fn attach(&mut self, io: Box<dyn Io>, settings: &LinkSettings) {
        let now = settings.sweeper.now();
        self.io = Some(io);
        self.heard = now;
        if let Some(queue) = &mut self.queue {
            queue.restart(now);
        }
        if matches!(self.phase, Phase::Draining) {
            self.deadline = settings.sweeper.after(settings.close_timeout);
        }
    }

    pub(super) fn set_task(&mut self, waker: &Waker) {
        match &mut self.task {
            Some(task) => task.clone_from(waker),
            None => self.task = Some(waker.clone()),
        }
    }

    /// Whether the link still takes frames.
    pub(super) fn speaks(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.broken
    }

    /// Queues a frame, unless too much waits for the client.
    pub(super) fn send(&mut self, frame: Bytes, settings: &LinkSettings) {
        if !self.fits(&frame, settings) {
            // Write first: the client may have read meanwhile, and only what the socket does not take counts.
            self.write(settings);
        }
        if !self.speaks() {
            return;
        }
        if self.fits(&frame, settings) {
            self.queue(settings).push(frame, &settings.outbound);
        } else {
            self.fall_behind(settings);
        }
    }

    /// Closes the connection with the server's Close.
    pub(super) fn close(&mut self, close: Close, settings: &LinkSettings) {
        if !self.speaks() {
            return;
        }
        if self.condemned {
            return self.fail(close, settings);
        }
        self.push_close(encode_close(&close), settings);
        self.phase = Phase::Closing(Box::new(close));
        // The task may hold a message for the room. The room takes no more, so the task can go on.
        self.wake = mem::take(&mut self.stalled);
    }

    /// Whether the server's Close is written, or has begun to be.
    pub(super) fn is_close_out(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
            && self.queue.as_ref().is_none_or(|queue| queue.is_last_begun())
    }

    /// Sends a last `frame`, and lets the task tell the room how the connection ended.
    pub(super) fn finish(
        &mut self,
        frame: Option<Bytes>,
        report: Option<Close>,
        settings: &LinkSettings,
    ) {
        if matches!(self.phase, Phase::Draining | Phase::Ended) {
            return;
        }
        if (!self.condemned || self.behind)
            && self.queue.as_mut().is_some_and(|queue| !queue.keep_begun())
        {
            self.queue = None;
        }
        if let Some(frame) = frame.filter(|_| !self.broken) {
            self.push_close(frame, settings);
        }
        self.phase = Phase::Draining;
        self.report = report.map(Box::new);
        self.stalled = false;
        self.wake = true;
        if !self.broken {
            self.deadline = settings.sweeper.after(settings.close_timeout);
        }
    }

    /// Closes without waiting for the client's Close, because the client is at fault.
    pub(super) fn fail(&mut self, close: Close, settings: &LinkSettings) {
        let frame = (!self.is_close_out()).then(|| encode_close(&close));
        self.finish(frame, Some(close.unclean()), settings);
    }

    /// Ends the connection without the closing handshake.
    pub(super) fn lose(&mut self, reason: CloseReason) {
        let report = match mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Open => reason.close(),
            Phase::Closing(close) => close.unclean(),
            Phase::Draining | Phase::Ended => return self.wake = true,
        };
        self.report = Some(Box::new(report));
        self.wake = true;
    }

    /// Writes as much as the socket takes. The task writes the rest later.
    pub(super) fn write(&mut self, settings: &LinkSettings) {
        // Invariant: the room knows of the end before the client does. So nothing is written until the task
        // has told the room.
        if self.report.is_some() || self.telling {
            return;
        }
        let Self { io: Some(io), task: Some(task), queue, unflushed, .. } = self else { return };
        let now = settings.sweeper.now();
        let mut is_read = false;
        let attempt =
            poll_fn(|cx| poll_write_out(&mut **io, queue, unflushed, &mut is_read, now, cx));
        // Not limited by Tokio's budget for the running task, because a room may write to thousands of
        // sockets in one turn.
        let written = pin!(unconstrained(attempt)).poll(&mut Context::from_waker(task));
        if is_read {
            // A client that reads is alive. Its ping may wait behind much that it still has to read.
            self.heard(now);
        }
        if self.clogged && self.waiting() <= settings.clogged {
            self.clogged = false;
            self.wake = true;
        }
        match written {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                if matches!(self.phase, Phase::Closing(_)) && self.deadline == 0 {
                    self.deadline = settings.sweeper.after(settings.close_timeout);
                }
            }
            Poll::Ready(Err(_)) => {
                // Reading goes on: what the client sent before it went may have its Close.
                (self.queue, self.unflushed, self.broken) = (None, false, true);
                self.deadline = settings.sweeper.after(settings.linger);
                self.wake = true;
            }
        }
    }

    /// The bytes that wait for the client.
    pub(super) fn waiting(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes())
    }

    /// Whether too much waits for the client, so that no message of it is taken. The task is woken when that
    /// ends.
    pub(super) fn is_clogged(&mut self, settings: &LinkSettings) -> bool {
        self.clogged = self.waiting() > settings.clogged;
        self.clogged
    }

    /// Takes the report that the task has to give to the room. Marks an earlier report as given.
    pub(super) fn begin_report(&mut self) -> Option<Box<Close>> {
        let report = self.report.take();
        self.telling = report.is_some();
        report
    }

    /// Shuts the write half down when everything is written.
    pub(super) fn shut_down(&mut self, settings: &LinkSettings, cx: &mut Context<'_>) {
        let said = self.queue.is_none() && !self.unflushed && !self.broken;
        if !matches!(self.phase, Phase::Draining) || !said || self.shut {
            return;
        }
        if let Some(io) = &mut self.io
            && Pin::new(io).poll_shutdown(cx).is_ready()
        {
            self.shut = true;
            // A client that is behind may not have read its Close yet.
            let patience = if self.behind { settings.last_words } else { settings.linger };
            self.deadline = self.deadline.min(settings.sweeper.after(patience));
        }
    }

    /// Notes that the client said something.
    pub(super) fn heard(&mut self, now: Second) {
        (self.heard, self.trial) = (now, 0);
    }

    pub(super) fn resume(&mut self, now: Second) {
        self.stalled = false;
        self.heard(now);
    }

    /// Pings the client. It is given up if it says nothing for `patience`.
    pub(super) fn ping(&mut self, settings: &LinkSettings, patience: Duration) {
        if !self.speaks() || self.io.is_none() {
            return;
        }
        let until = settings.sweeper.after(patience);
        if self.trial == 0 || until < self.trial {
            self.trial = until;
            // No payload is needed: any sign of life counts as an answer.
            self.send(encode_ping(&[]), settings);
        }
    }

    /// Enforces the time limits that are over.
    pub(super) fn enforce(&mut self, settings: &LinkSettings) {
        let now = settings.sweeper.now();
        let is_over = |deadline: Second| deadline > 0 && deadline <= now;
        if is_over(self.deadline) {
            // If everything is with the operating system, the connection is not reset: the client may still
            // read the last frames.
            if self.behind || self.queue.is_some() {
                self.reset();
            }
            return self.lose(CloseReason::HangsUpTooLate);
        }
        if is_over(self.stall_due(settings)) {
            if let Phase::Open = self.phase {
                return self.fall_behind(settings);
            }
            self.reset();
            return self.lose(CloseReason::ReadsNothing);
        }
        if !self.listens() {
            return;
        }
        if is_over(self.trial) {
            self.reset();
            self.lose(CloseReason::NoAnswer);
        } else if is_over(self.message_due(settings)) {
            self.fail(CloseReason::MessageTooSlow.close(), settings);
        } else if self.trial == 0 && is_over(past(self.heard, settings.keep_alive)) {
            self.ping(settings, settings.keep_alive);
        }
        self.write(settings);
    }

    /// When [`State::enforce`] may have something to do.
    pub(super) fn due(&self, settings: &LinkSettings) -> Second {
        if self.io.is_none() || matches!(self.phase, Phase::Ended) {
            return NEVER;
        }
        let deadline = if self.deadline > 0 { self.deadline } else { NEVER };
        let due = deadline.min(self.stall_due(settings));
        if !self.listens() {
            return due;
        }
        let silence =
            if self.trial > 0 { self.trial } else { past(self.heard, settings.keep_alive) };
        due.min(silence).min(self.message_due(settings))
    }

    fn message_due(&self, settings: &LinkSettings) -> Second {
        if self.begun > 0 { past(self.begun, settings.message_timeout) } else { NEVER }
    }

    /// When the client is given up because it reads nothing. For last frames the phase has a deadline, so
    /// this applies only to clients that are behind.
    fn stall_due(&self, settings: &LinkSettings) -> Second {
        match &self.queue {
            Some(queue) if self.behind => past(queue.moved(), settings.last_words),
            Some(queue) if !matches!(self.phase, Phase::Draining) => {
                past(queue.moved(), settings.write_stall)
            }
            _ => NEVER,
        }
    }

    /// Whether a silent client may be gone. Silence means nothing while nothing is read.
    fn listens(&self) -> bool {
        self.speaks() && !self.stalled && !self.condemned
    }

    /// Gives the client up because too much waits for it.
    pub(super) fn fall_behind(&mut self, settings: &LinkSettings) {
        if !self.speaks() {
            return;
        }
        settings.slow_clients.fetch_add(1, Ordering::Relaxed);
        settings.meter.slow_client();
        self.behind = true;
        self.fail(CloseReason::TooFarBehind.close(), settings);
        // The last frames have a time limit of their own.
        if let Some(queue) = &mut self.queue {
            queue.restart(settings.sweeper.now());
        }
    }

    /// Gives the client up because too much waits for all clients. If much waits for this one, it is dropped
    /// at once, and the client gets no Close.
    pub(super) fn give_up(&mut self, settings: &LinkSettings) {
        self.fall_behind(settings);
        if self.behind && self.waiting() > LAST_WORDS {
            self.reset();
            self.lose(CloseReason::NoSpace);
            self.queue = None;
        }
    }

    /// Whether a frame fits. The first message in the queue may be longer than the limit.
    fn fits(&self, frame: &Bytes, settings: &LinkSettings) -> bool {
        let most = settings.outbound.per_client();
        let fits = |queue: &Queue| queue.cost_behind_first() + frame.len() <= most;
        self.queue.as_deref().is_none_or(fits)
    }

    fn queue(&mut self, settings: &LinkSettings) -> &mut Queue {
        self.queue.get_or_insert_with(|| Box::new(Queue::new(settings.sweeper.now())))
    }

    /// Queues a Close as a piece of its own, so that it stays when earlier frames are dropped.
    fn push_close(&mut self, frame: Bytes, settings: &LinkSettings) {
        let queue = self.queue(settings);
        queue.push_alone(frame, &settings.outbound);
        // No message may follow a Close, so nothing waits for space any more.
        queue.wake_all();
    }

    /// Makes the operating system forget what it holds for the client when the socket is dropped.
    fn reset(&mut self) {
        if let Some(io) = &mut self.io {
            io.reset();
        }
    }
}

/// Writes and flushes. Ready when nothing waits any more.
fn poll_write_out(
    io: &mut dyn Io,
    queue: &mut Option<Box<Queue>>,
    unflushed: &mut bool,
    is_read: &mut bool,
    now: Second,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<()>> {
    if let Some(waiting) = queue {
        *unflushed = true;
        let written = waiting.poll_write(io, now, cx);
        *is_read = waiting.is_read();
        ready!(written)?;
        *queue = None;
    }
    if *unflushed {
        ready!(Pin::new(io).poll_flush(cx))?;
        *unflushed = false;
    }
    Poll::Ready(Ok(()))
}
