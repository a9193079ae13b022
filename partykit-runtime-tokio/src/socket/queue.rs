use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem::{replace, take},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;

use super::{
    Io, Link,
    outbound::{Charge, Ledger},
    sweeper::Second,
};

/// The most pieces in one write.
const SLICES: usize = 64;

/// Frames of up to this many bytes are copied into one piece. A small frame as a piece of its own would take
/// several times its size.
pub(super) const SMALL: usize = 256;

/// The bytes of small frames in one piece.
pub(super) const JOINED: usize = 16 << 10;

/// A client that has read less than this counts as one that reads nothing, unless less than this is left.
const LITTLE: usize = 16 << 10;

/// The memory of a queue without frames, its place in the ledger included.
const QUEUE: usize = 400;

/// Encoded frames that wait to be written. Exists only while there are any.
pub(super) struct Queue {
    /// Frames, and pieces of joined small frames.
    pieces: VecDeque<Bytes>,
    /// Small frames behind the pieces.
    tail: Vec<u8>,
    /// How many bytes of the first piece are written.
    written: usize,
    /// How many bytes are not written yet.
    bytes: usize,
    /// The bytes of all pieces.
    piece_bytes: usize,
    /// When the client last read more than a [`LITTLE`], or when the queue began.
    moved: Second,
    /// How many bytes it has read since then.
    taken: usize,
    /// The socket did not take everything.
    waits: bool,
    /// The socket has taken something after that. So the client reads.
    is_read: bool,
    /// Tasks that wait until at most this many bytes are left.
    watchers: Vec<(usize, Waker)>,
    charge: Option<Charge>,
}

impl Queue {
    pub(super) fn new(now: Second) -> Self {
        Self {
            pieces: VecDeque::new(),
            tail: Vec::new(),
            written: 0,
            bytes: 0,
            piece_bytes: 0,
            moved: now,
            taken: 0,
            waits: false,
            is_read: false,
            watchers: Vec::new(),
            charge: None,
        }
    }

    /// Makes an empty queue one that begins now.
    pub(super) fn renew(&mut self, now: Second) {
        debug_assert!(self.bytes == 0 && self.written == 0 && self.charge.is_none());
        (self.moved, self.taken, self.waits, self.is_read) = (now, 0, false, false);
    }

    /// Ends the use of an empty queue. Returns the bytes of memory that it keeps for its next use. `None` if
    /// it is not empty.
    pub(super) fn retire(&mut self) -> Option<usize> {
        self.wake_all();
        self.charge = None;
        let is_empty = self.pieces.is_empty() && self.tail.is_empty();
        is_empty.then(|| {
            size_of::<Self>() + self.pieces.capacity() * size_of::<Bytes>() + self.tail.capacity()
        })
    }

    /// A queue with the bytes that waited in another one: see [`Queue::waiting`].
    #[cfg(unix)]
    pub(super) fn resume(bytes: Bytes, written: usize, now: Second, ledger: &Arc<Ledger>) -> Self {
        let mut queue = Self::new(now);
        queue.push_alone(ledger.count(bytes), ledger);
        queue.written = written.min(queue.bytes);
        queue.bytes -= queue.written;
        queue.waits = true;
        queue
    }

    /// The bytes that wait, from the beginning of the frame that is being written, and how many of them are
    /// written.
    #[cfg(unix)]
    pub(super) fn waiting(&self) -> (Vec<u8>, usize) {
        let first = self.pieces.front().map_or(&self.tail[..], |first| first);
        let begin = begin_of_frame(first, self.written);
        let mut bytes = Vec::with_capacity(self.written - begin + self.bytes);
        self.pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        bytes.extend_from_slice(&self.tail);
        bytes.drain(..begin);
        (bytes, self.written - begin)
    }

    pub(super) fn push(&mut self, frame: Bytes, ledger: &Arc<Ledger>) {
        if frame.len() > SMALL {
            return self.push_alone(frame, ledger);
        }
        self.push_small(frame.len(), ledger, |tail| tail.extend_from_slice(&frame));
    }

    /// Queues a frame of at most [`SMALL`] bytes, which `append` adds to those before it.
    pub(super) fn push_small(
        &mut self,
        length: usize,
        ledger: &Arc<Ledger>,
        append: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.tail.len() + length > JOINED {
            self.end_tail(ledger);
            // More small frames are likely to follow.
            self.tail.reserve(JOINED / 4);
        }
        self.bytes += length;
        append(&mut self.tail);
    }

    /// Queues several small frames: at most [`JOINED`] bytes.
    #[cfg(unix)]
    pub(super) fn push_frames(&mut self, frames: &[u8], ledger: &Arc<Ledger>) {
        self.push_small(frames.len(), ledger, |tail| tail.extend_from_slice(frames));
    }

    /// The socket has taken `written` bytes of what was queued here, and no more.
    #[cfg(unix)]
    pub(super) fn begin(&mut self, written: usize, now: Second) {
        self.waits = true;
        self.advance(written, now);
    }

    /// Queues a frame that is not joined with others.
    pub(super) fn push_alone(&mut self, frame: Bytes, ledger: &Arc<Ledger>) {
        self.end_tail(ledger);
        self.bytes += frame.len();
        self.push_piece(frame);
    }

    /// Starts the client's time again: the socket exists only now, so the client was not slow before.
    pub(super) fn restart(&mut self, now: Second) {
        self.moved = now;
    }

