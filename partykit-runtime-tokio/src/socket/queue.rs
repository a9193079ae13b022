use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use super::sweeper::Second;

/// How many frames one write takes.
const SLICES: usize = 64;

/// What carries a connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Encoded frames that wait to be written. Exists only while there are any.
pub(super) struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// So many bytes may be in it before the client counts as slow.
    allowance: usize,
    /// A part of the first frame has been written: it has to be finished, whatever happens.
    begun: bool,
    /// When the client last took something, or the queue began.
    moved: Second,
}

impl Queue {
    pub(super) fn new(frame: Bytes, allowance: usize, now: Second) -> Self {
        let bytes = frame.len();
        Self { frames: VecDeque::from([frame]), bytes, allowance, begun: false, moved: now }
    }

    pub(super) fn fits(&self, frame: &Bytes) -> bool {
        self.bytes + frame.len() <= self.allowance
    }

    pub(super) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// The socket is there only now: nobody was slow so far.
    pub(super) fn restart(&mut self, limit: usize, now: Second) {
        self.allowance = self.bytes + limit;
        self.moved = now;
    }

    /// Drops every frame of which nothing has been written. Whether one is left.
    pub(super) fn keep_begun(&mut self) -> bool {
        self.frames.truncate(usize::from(self.begun));
        self.bytes = self.frames.front().map_or(0, Bytes::len);
        self.begun
    }

    /// Whether the writing of the last frame has begun.
    pub(super) fn is_last_begun(&self) -> bool {
        self.begun && self.frames.len() == 1
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn moved(&self) -> Second {
        self.moved
    }

    /// Ready when everything is written.
    pub(super) fn poll_write(
        &mut self,
        io: &mut dyn Io,
        now: Second,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(first) = self.frames.front() {
            let io = Pin::new(&mut *io);
            let written = if self.frames.len() > 1 && io.is_write_vectored() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                    *slice = IoSlice::new(frame);
                }
                let count = self.frames.len().min(SLICES);
                ready!(io.poll_write_vectored(cx, &slices[..count]))?
            } else {
                ready!(io.poll_write(cx, first))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
            self.moved = now;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.frames.front_mut().filter(|_| written > 0) {
            self.begun = written < first.len();
            if self.begun {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.frames.pop_front();
        }
    }
}
