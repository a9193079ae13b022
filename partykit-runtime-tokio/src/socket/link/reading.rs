//! How a socket is read: what the reading needs is taken out of the link, and given back.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

#[cfg(unix)]
use super::super::{carriage::Carriage, task::News};
use super::{
    super::{
        state::State,
        task::{Rest, Seat},
    },
    Link,
};

impl Link {
    /// See [`State::take_seat`].
    pub(in crate::socket) fn take_seat(&self) -> Option<(Seat, Option<Box<Rest>>)> {
        self.lock().take_seat()
    }

    /// Notes what the socket's loop has heard of it, and reads once, if that is all that is to be done. `None` if
    /// there is more to do. Pending if there is nothing to read.
    #[cfg(unix)]
    pub(in crate::socket) fn begin_reading(
        &self,
        news: News,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Option<Poll<(Seat, io::Result<usize>)>> {
        let mut state = self.lock();
        let Carriage::Plain(io) = &mut state.carriage else { return None };
        io.hear(news);
        // Where memory is short, it is not certain that the client may say more.
        if !state.only_reads() || state.has_rest() || self.settings.memory.is_short() {
            return None;
        }
        let read = match self.read(&mut state, cx, buffer) {
            Poll::Ready(read) => read,
            Poll::Pending => return Some(Poll::Pending),
        };
        let (seat, _) = state.take_seat()?;
        Some(Poll::Ready((seat, read)))
    }

    /// Gives back what [`Link::begin_reading`] took. Whether there is nothing to do before the socket's loop hears
    /// of it again.
    #[cfg(unix)]
    pub(in crate::socket) fn end_reading(
        &self,
        seat: Seat,
        left: Option<Box<Rest>>,
        cx: &mut Context<'_>,
    ) -> bool {
        let mut state = self.lock();
        let is_blank = left.is_none();
        state.put_seat(seat, left);
        is_blank && state.only_reads() && state.carriage.is_quiet(cx)
    }

    /// Gives it back.
    pub(in crate::socket) fn put_seat(&self, seat: Seat, left: Option<Box<Rest>>) {
        self.lock().put_seat(seat, left);
    }

    /// Called by the task: reads.
    pub(in crate::socket) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.read(&mut self.lock(), cx, buffer)
    }

    fn read(
        &self,
        state: &mut State,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(mut io) = state.carriage.io() else { return Poll::Ready(Ok(0)) };
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut io).poll_read(cx, &mut buffer))?;
        // Its time limits only become later by this, so it is visited soon enough.
        state.heard(self.settings.sweeper.now());
        Poll::Ready(Ok(buffer.filled().len()))
    }
}
