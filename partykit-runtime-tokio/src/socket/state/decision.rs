use std::task::{Context, Poll, Waker};

use partykit_core::Close;

use super::State;
use crate::socket::Verdict;

/// What the room says to a handshake.
#[derive(Default)]
pub(super) enum Decision {
    /// Nothing is to be said any more.
    #[default]
    Over,
    /// The room has not decided. The task that waits for it is woken.
    Open(Option<Waker>),
    /// `None` if the room has accepted.
    Made(Option<Box<Close>>),
}

impl State {
    /// The room has decided. Returns who waits for that. A second decision changes nothing.
    pub(in crate::socket) fn decide(&mut self, verdict: Verdict) -> Option<Waker> {
        let decision = &mut self.rare.as_mut()?.decision;
        let Decision::Open(waker) = decision else { return None };
        let waker = waker.take();
        *decision = Decision::Made(match verdict {
            Verdict::Accept => None,
            Verdict::Refuse(close) => Some(close.into()),
        });
        waker
    }

    /// The decision, once. Never ready if the handshake was over before.
    pub(in crate::socket) fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        let Some(rare) = &mut self.rare else { return Poll::Pending };
        match &mut rare.decision {
            Decision::Over => Poll::Pending,
            Decision::Open(Some(waker)) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Decision::Open(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Decision::Made(close) => {
                let close = close.take();
                rare.decision = Decision::Over;
                self.tidy();
                Poll::Ready(close.map_or(Verdict::Accept, |close| Verdict::Refuse(*close)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use partykit_core::runtime::CloseReason;

    use super::*;

    #[test]
    fn a_room_decides_once_and_the_decision_is_taken_once() {
        let refused: fn() -> Verdict = || Verdict::Refuse(CloseReason::Dropped.close());
        for verdict in [|| Verdict::Accept, refused] {
            let mut cx = Context::from_waker(Waker::noop());
            let mut state = State::new(true);
            assert!(state.poll_verdict(&mut cx).is_pending());
            assert!(state.decide(verdict()).is_some(), "a handshake waits");
            assert!(state.decide(Verdict::Accept).is_none() && state.decide(refused()).is_none());
            assert_eq!(state.poll_verdict(&mut cx), Poll::Ready(verdict()));
            assert!(state.rare.is_none(), "an idle connection has no memory for it");
            assert!(state.poll_verdict(&mut cx).is_pending());
        }
    }

    #[test]
    fn what_was_accepted_elsewhere_is_not_decided_again() {
        let mut state = State::new(false);
        assert!(state.decide(Verdict::Accept).is_none() && state.rare.is_none());
    }
}
