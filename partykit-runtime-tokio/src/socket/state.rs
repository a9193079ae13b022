use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::atomic::Ordering,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use partykit_core::{Close, CloseCode};
use tokio::{io::AsyncWrite, sync::oneshot, task::coop::unconstrained};

use super::{
    Io, LinkSettings, Verdict,
    pace::MessageCount,
    queue::Queue,
    sweeper::{NEVER, Second, past},
};
use crate::codec::{encode_close, encode_ping};

/// What may wait for a client that was given up: the rest of a message that has begun, and its Close.
const LAST_WORDS: usize = 64 << 10;

/// What is behind the lock of a [`Link`](super::Link).
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) io: Option<Box<dyn Io>>,
    /// The socket's task.
    pub(super) task: Option<Waker>,
    pub(super) verdict: Option<oneshot::Sender<Verdict>>,
    pub(super) queue: Option<Box<Queue>>,
    pub(super) messages: Option<Box<MessageCount>>,
    /// How it ended, until the task has told the room.
    pub(super) report: Option<Box<Close>>,
    /// The task is telling it.
    telling: bool,
    heard: Second,
    /// When the client is given up unless it says something; 0 when it need not.
    trial: Second,
    /// When the message began that has not ended, or 0.
    pub(super) begun: Second,
    /// When the phase ends, whatever the client does, or 0.
    deadline: Second,
    /// When the sweeper comes.
    pub(super) visit: Second,
    /// Nothing is read, because the room takes no message.
    pub(super) stalled: bool,
    /// The client is at fault. Nothing more is read, and the room closes when it has answered what came
    /// before that.
    pub(super) condemned: bool,
    /// What was written may still be in a buffer of the socket.
    unflushed: bool,
    /// Nothing can be written any more.
    broken: bool,
    /// The client read too slowly.
    pub(super) behind: bool,
    /// The client was seen to have too much before it to take a message of its own.
    clogged: bool,
    /// We said that nothing more will be written.
    shut: bool,
    /// The task has something to do.
    pub(super) wake: bool,
}

/// Where a socket stands. It never goes back.
pub(super) enum Phase {
    /// Messages go both ways.
    Open,
    /// The server's Close, this one, is queued or sent, and the client's is awaited.
    Closing(Box<Close>),
    /// It is over, for the room. The last frames leave, then the client hangs up.
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

    /// Whether frames are still taken.
    pub(super) fn speaks(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.broken
    }

