use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use partykit_core::{
    Close,
    runtime::{CloseReason, Outgoing},
};
use tokio::io::AsyncWrite;

use self::decision::Decision;
use super::{
    LinkSettings,
    carriage::Carriage,
    pace::MessageCount,
    queue::{Queue, SMALL},
    spare,
    sweeper::{NEVER, Second},
    task::{Rest, Seat},
};
use crate::codec::{append_message, encode_close, encode_message, message_frame};

#[cfg(unix)]
mod at_once;
mod decision;
mod limits;
#[cfg(unix)]
mod pause;
#[cfg(unix)]
pub(super) use self::at_once::Said;
#[cfg(unix)]
pub(super) use self::pause::{Next, Pause};

/// The most bytes that may wait for a client that was given up: the rest of a message that has begun, and its
/// Close.
const LAST_WORDS: usize = 64 << 10;

/// The state of a [`Link`](super::Link), behind its lock.
pub(super) struct State {
    pub(super) carriage: Carriage,
    /// What the reading needs. `None` while the socket is polled, and before there is one.
    pub(super) seat: Option<Seat>,
    pub(super) queue: Option<Box<Queue>>,
    rare: Option<Box<Rare>>,
    /// When the client last said something. If it is on trial: when it is given up unless it says something.
    heard: Second,
    /// When the sweeper visits this link.
    pub(super) visit: Second,
    pub(super) phase: Phase,
    reading: Reading,
    writing: Writing,
    /// How far the socket is on its way out of this process.
    #[cfg(unix)]
    pub(super) pause: Pause,
    /// The client was pinged, and has said nothing since.
    on_trial: bool,
    /// The client read too slowly.
    pub(super) behind: bool,
    /// Too much waited for the client, so no message of it was taken.
    clogged: bool,
    /// The task has something to do.
    pub(super) wake: bool,
}

/// What an idle connection does not have. Exists only while there is some of it.
#[derive(Default)]
struct Rare {
    decision: Decision,
    messages: Option<MessageCount>,
    /// What is left of the last read.
    left: Option<Box<Rest>>,
    /// The server's Close that is queued or sent, in [`Phase::Closing`].
    closing: Option<Close>,
    report: Report,
    /// When the unfinished message began. 0 if no message is unfinished.
    begun: Second,
    /// When the phase ends, no matter what the client does. 0 if there is no such time.
    deadline: Second,
}

/// How the connection ended, for the room.
#[derive(Default)]
enum Report {
    #[default]
    None,
    /// The task has to tell the room.
    Due(Close),
    /// The task is telling the room.
    Telling,
}

/// The phase of a socket. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages go both ways.
    Open,
    /// A Close of the server is queued or sent. The client's Close is still to come.
    Closing,
    /// The connection is over for the room. The last frames are written, then the client hangs up.
    Draining,
    /// The socket is to be dropped.
    Ended,
}

/// Whether messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    On,
    /// Nothing is read, because the room takes no message now.
    Stalled,
    /// The client did something forbidden. Nothing more is read. The room closes the connection after it has
    /// answered the earlier messages.
    Condemned,
}

/// Whether frames can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    On,
    /// The write half is shut down.
    Shut,
    /// Nothing can be written any more.
    Broken,
}

impl State {
    /// `awaits` says that the room has to decide whether it accepts the connection.
    pub(super) fn new(awaits: bool) -> Self {
        let undecided = || Rare { decision: Decision::Open(None), ..Rare::default() };
        Self {
            carriage: Carriage::Absent,
            seat: None,
            queue: None,
            rare: awaits.then(|| Box::new(undecided())),
            heard: 0,
            visit: NEVER,
            phase: Phase::Open,
            reading: Reading::On,
            writing: Writing::On,
            #[cfg(unix)]
            pause: Pause::No,
            on_trial: false,
            behind: false,
            clogged: false,
            wake: false,
        }
    }

    pub(super) fn attach(
        &mut self,
        carriage: Carriage,
        seat: Seat,
        left: Option<Box<Rest>>,
        settings: &LinkSettings,
    ) {
        let now = settings.sweeper.now();
        self.carriage = carriage;
        self.heard(now);
        self.put_seat(seat, left);
        if let Some(queue) = &mut self.queue {
            queue.restart(now);
        }
        if self.phase == Phase::Draining {
            self.rare().deadline = settings.sweeper.after(settings.close_timeout);
        }
    }

    /// What the reading of the socket needs. `None` if the socket has ended.
    pub(super) fn take_seat(&mut self) -> Option<(Seat, Option<Box<Rest>>)> {
        let seat = self.seat.take()?;
        Some((seat, self.rare.as_mut().and_then(|rare| rare.left.take())))
    }

