//! A host and sockets that do no more than the tests of a runtime need. Not part of the public API.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use crate::{
    Backend, CallError, Close, MemoryBackend, Request, Response, Result, RoomAddress, Server,
    Timestamp,
    runtime::{Chain, Host, Outgoing, RoomCell, Socket, drive},
};

/// How a test runs tasks, and on which clock.
#[allow(missing_docs, reason = "as in `Host`")]
pub trait Runs: Send + Sync + 'static {
    fn elapsed(&self) -> Duration;

    /// By default, what has not come yet never comes.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        if at <= self.elapsed() {
            return Box::pin(std::future::ready(()));
        }
        Box::pin(std::future::pending())
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// The driver of a room.
    fn drive(&self, room: Arc<RoomCell>) -> BoxFuture<'static, ()>;

    fn vacant(&self, room: &Arc<RoomCell>) {
        let _ = room;
    }

    fn relief(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// A host with rooms in memory, which know no others.
#[allow(missing_debug_implementations, reason = "for tests")]
pub struct Bare<R> {
    /// What the test knows of it.
    pub runs: R,
    backend: Arc<dyn Backend>,
}

impl<R> Bare<R> {
    /// A host without rooms.
    pub fn new(runs: R) -> Arc<Self> {
        Arc::new(Self { runs, backend: Arc::new(MemoryBackend::default()) })
    }
}

impl<R: Runs> Host for Bare<R> {
    fn elapsed(&self) -> Duration {
        self.runs.elapsed()
    }

    fn now(&self) -> Timestamp {
        self.runs.now()
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        self.runs.sleep_until(at)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.runs.spawn(task);
    }

    fn start(&self, room: &Arc<RoomCell>) {
        self.runs.spawn(self.runs.drive(room.clone()));
    }

    fn vacant(&self, room: &Arc<RoomCell>) {
        self.runs.vacant(room);
    }

    fn call(
        &self,
        to: RoomAddress,
        _: Request,
        _: Chain,
    ) -> BoxFuture<'static, Result<Response, CallError>> {
        Box::pin(async move { Err(CallError::UnknownParty(to.party().to_owned())) })
    }

    fn tell(&self, to: RoomAddress, _: Request) {
        panic!("a room told {to} something");
    }

    fn relief(&self) -> Option<BoxFuture<'static, ()>> {
        self.runs.relief()
    }

    fn knows_party(&self, _: &str) -> bool {
        false
    }
}

/// Tasks run when the test says so, and the clock stands still.
#[allow(missing_debug_implementations, reason = "for tests")]
pub struct Still {
    tasks: Mutex<Vec<BoxFuture<'static, ()>>>,
    drive: fn(Arc<RoomCell>) -> BoxFuture<'static, ()>,
}

impl Still {
    /// For rooms of this server.
    pub fn of<S: Server + Default>() -> Self {
        Self { tasks: Mutex::default(), drive: |room| Box::pin(drive(room, |_| S::default())) }
    }

    /// Polls all tasks a few times, as often as a driver may yield before it waits for its timer.
    ///
    /// # Panics
    ///
    /// When a task does.
    pub fn run(&self) {
        for _ in 0..16 {
            let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
            for mut task in tasks {
                if (&mut task).now_or_never().is_none() {
                    self.tasks.lock().unwrap().push(task);
                }
            }
        }
    }

    /// Whether all tasks are at their end.
    ///
    /// # Panics
    ///
    /// When a task has panicked.
    pub fn is_done(&self) -> bool {
        self.tasks.lock().unwrap().is_empty()
    }
}

impl Runs for Still {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(1000)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tasks.lock().unwrap().push(task);
    }

    fn drive(&self, room: Arc<RoomCell>) -> BoxFuture<'static, ()> {
        (self.drive)(room)
    }
}

/// A socket of 8 bytes that drops what it is told, and whose client is never refused.
#[derive(Debug, Default)]
pub struct Wire(#[allow(dead_code, reason = "so that each has an address of its own")] u64);

impl Socket for Wire {
    fn accept(&self) {}
    fn refuse(&self, close: Close) {
        panic!("a connect failed: {close}");
    }
    fn send(&self, _: Outgoing<'_>) {}
    fn close(&self, _: Close) {}
    fn flush(&self) {}
}

/// A socket that drops what it is told.
#[derive(Debug)]
pub struct NoSocket;

impl Socket for NoSocket {
    fn accept(&self) {}
    fn refuse(&self, _: Close) {}
    fn send(&self, _: Outgoing<'_>) {}
    fn close(&self, _: Close) {}
    fn flush(&self) {}
}
