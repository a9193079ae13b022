//! A socket on its way out of this process, and into the next one.

use bytes::Bytes;
use partykit_core::Close;

use super::{Phase, Report, State, Writing};
use crate::socket::{LinkSettings, left::SocketState, queue::Queue};

/// How far a socket is on its way out of this process: see [`Link::pause`](crate::socket::Link::pause).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::socket) enum Pause {
    No,
    /// The task is to read nothing more.
    Asked,
    /// Nothing is read. What waits for the client is written.
    Paused,
    /// The task is to end.
    ToLeave,
    /// The socket goes on without its task.
    Left,
}

/// What a task does for a [`Pause`].
pub(in crate::socket) enum Next {
    GoesOn,
    Waits,
    /// Says that it has paused. `false`: its connection has ended, so it stays.
    Says(bool),
    Leaves,
}

impl State {
    /// Takes the next step out of this process.
    pub(in crate::socket) fn step_out(&mut self) -> Next {
        let stays = matches!(self.phase, Phase::Draining | Phase::Ended);
        // Then the room still has to close it, or to hear of its end.
        let is_ending = self.is_condemned() || self.writing == Writing::Broken;
        match self.pause {
            Pause::No => Next::GoesOn,
            Pause::Asked | Pause::ToLeave if stays => {
                self.pause = Pause::No;
                Next::Says(false)
            }
            Pause::Paused if stays => Next::GoesOn,
            Pause::Asked if is_ending => Next::GoesOn,
            Pause::Asked => {
                // The client's silence does not count from now on.
                self.stall();
                self.pause = Pause::Paused;
                Next::Says(true)
            }
            Pause::Paused | Pause::Left => Next::Waits,
            Pause::ToLeave => {
                self.pause = Pause::Left;
                Next::Leaves
            }
        }
    }

    pub(in crate::socket) fn has_left(&self) -> bool {
        self.pause == Pause::Left
    }

    /// See [`Link::resume_writing`](crate::socket::Link::resume_writing).
    pub(in crate::socket) fn resume_writing(
        &mut self,
        closing: Option<Close>,
        unsent: Bytes,
        written: usize,
        settings: &LinkSettings,
    ) {
        if !unsent.is_empty() {
            let now = settings.sweeper.now();
            let queue = Queue::resume(unsent, written, now, &settings.outbound);
            self.queue = Some(Box::new(queue));
        }
        if let Some(close) = closing {
            self.phase = Phase::Closing;
            self.rare().closing = Some(close);
            self.rare().deadline = settings.sweeper.after(settings.close_timeout);
        }
    }

    /// See [`Link::to_hand_over`](crate::socket::Link::to_hand_over).
    pub(in crate::socket) fn hand_over(&mut self) -> Option<SocketState> {
        let rare = self.rare.as_deref();
        let is_over = rare.is_some_and(|rare| !matches!(rare.report, Report::None));
        if is_over || self.writing == Writing::Broken {
            return None;
        }
        let closing = match self.phase {
            Phase::Open => None,
            Phase::Closing => {
                let close = rare.and_then(|rare| rare.closing.as_ref());
                close.map(|close| (close.code().into(), close.reason().to_owned()))
            }
            Phase::Draining | Phase::Ended => return None,
        };
        let talker = rare.and_then(|rare| rare.messages.as_ref()).and_then(|it| it.address());
        let (unsent, written) =
            self.queue.as_ref().map(|queue| queue.waiting()).unwrap_or_default();
        let address = self.carriage.io()?.address();
        let mut state =
            SocketState { closing, unsent, written, address, talker, ..SocketState::default() };
        self.seat.as_ref()?;
        if let Some(left) = self.rare.as_ref().and_then(|rare| rare.left.as_ref()) {
            left.to_hand_over(&mut state);
        }
        Some(state)
    }
}