    /// Whether something is left of the last read.
    #[cfg(unix)]
    pub(super) fn has_rest(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.left.is_some())
    }

    /// Gives it back.
    pub(super) fn put_seat(&mut self, seat: Seat, left: Option<Box<Rest>>) {
        self.seat = Some(seat);
        if left.is_some() {
            self.rare().left = left;
        }
    }

    /// The count of the client's messages, made by `make` when it is first asked for.
    pub(super) fn messages(&mut self, make: impl FnOnce() -> MessageCount) -> &MessageCount {
        self.rare().messages.get_or_insert_with(make)
    }

    /// Gives the memory back that nothing needs any more.
    pub(super) fn tidy(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// When the client is given up unless it says something. 0 if there is no such time.
    fn trial(&self) -> Second {
        if self.on_trial { self.heard } else { 0 }
    }

    fn deadline(&self) -> Second {
        self.rare.as_ref().map_or(0, |rare| rare.deadline)
    }

    /// Sets when the unfinished message began. 0 if no message is unfinished.
    pub(super) fn set_begun(&mut self, begun: Second) {
        if begun > 0 || self.rare.is_some() {
            self.rare().begun = begun;
        }
    }

    pub(super) fn is_condemned(&self) -> bool {
        self.reading == Reading::Condemned
    }

    /// Reads no more, if the connection is open. Returns whether it is.
    pub(super) fn condemn(&mut self) -> bool {
        let open = self.speaks();
        if open {
            self.reading = Reading::Condemned;
        }
        open
    }

    /// The room takes no message now. Returns whether waiting makes sense.
    pub(super) fn stall(&mut self) -> bool {
        let open = self.phase == Phase::Open;
        if self.reading != Reading::Condemned {
            self.reading = if open { Reading::Stalled } else { Reading::On };
        }
        open
    }

    /// Ends a stall. Returns whether there was one.
    fn unstall(&mut self) -> bool {
        let stalled = self.reading == Reading::Stalled;
        if stalled {
            self.reading = Reading::On;
        }
        stalled
    }

    /// Whether a loop runs the socket, and there is nothing to do for it but to read.
    pub(super) fn only_reads(&self) -> bool {
        #[cfg(unix)]
        return matches!(self.carriage, Carriage::Plain(_))
            && self.phase == Phase::Open
            && self.writing == Writing::On
            && self.reading != Reading::Condemned
            && self.pause == Pause::No
            && self.queue.is_none()
            && !self.clogged;
        #[cfg(not(unix))]
        false
    }

    /// Whether the link still takes frames.
    pub(super) fn speaks(&self) -> bool {
        self.phase == Phase::Open && self.writing != Writing::Broken
    }

    /// Queues a message, unless too much waits for the client. The frame of a short one is made in the queue.
    pub(super) fn say(&mut self, message: Outgoing<'_>, settings: &LinkSettings) {
        let length = message_frame(message.message());
        if length > SMALL {
            let encode = |message: &_| settings.outbound.frame(encode_message(message));
            return self.send(message.encoded(encode), settings);
        }
        if self.has_space(length, settings) {
            let append = |frames: &mut _| append_message(message.message(), frames);
            self.queue(settings).push_small(length, &settings.outbound, append);
        }
    }

    /// Queues a frame, unless too much waits for the client.
    pub(super) fn send(&mut self, frame: Bytes, settings: &LinkSettings) {
        if self.has_space(frame.len(), settings) {
            self.queue(settings).push(frame, &settings.outbound);
        }
    }

    /// Whether a frame of this length can be queued. If too much waits, the client is given up.
    fn has_space(&mut self, length: usize, settings: &LinkSettings) -> bool {
        if !self.fits(length, settings) {
            // Write first: the client may have read meanwhile, and only what the socket does not take counts.
            self.write(settings);
        }
        if !self.speaks() {
            return false;
        }
        let fits = self.fits(length, settings);
        if !fits {
            self.fall_behind(settings);
        }
        fits
    }

    /// Closes the connection with the server's Close.
    pub(super) fn close(&mut self, close: Close, settings: &LinkSettings) {
        if !self.speaks() {
            return;
        }
        if self.is_condemned() {
            return self.fail(close, settings);
        }
        self.push_close(encode_close(&close), settings);
        self.phase = Phase::Closing;
        self.rare().closing = Some(close);
        // The task may hold a message for the room. The room takes no more, so the task can go on.
        self.wake = self.unstall();
    }

    /// Whether the server's Close is written, or has begun to be.
    pub(super) fn is_close_out(&self) -> bool {
        self.phase == Phase::Closing
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
        if (!self.is_condemned() || self.behind)
            && self.queue.as_mut().is_some_and(|queue| !queue.keep_begun())
        {
            self.queue = None;
        }
        if let Some(frame) = frame.filter(|_| self.writing != Writing::Broken) {
            self.push_close(frame, settings);
        }
        self.phase = Phase::Draining;
        if let Some(report) = report {
            self.rare().report = Report::Due(report);
        }
        self.unstall();
        self.wake = true;
        if self.writing != Writing::Broken {
            self.rare().deadline = settings.sweeper.after(settings.close_timeout);
        }
    }

    /// Closes without waiting for the client's Close, because the client is at fault.
    pub(super) fn fail(&mut self, close: Close, settings: &LinkSettings) {
        let frame = (!self.is_close_out()).then(|| encode_close(&close));
        self.finish(frame, Some(close.unclean()), settings);
    }

    /// Ends the connection without the closing handshake.
    pub(super) fn lose(&mut self, reason: CloseReason) {
        self.wake = true;
        let before = mem::replace(&mut self.phase, Phase::Ended);
        let rare = self.rare();
        let report = match (before, rare.closing.take()) {
            (Phase::Draining | Phase::Ended, _) => return,
            (Phase::Closing, Some(close)) => close.unclean(),
            (Phase::Open | Phase::Closing, _) => reason.close(),
        };
        rare.report = Report::Due(report);
    }

    /// Writes as much as the socket takes. The task writes the rest later.
    pub(super) fn write(&mut self, settings: &LinkSettings) {
        // Invariant: the room knows of the end before the client does, so nothing is written before that.
        if self.has_report() {
            return;
        }
        let now = settings.sweeper.now();
        let mut is_read = false;
        let Some(written) = self.carriage.write(&mut self.queue, &mut is_read, now) else { return };
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
                if self.phase == Phase::Closing && self.deadline() == 0 {
                    self.rare().deadline = settings.sweeper.after(settings.close_timeout);
                }
            }
            Poll::Ready(Err(_)) => self.break_off(settings),
        }
    }

    /// Writes no more, because it has failed.
    fn break_off(&mut self, settings: &LinkSettings) {
        // Reading goes on: what the client sent before it went may have its Close.
        (self.queue, self.writing) = (None, Writing::Broken);
        self.rare().deadline = settings.sweeper.after(settings.linger);
        self.wake = true;
    }

    /// Whether the room does not know yet that the connection has ended.
    fn has_report(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !matches!(rare.report, Report::None))
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
    pub(super) fn begin_report(&mut self) -> Option<Close> {
        let report = &mut self.rare.as_mut()?.report;
        match mem::take(report) {
            Report::Due(close) => {
                *report = Report::Telling;
                Some(close)
            }
            Report::None | Report::Telling => None,
        }
    }

    /// Shuts the write half down when everything is written.
    pub(super) fn shut_down(&mut self, settings: &LinkSettings, cx: &mut Context<'_>) {
        let said = self.queue.is_none() && !self.carriage.is_unflushed();
        if self.phase != Phase::Draining || !said || self.writing != Writing::On {
            return;
        }
        if let Some(mut io) = self.carriage.io()
            && Pin::new(&mut io).poll_shutdown(cx).is_ready()
        {
            self.writing = Writing::Shut;
            // A client that is behind may not have read its Close yet.
            let patience = if self.behind { settings.last_words } else { settings.linger };
            self.rare().deadline = self.deadline().min(settings.sweeper.after(patience));
        }
    }

    /// Notes that the client said something.
    pub(super) fn heard(&mut self, now: Second) {
        (self.heard, self.on_trial) = (now, false);
    }

    pub(super) fn resume(&mut self, now: Second) {
        self.unstall();
        self.heard(now);
    }

    /// Whether a frame fits. The first message in the queue may be longer than the limit.
    fn fits(&self, length: usize, settings: &LinkSettings) -> bool {
        let most = settings.outbound.per_client();
        let fits = |queue: &Queue| queue.cost_behind_first() + length <= most;
        self.queue.as_deref().is_none_or(fits)
    }

    fn queue(&mut self, settings: &LinkSettings) -> &mut Queue {
        self.queue.get_or_insert_with(|| spare::take(settings.sweeper.now()))
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
        if let Some(io) = self.carriage.io() {
            io.reset();
        }
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Self { decision, messages, left, closing, report, begun, deadline } = self;
        matches!(decision, Decision::Over)
            && messages.is_none()
            && left.is_none()
            && closing.is_none()
            && matches!(report, Report::None)
            && (*begun, *deadline) == (0, 0)
    }
}
