use std::{
    io, iter, mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use partykit_core::{
    Close,
    runtime::{CloseReason, Outgoing, Socket},
};
#[cfg(unix)]
use tracing::error;

mod reading;

use super::{
    LinkSettings,
    carriage::Carriage,
    pace::MessageCount,
    state::{Phase, State},
    sweeper::{NEVER, Second},
    task::{Rest, Seat},
};
#[cfg(unix)]
use super::{
    left::{Left, Out, SocketState},
    reactor::Home,
    state::{Next, Pause, Said},
};
use crate::codec::{close_reply, encode_close};

/// The room's end of a socket. It exists before the handshake is answered and queues frames from then on.
/// [`run`](super::run) gives it the socket.
pub(crate) struct Link {
    settings: Arc<LinkSettings>,
    me: Weak<Link>,
    state: Mutex<State>,
    /// The loop that runs the socket, if one does.
    #[cfg(unix)]
    home: Home,
}

/// How a connect ended. In both cases, answer the handshake with 101 and [run](super::run) the socket: a
/// refused client gets a Close.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection is open.
    Accept,
    /// The connect failed. The link sends this Close.
    Refuse(Close),
}

impl Link {
    /// A link without a socket, for a connection that its room has not accepted yet.
    pub(crate) fn new(settings: &Arc<LinkSettings>) -> Arc<Self> {
        Self::make(settings, State::new(true))
    }

    /// The room's verdict, once.
    pub(crate) fn poll_verdict(&self, cx: &mut Context<'_>) -> Poll<Verdict> {
        self.lock().poll_verdict(cx)
    }

    /// The same for a connection that a room has accepted in another process, or before it was to go there.
    #[cfg(unix)]
    pub(super) fn accepted(settings: &Arc<LinkSettings>) -> Arc<Self> {
        Self::make(settings, State::new(false))
    }

