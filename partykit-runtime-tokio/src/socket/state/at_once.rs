//! What a client takes at once, as nearly all do: that needs no queue.

use std::{
    cell::RefCell,
    iter,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use partykit_core::runtime::Outgoing;
use tokio::io::AsyncWrite;

use super::{Phase, SMALL, State, Writing};
use crate::{
    codec::{append_message, encode_message, message_frame},
    socket::{
        LinkSettings,
        carriage::Carriage,
        queue::{JOINED, Queue},
    },
};

thread_local! {
    /// Frames on their way to a socket of this thread.
    static FRAMES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How far [`State::say_at_once`] has come.
pub(in crate::socket) enum Said<'a> {
    /// The client has everything.
    All,
    /// This message and those behind it are still to be said, in another way.
    UpTo(Option<Outgoing<'a>>),
}

impl State {
    /// Writes short messages, or one that goes to many sockets, without a queue, if nothing waits for the client.
    pub(in crate::socket) fn say_at_once<'a>(
        &mut self,
        messages: &mut dyn Iterator<Item = Outgoing<'a>>,
        settings: &LinkSettings,
    ) -> Said<'a> {
        let is_free = self.queue.is_none()
            && !self.has_report()
            && self.phase == Phase::Open
            && self.writing == Writing::On
            && !self.clogged
            && settings.outbound.per_client() >= 2 * JOINED;
        let Carriage::Plain(_) = &self.carriage else { return Said::UpTo(None) };
        if !is_free {
            return Said::UpTo(None);
        }
        // The only one, and its form is there already, or is for the next sockets, too.
        let is_lone = messages.size_hint().1 == Some(1);
        let Some(first) = messages.next() else { return Said::All };
        let encode = |message: &_| settings.outbound.frame(encode_message(message));
        if is_lone && let Some(frame) = first.shared(encode) {
            settings.meter.sent(first.message().len());
            let queue_up = |queue: &mut Queue| queue.push(frame.clone(), &settings.outbound);
            let is_written = self.write_at_once(frame, settings, queue_up);
            return if is_written { Said::All } else { Said::UpTo(None) };
        }
        let said = FRAMES.try_with(|frames| {
            let frames = &mut frames.borrow_mut();
            frames.clear();
            let rest = fill(frames, &mut iter::once(first).chain(messages), settings);
            let queue_up = |queue: &mut Queue| queue.push_frames(frames, &settings.outbound);
            let is_written = frames.is_empty() || self.write_at_once(frames, settings, queue_up);
            match rest {
                None if is_written => Said::All,
                rest => Said::UpTo(rest),
            }
        });
        // A thread that ends has no frames.
        said.unwrap_or(Said::UpTo(Some(first)))
    }

    /// Writes frames to a socket for which nothing waits. What it does not take waits in a queue, to which `queue_up`
    /// adds the frames. Whether it took everything.
    fn write_at_once(
        &mut self,
        frames: &[u8],
        settings: &LinkSettings,
        queue_up: impl FnOnce(&mut Queue),
    ) -> bool {
        let Carriage::Plain(io) = &mut self.carriage else { return false };
        let mut cx = Context::from_waker(Waker::noop());
        let written = match Pin::new(io).poll_write(&mut cx, frames) {
            Poll::Ready(Ok(written)) if written == frames.len() => return true,
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => {
                self.break_off(settings);
                return false;
            }
            Poll::Pending => 0,
        };
        let queue = self.queue(settings);
        queue_up(queue);
        queue.begin(written, settings.sweeper.now());
        false
    }
}

/// Adds short messages to the frames. Returns the first one that is not to be one of them.
fn fill<'a>(
    frames: &mut Vec<u8>,
    messages: &mut dyn Iterator<Item = Outgoing<'a>>,
    settings: &LinkSettings,
) -> Option<Outgoing<'a>> {
    for message in messages {
        let length = message_frame(message.message());
        if length > SMALL || frames.len() + length > JOINED {
            return Some(message);
        }
        settings.meter.sent(message.message().len());
        append_message(message.message(), frames);
    }
    None
}