    /// Queues a frame, unless too much waits for the client.
    pub(super) fn send(&mut self, frame: Bytes, settings: &LinkSettings) {
        if !self.fits(&frame, settings) {
            // The client may have read meanwhile: only what it did not take counts.
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

    /// The server closes.
    pub(super) fn close(&mut self, close: Close, settings: &LinkSettings) {
        if !self.speaks() {
            return;
        }
        if self.condemned {
            return self.fail(close, settings);
        }
        self.push_close(encode_close(&close), settings);
        self.phase = Phase::Closing(Box::new(close));
        // The room is no longer interested in what the task waits to tell it.
        self.wake = mem::take(&mut self.stalled);
    }

    /// Whether the server's Close is written, or so far begun that it has to be.
    pub(super) fn is_close_out(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
            && self.queue.as_ref().is_none_or(|queue| queue.is_last_begun())
    }

    /// Says a last `frame` and nothing more, and has the room told how it ended.
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

    /// Closes without waiting for anything: the client is at fault.
    pub(super) fn fail(&mut self, close: Close, settings: &LinkSettings) {
        let frame = (!self.is_close_out()).then(|| encode_close(&close));
        self.finish(frame, Some(close.unclean()), settings);
    }

    /// The socket is gone, or has to go, without the closing handshake.
    pub(super) fn lose(&mut self, reason: &'static str) {
        let report = match mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Open => Close::abnormal(reason),
            Phase::Closing(close) => close.unclean(),
            Phase::Draining | Phase::Ended => return self.wake = true,
        };
        self.report = Some(Box::new(report));
        self.wake = true;
    }

    /// Writes as much as the socket takes. When it takes no more, the task goes on.
    pub(super) fn write(&mut self, settings: &LinkSettings) {
        // Who hears the end may count on the room knowing it.
        if self.report.is_some() || self.telling {
            return;
        }
        let Self { io: Some(io), task: Some(task), queue, unflushed, .. } = self else { return };
        let now = settings.sweeper.now();
        let mut is_read = false;
        let attempt =
            poll_fn(|cx| poll_write_out(&mut **io, queue, unflushed, &mut is_read, now, cx));
        // Not counted against the budget of the task that runs: it may write to thousands of sockets.
        let written = pin!(unconstrained(attempt)).poll(&mut Context::from_waker(task));
        if is_read {
            // A ping may wait behind much that it reads.
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
                // What the client said before it went, its Close perhaps, can still be read.
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

    /// Whether so much waits for the client that no message of its own is taken. When that is over, the
    /// task is woken.
    pub(super) fn is_clogged(&mut self, settings: &LinkSettings) -> bool {
        self.clogged = self.waiting() > settings.clogged;
        self.clogged
    }

    /// What the room has to be told before anything more is written; once. The one before is told.
    pub(super) fn begin_report(&mut self) -> Option<Box<Close>> {
        let report = self.report.take();
        self.telling = report.is_some();
        report
    }

    /// When everything is said: says so.
    pub(super) fn shut_down(&mut self, settings: &LinkSettings, cx: &mut Context<'_>) {
        let said = self.queue.is_none() && !self.unflushed && !self.broken;
        if !matches!(self.phase, Phase::Draining) || !said || self.shut {
            return;
        }
        if let Some(io) = &mut self.io
            && Pin::new(io).poll_shutdown(cx).is_ready()
        {
            self.shut = true;
            // Who is behind may not have come to its Close yet.
            let patience = if self.behind { settings.last_words } else { settings.linger };
            self.deadline = self.deadline.min(settings.sweeper.after(patience));
        }
    }

    /// The client said something.
    pub(super) fn heard(&mut self, now: Second) {
        (self.heard, self.trial) = (now, 0);
    }

    pub(super) fn resume(&mut self, now: Second) {
        self.stalled = false;
        self.heard(now);
    }

    /// Pings the client, which has `patience` to say something.
    pub(super) fn ping(&mut self, settings: &LinkSettings, patience: Duration) {
        if !self.speaks() || self.io.is_none() {
            return;
        }
        let until = settings.sweeper.after(patience);
        if self.trial == 0 || until < self.trial {
            self.trial = until;
            // Without a payload: any sign of life answers it.
            self.send(encode_ping(&[]), settings);
        }
    }

    /// Ends what has taken too long.
    pub(super) fn enforce(&mut self, settings: &LinkSettings) {
        let now = settings.sweeper.now();
        let is_over = |deadline: Second| deadline > 0 && deadline <= now;
        if is_over(self.deadline) {
            // The operating system has all that there is to say: the client may still read it.
            if self.behind || self.queue.is_some() {
                self.reset();
            }
            return self.lose("the client did not hang up in time");
        }
        if is_over(self.stall_due(settings)) {
            if let Phase::Open = self.phase {
                return self.fall_behind(settings);
            }
            self.reset();
            return self.lose("the client takes nothing");
        }
        if !self.listens() {
            return;
        }
        if is_over(self.trial) {
            self.reset();
            self.lose("the client does not answer");
        } else if is_over(self.message_due(settings)) {
            let close = Close::new(CloseCode::POLICY, "unfinished message");
            self.fail(close.expect("a valid code and a short reason"), settings);
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

    /// When the client has taken nothing for too long. A last frame has its own deadline, but for those
    /// who were given up.
    fn stall_due(&self, settings: &LinkSettings) -> Second {
        match &self.queue {
            Some(queue) if self.behind => past(queue.moved(), settings.last_words),
            Some(queue) if !matches!(self.phase, Phase::Draining) => {
                past(queue.moved(), settings.write_stall)
            }
            _ => NEVER,
        }
    }

    /// Whether silence means something.
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
        let close = Close::new(CloseCode::TRY_AGAIN, "too far behind");
        self.fail(close.expect("a valid code and a short reason"), settings);
        // Its last words have a time of their own.
        if let Some(queue) = &mut self.queue {
            queue.restart(settings.sweeper.now());
        }
    }

    /// Gives the client up because too much waits for all. What it holds is given free at once, if it is
    /// much: then it is not told why.
    pub(super) fn give_up(&mut self, settings: &LinkSettings) {
        self.fall_behind(settings);
        if self.behind && self.waiting() > LAST_WORDS {
            self.reset();
            self.lose("too much waits for all clients");
            self.queue = None;
        }
    }

    /// One message may be longer than what may wait.
    fn fits(&self, frame: &Bytes, settings: &LinkSettings) -> bool {
        let most = settings.outbound.per_client();
        let fits = |queue: &Queue| queue.cost_behind_first() + frame.len() <= most;
        self.queue.as_deref().is_none_or(fits)
    }

    fn queue(&mut self, settings: &LinkSettings) -> &mut Queue {
        self.queue.get_or_insert_with(|| Box::new(Queue::new(settings.sweeper.now())))
    }

    /// Queues a Close, which may be kept where what was queued before it is dropped.
    fn push_close(&mut self, frame: Bytes, settings: &LinkSettings) {
        let queue = self.queue(settings);
        queue.push_alone(frame, &settings.outbound);
        // No message comes behind it.
        queue.wake_all();
    }

    /// Has what the operating system holds for the client forgotten with the socket.
    fn reset(&mut self) {
        if let Some(io) = &mut self.io {
            io.reset();
        }
    }
}

/// Ready when nothing waits any more.
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
