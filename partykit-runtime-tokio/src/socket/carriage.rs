use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use tokio::{io::AsyncWrite, task::coop::unconstrained};

#[cfg(unix)]
use super::plain::Plain;
use super::{Io, queue::Queue, spare, sweeper::Second};

/// What carries a socket, and who is woken for it.
#[derive(Default)]
pub(crate) enum Carriage {
    /// Nothing yet, or nothing any more.
    #[default]
    Absent,
    /// Plain TCP. A loop runs it.
    #[cfg(unix)]
    Plain(Plain),
    /// Anything else. It has a task of its own.
    Task(Box<Tasked>),
}

pub(crate) struct Tasked {
    io: Box<dyn Io>,
    /// `None` before the task is first polled.
    waker: Option<Waker>,
    /// Written bytes may still be in a buffer of the transport.
    unflushed: bool,
}

impl From<Box<dyn Io>> for Carriage {
    fn from(io: Box<dyn Io>) -> Self {
        Self::Task(Box::new(Tasked { io, waker: None, unflushed: false }))
    }
}

#[cfg(unix)]
impl From<Plain> for Carriage {
    fn from(io: Plain) -> Self {
        Self::Plain(io)
    }
}

impl Carriage {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn io(&mut self) -> Option<&mut dyn Io> {
        match self {
            Self::Absent => None,
            #[cfg(unix)]
            Self::Plain(io) => Some(io),
            Self::Task(task) => Some(&mut *task.io),
        }
    }

    /// Whether it is known that there is nothing to read. Then a loop polls the socket when there is.
    #[cfg(unix)]
    pub(super) fn is_quiet(&self, cx: &mut Context<'_>) -> bool {
        matches!(self, Self::Plain(io) if io.is_quiet(cx))
    }

    /// The connection itself, if another process can go on with it.
    #[cfg(unix)]
    pub(super) fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self {
            Self::Absent => None,
            Self::Plain(io) => io.descriptor(),
            Self::Task(task) => task.io.descriptor(),
        }
    }

    /// What carries it, for use without a link.
    #[cfg(unix)]
    pub(crate) fn into_io(self) -> Option<Box<dyn Io>> {
        match self {
            Self::Absent => None,
            Self::Plain(io) => Some(Box::new(io)),
            Self::Task(task) => Some(task.io),
        }
    }

    /// Sets who is woken when the transport takes or has something.
    pub(super) fn set_task(&mut self, waker: &Waker) {
        if let Self::Task(task) = self {
            match &mut task.waker {
                Some(task) => task.clone_from(waker),
                None => task.waker = Some(waker.clone()),
            }
        }
    }

    /// The task that is woken. `None` for a socket of a loop, and before the task is first polled.
    pub(super) fn task(&self) -> Option<&Waker> {
        match self {
            Self::Task(task) => task.waker.as_ref(),
            _ => None,
        }
    }

    /// Writes and flushes. Ready when nothing waits any more. `None` if there is nothing to write to yet.
    pub(super) fn write(
        &mut self,
        queue: &mut Option<Box<Queue>>,
        is_read: &mut bool,
        now: Second,
    ) -> Option<Poll<io::Result<()>>> {
        match self {
            Self::Absent => None,
            #[cfg(unix)]
            Self::Plain(io) => {
                // The loop hears when the socket takes more.
                let mut cx = Context::from_waker(Waker::noop());
                Some(poll_write(io, queue, is_read, now, &mut cx))
            }
            Self::Task(task) => {
                let Tasked { io, waker: Some(waker), unflushed } = &mut **task else { return None };
                let attempt = poll_fn(|cx| {
                    *unflushed |= queue.is_some();
                    ready!(poll_write(&mut **io, queue, is_read, now, cx))?;
                    if *unflushed {
                        ready!(Pin::new(&mut *io).poll_flush(cx))?;
                        *unflushed = false;
                    }
                    Poll::Ready(Ok(()))
                });
                // Not limited by Tokio's budget for the running task, because a room may write to thousands
                // of sockets in one turn.
                Some(pin!(unconstrained(attempt)).poll(&mut Context::from_waker(waker)))
            }
        }
    }

    /// Whether written bytes may still be in a buffer of the transport.
    pub(super) fn is_unflushed(&self) -> bool {
        matches!(self, Self::Task(task) if task.unflushed)
    }
}

fn poll_write(
    io: &mut dyn Io,
    queue: &mut Option<Box<Queue>>,
    is_read: &mut bool,
    now: Second,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if let Some(waiting) = queue {
        let written = waiting.poll_write(io, now, cx);
        *is_read = waiting.is_read();
        ready!(written)?;
        queue.take().into_iter().for_each(spare::give_back);
    }
    Poll::Ready(Ok(()))
}