    /// Drops all frames of which nothing is written. Returns whether a frame is left.
    pub(super) fn keep_begun(&mut self) -> bool {
        self.wake_all();
        let first = self.pieces.front().map_or(&self.tail[..], |first| first);
        let end = end_of_frame(first, self.written);
        let left = end - self.written;
        if let Some(first) = self.pieces.front() {
            let first = first.slice(..end);
            self.pieces = VecDeque::from([first]);
            self.piece_bytes = end;
            self.tail = Vec::new();
        } else {
            self.tail.truncate(end);
        }
        self.bytes = left;
        left > 0
    }

    /// Whether the writing of the last frame, which was pushed alone, has begun.
    pub(super) fn is_last_begun(&self) -> bool {
        self.written > 0 && self.pieces.len() == 1 && self.tail.is_empty()
    }

    /// The bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory of these bytes. A frame that also waits for other clients counts with a share.
    pub(super) fn cost(&self) -> usize {
        self.piece_bytes + self.own()
    }

    /// The same without the first message: the one that is being written, or is next.
    pub(super) fn cost_behind_first(&self) -> usize {
        self.cost() - self.pieces.front().map_or(0, Bytes::len)
    }

    /// Whether the client has read something after it had to wait. Returns `true` once.
    pub(super) fn is_read(&mut self) -> bool {
        take(&mut self.is_read)
    }

    pub(super) fn moved(&self) -> Second {
        self.moved
    }

    /// Wakes `waker` when at most `at_most` bytes wait.
    pub(super) fn watch(&mut self, at_most: usize, waker: &Waker) {
        if !self.watchers.iter().any(|(known, it)| *known == at_most && it.will_wake(waker)) {
            self.watchers.push((at_most, waker.clone()));
        }
    }

    /// Wakes all waiting tasks: only what has begun will still be written.
    pub(super) fn wake_all(&mut self) {
        self.watchers.drain(..).for_each(|(_, waker)| waker.wake());
    }

    /// Counts the memory of this queue. A queue that is written at once is never counted.
    pub(super) fn settle(&mut self, ledger: &Arc<Ledger>, link: &Weak<Link>) -> bool {
        let own = self.own();
        if self.charge.is_none() && !self.waits && own <= JOINED {
            return false;
        }
        let (cost, moved) = (self.cost(), self.moved);
        let charge = self.charge.get_or_insert_with(|| Charge::new(ledger, link));
        charge.update(own, cost, moved);
        true
    }

    /// Ready when everything is written.
    pub(super) fn poll_write(
        &mut self,
        io: &mut dyn Io,
        now: Second,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let waited = replace(&mut self.waits, true);
        while self.bytes > 0 {
            let io = Pin::new(&mut *io);
            let several = self.pieces.len() + usize::from(!self.tail.is_empty()) > 1;
            let written = if several && io.is_write_vectored() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let pieces = self.pieces.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
                let (mut count, mut skipped) = (0, self.written);
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(&piece[take(&mut skipped)..]);
                    count += 1;
                }
                ready!(io.poll_write_vectored(cx, &slices[..count]))?
            } else {
                let first = self.pieces.front().map_or(&self.tail[..], |first| first);
                ready!(io.poll_write(cx, &first[self.written..]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_read |= waited;
            self.advance(written, now);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize, now: Second) {
        self.bytes -= written;
        self.taken += written;
        if self.taken >= LITTLE || self.bytes <= LITTLE {
            (self.moved, self.taken) = (now, 0);
        }
        self.written += written;
        while let Some(first) = self.pieces.front().filter(|first| self.written >= first.len()) {
            self.written -= first.len();
            self.piece_bytes -= first.len();
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() && self.written == self.tail.len() {
            self.tail.clear();
            self.written = 0;
        }
        let bytes = self.bytes;
        let woken = self.watchers.extract_if(.., |(at_most, _)| bytes <= *at_most);
        woken.for_each(|(_, waker)| waker.wake());
    }

    /// Makes the tail a piece.
    fn end_tail(&mut self, ledger: &Arc<Ledger>) {
        if !self.tail.is_empty() {
            let tail = take(&mut self.tail).into_boxed_slice();
            self.push_piece(ledger.count(tail.into()));
        }
    }

    fn push_piece(&mut self, piece: Bytes) {
        self.piece_bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// The memory of this queue alone. Pieces are counted by the ledger.
    fn own(&self) -> usize {
        QUEUE + self.pieces.capacity() * size_of::<Bytes>() + self.tail.capacity()
    }
}

/// Ends every wait: a queue that is gone cannot become shorter.
impl Drop for Queue {
    fn drop(&mut self) {
        self.wake_all();
    }
}

/// The end of the frame in which the byte `at` is. If `at` is between two frames, returns `at`. `frames`
/// begins with a frame. They are the server's frames, so they are not masked.
fn end_of_frame(frames: &[u8], at: usize) -> usize {
    frame_around(frames, at).1
}

/// The beginning of that frame.
#[cfg(unix)]
fn begin_of_frame(frames: &[u8], at: usize) -> usize {
    let (begin, end) = frame_around(frames, at);
    if end == at { at } else { begin }
}

/// The frame that ends at the byte `at` or behind it.
fn frame_around(frames: &[u8], at: usize) -> (usize, usize) {
    let (mut begin, mut end) = (0, 0);
    while end < at {
        begin = end;
        let header = &frames[end..];
        let length = match header {
            [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
            [_, 127, length @ ..] => {
                let length = length.first_chunk().map_or(u64::MAX, |it| u64::from_be_bytes(*it));
                usize::try_from(length).unwrap_or(usize::MAX).saturating_add(10)
            }
            [_, length, ..] => 2 + usize::from(*length),
            _ => usize::MAX,
        };
        end = end.saturating_add(length).min(frames.len());
    }
    (begin, end)
}