    fn make(settings: &Arc<LinkSettings>, state: State) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            settings: settings.clone(),
            me: me.clone(),
            state: Mutex::new(state),
            #[cfg(unix)]
            home: Home::default(),
        })
    }

    /// Sets the client's address, for the limit on messages from one address.
    pub(crate) fn set_address(&self, address: IpAddr) {
        let count = MessageCount::new(&self.settings.pace, Some(address));
        self.lock().messages(|| count);
    }

    /// Where it is in its loop.
    #[cfg(unix)]
    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// Its loop now knows it.
    #[cfg(unix)]
    pub(super) fn arrive(&self) {
        // Its time limits begin.
        self.with(|_| ());
    }

    /// Whether a loop runs the socket.
    fn has_loop(&self) -> bool {
        #[cfg(unix)]
        return self.home.is_known();
        #[cfg(not(unix))]
        false
    }

    /// Has the socket's loop poll it.
    fn wake_loop(&self) {
        #[cfg(unix)]
        if let Some(reactor) = &self.settings.reactor {
            reactor.wake(&self.home);
        }
    }

    /// Has the link visited at this time. `false` while its loop does not know it yet.
    fn schedule(&self, state: &State, due: Second) -> bool {
        #[cfg(unix)]
        if let Carriage::Plain(_) = state.carriage {
            let reactor = self.settings.reactor.as_ref();
            return reactor.is_some_and(|reactor| reactor.schedule(&self.home, due));
        }
        self.settings.sweeper.schedule(&self.me, state.visit, due);
        true
    }

    /// Has a loop's set of sockets watch the socket.
    #[cfg(unix)]
    pub(super) fn watch(&self, registry: &mio::Registry, token: mio::Token) -> io::Result<()> {
        match &mut self.lock().carriage {
            Carriage::Plain(io) => io.watch(registry, token),
            _ => Ok(()),
        }
    }

    /// Ends the watching of a socket that goes on elsewhere.
    #[cfg(unix)]
    pub(super) fn unwatch_if_left(&self, registry: &mio::Registry) {
        let mut state = self.lock();
        if state.has_left()
            && let Carriage::Plain(io) = &mut state.carriage
        {
            io.unwatch(registry);
        }
    }

    pub(super) fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    /// Gives the link its socket.
    pub(super) fn attach(&self, carriage: Carriage, seat: Seat, left: Option<Box<Rest>>) {
        self.with(|state| state.attach(carriage, seat, left, &self.settings));
    }

    /// Called by the task: writes what waits. Keeps the task's waker: other threads write too, and the task
    /// goes on where the socket takes no more.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Progress {
        self.with(|state| {
            state.carriage.set_task(cx.waker());
            if let Some(report) = state.begin_report() {
                return Progress::Tell(report);
            }
            state.write(&self.settings);
            state.shut_down(&self.settings, cx);
            #[cfg(unix)]
            match state.step_out() {
                Next::GoesOn => {}
                Next::Waits => return Progress::Wait,
                Next::Says(paused) => return Progress::StepOut(paused),
                Next::Leaves => return Progress::End,
            }
            match state.phase {
                Phase::Open if state.is_condemned() => Progress::Wait,
                Phase::Open | Phase::Closing => {
                    Progress::Read { clogged: state.is_clogged(&self.settings) }
                }
                Phase::Draining => Progress::Discard,
                Phase::Ended => Progress::End,
            }
        })
    }

    /// Queues an answer to something that the client said. Returns whether too much waits for the client now:
    /// then no message of it is taken.
    pub(super) fn answer(&self, frame: Bytes) -> bool {
        self.with(|state| {
            state.send(frame, &self.settings);
            state.is_clogged(&self.settings)
        })
    }

    /// Closes the connection because too much waits for the client.
    pub(super) fn give_up(&self) {
        self.with(|state| state.give_up(&self.settings));
    }

    /// The client's address. `None` if it is not known.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.lock().carriage.io()?.address()
    }

    /// Closes the connection because there is no memory for the message that the client has begun.
    pub(super) fn crowd_out(&self) {
        self.with(|state| state.fail(CloseReason::NoMemory.close(), &self.settings));
    }

    /// Counts a message of the client.
    ///
    /// # Errors
    ///
    /// When the message is over the party's limit.
    pub(super) fn count_message(&self) -> Result<(), CloseReason> {
        let pace = &self.settings.pace;
        if pace.messages.is_none() && pace.by_address.is_none() {
            return Ok(());
        }
        self.lock().messages(|| MessageCount::new(pace, None)).add()
    }

    /// Answers the client's Close and ends the connection.
    pub(super) fn peer_closed(&self, close: Close) {
        self.with(|state| {
            let reply = (!state.is_close_out()).then(|| close_reply(&close));
            state.finish(reply, Some(close), &self.settings);
        });
    }

    /// Stops reading from a client that did something forbidden. Returns the Close for
    /// [`RoomCell::hang_up`](partykit_core::runtime::RoomCell::hang_up): the room first answers the messages
    /// that came before.
    pub(super) fn violated(&self, reason: CloseReason) -> Option<Close> {
        let close = reason.close();
        self.with(|state| {
            if state.condemn() {
                return Some(close);
            }
            state.fail(close, &self.settings);
            None
        })
    }

    /// Ends the connection without the closing handshake.
    pub(super) fn lost(&self, reason: CloseReason) {
        self.with(|state| state.lose(reason));
    }

    /// Called when the room takes no message now. Returns whether waiting makes sense.
    pub(super) fn stall(&self) -> bool {
        self.with(State::stall)
    }

    /// Called when the room takes messages again. The client's silence meanwhile does not count.
    pub(super) fn resume(&self) {
        self.with(|state| state.resume(self.settings.sweeper.now()));
    }

    /// Sets whether a message has begun and not ended.
    pub(super) fn set_unfinished(&self, unfinished: bool) {
        let begun = if unfinished { self.settings.sweeper.now() } else { 0 };
        self.with(|state| state.set_begun(begun));
    }

    /// Has the task read nothing more, and say so once at [`LinkSettings::exit`]. `false` if the socket has
    /// ended: then nothing is said.
    #[cfg(unix)]
    pub(crate) fn pause(&self) -> bool {
        self.ask(Pause::Asked)
    }

    /// Has the paused task end, and give up what it has, once, at [`LinkSettings::exit`]. `false` as above.
    #[cfg(unix)]
    pub(crate) fn leave(&self) -> bool {
        self.ask(Pause::ToLeave)
    }

    #[cfg(unix)]
    fn ask(&self, pause: Pause) -> bool {
        self.with(|state| {
            let is_there = state.phase != Phase::Ended;
            if is_there {
                (state.pause, state.wake) = (pause, true);
            }
            is_there
        })
    }

    /// Reads again, with the task that it has.
    #[cfg(unix)]
    pub(crate) fn end_pause(&self) {
        self.with(|state| {
            state.pause = Pause::No;
            state.resume(self.settings.sweeper.now());
            state.wake = true;
        });
    }

    /// Called when the task ends: what it still has to say at [`LinkSettings::exit`].
    #[cfg(unix)]
    pub(super) fn last_out(self: &Arc<Self>) -> Option<Out> {
        match self.lock().pause {
            Pause::Left => Some(Out::Left(Left(self.clone()))),
            Pause::Asked | Pause::ToLeave => Some(Out::Stays),
            Pause::No | Pause::Paused => None,
        }
    }

    /// Gives a new link what waited for the client in another one.
    #[cfg(unix)]
    pub(super) fn resume_writing(&self, closing: Option<Close>, unsent: Bytes, written: usize) {
        self.with(|state| state.resume_writing(closing, unsent, written, &self.settings));
    }

    /// The socket as data. `None` if the connection has ended, or is about to.
    #[cfg(unix)]
    pub(super) fn to_hand_over(&self) -> Option<SocketState> {
        self.lock().hand_over()
    }

    /// Uses the descriptor, if another process can go on with it.
    #[cfg(unix)]
    pub(super) fn with_descriptor<R>(
        &self,
        act: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> R,
    ) -> Option<R> {
        self.lock().carriage.descriptor().map(act)
    }

    /// Takes the socket away, with the bytes that wait for the client.
    #[cfg(unix)]
    pub(super) fn give_up_carriage(&self) -> (Carriage, Vec<u8>) {
        self.with(|state| {
            state.phase = Phase::Ended;
            let unsent = state.queue.take().map_or_else(Vec::new, |queue| {
                let (bytes, written) = queue.waiting();
                bytes[written..].to_vec()
            });
            (mem::take(&mut state.carriage), unsent)
        })
    }

    /// Called when the task ends. Drops the socket.
    pub(super) fn end(&self) {
        // These are dropped after the lock is free, because closing a socket takes time.
        let (_carriage, _queue) = self.with(|state| {
            state.phase = Phase::Ended;
            (mem::take(&mut state.carriage), state.queue.take())
        });
    }

    /// Whether the client was given up because it reads too slowly.
    pub(super) fn is_behind(&self) -> bool {
        self.lock().behind
    }

    /// Called by the sweeper, which has removed this link from its list.
    pub(super) fn visit(&self) {
        self.with(|state| {
            // It may have been moved to a later time.
            if state.visit <= self.settings.sweeper.now() {
                state.visit = NEVER;
                state.enforce(&self.settings);
            }
        });
    }

    #[cfg(test)]
    pub(super) fn cost(&self) -> usize {
        self.lock().queue.as_ref().map_or(0, |queue| queue.cost())
    }

    #[cfg(test)]
    pub(super) fn is_queueing(&self) -> bool {
        self.lock().queue.is_some()
    }

    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        self.lock().carriage.task().is_some()
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        #[cfg(unix)]
        self.hear_of_space(&mut state);
        let due = state.due(&self.settings).max(self.settings.sweeper.now() + 1);
        if due < state.visit && self.schedule(&state, due) {
            state.visit = due;
        }
        let wake = mem::take(&mut state.wake);
        let waker = if wake { state.carriage.task().cloned() } else { None };
        state.tidy();
        let outbound = &self.settings.outbound;
        let waits = state.queue.as_mut().is_some_and(|queue| queue.settle(outbound, &self.me));
        drop(state);
        if waits {
            outbound.relieve(self.settings.sweeper.now());
        }
        if let Some(waker) = waker {
            waker.wake();
        } else if wake {
            self.wake_loop();
        }
        result
    }

    /// Sees to it that the loop hears when the socket takes what still waits.
    #[cfg(unix)]
    fn hear_of_space(&self, state: &mut State) {
        let State { carriage: Carriage::Plain(io), .. } = state else { return };
        if let Some(reactor) = self.settings.reactor.as_ref().filter(|_| io.is_stuck())
            && let Err(error) = reactor.watch_writes(&self.home, io)
        {
            error!("a socket cannot be watched, so it is closed: {error}");
            state.lose(CloseReason::Broken);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, verdict: Verdict) {
        let waker = self.lock().decide(verdict);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Socket for Link {
    fn accept(&self) {
        self.decide(Verdict::Accept);
    }

    fn refuse(&self, close: Close) {
        self.with(|state| state.finish(Some(encode_close(&close)), None, &self.settings));
        self.decide(Verdict::Refuse(close));
    }

    fn send(&self, message: Outgoing<'_>) {
        self.send_all(&mut iter::once(message), false);
    }

    fn send_all(&self, messages: &mut dyn Iterator<Item = Outgoing<'_>>, flushes: bool) {
        let mut first = None;
        #[cfg(unix)]
        if flushes {
            match self.lock().say_at_once(messages, &self.settings) {
                Said::All => return,
                Said::UpTo(message) => first = message,
            }
        }
        self.with(|state| {
            for message in first.into_iter().chain(messages) {
                if !state.speaks() {
                    break;
                }
                self.settings.meter.sent(message.message().len());
                state.say(message, &self.settings);
            }
            if flushes {
                state.write(&self.settings);
            }
        });
    }

    fn close(&self, close: Close) {
        self.with(|state| state.close(close, &self.settings));
    }

    /// Pings the client now. Gives it up if it says nothing for [`LinkSettings::probe`].
    fn probe(&self) {
        self.with(|state| {
            state.ping(&self.settings, self.settings.probe);
            state.write(&self.settings);
        });
    }

    fn queued(&self) -> usize {
        self.lock().waiting()
    }

    fn poll_drained(&self, at_most: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.speaks() {
            return Poll::Ready(());
        }
        match &mut state.queue {
            Some(queue) if queue.bytes() > at_most => {
                queue.watch(at_most, cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    fn flush(&self) {
        self.with(|state| state.write(&self.settings));
    }
}

/// Has the socket's loop poll it.
#[cfg(unix)]
impl futures_util::task::ArcWake for Link {
    fn wake_by_ref(link: &Arc<Self>) {
        link.wake_loop();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let visit = self.lock().visit;
        if visit != NEVER && !self.has_loop() {
            self.settings.sweeper.cancel(&self.me, visit);
        }
    }
}

/// What a socket's task does next.
#[derive(Debug)]
pub(super) enum Progress {
    /// Tells the room how the connection ended.
    Tell(Close),
    /// Reads for the room. If clogged, reads only up to the client's next message.
    Read { clogged: bool },
    /// Reads and drops what it reads.
    Discard,
    /// Reads nothing until the room has closed.
    Wait,
    /// Says that it has paused, or that it ends by itself and not by a hand-over.
    #[cfg(unix)]
    StepOut(bool),
    /// Ends.
    End,
}
