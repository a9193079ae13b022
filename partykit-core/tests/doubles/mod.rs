//! A host and a socket that do no more than their tests need.

use std::{sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use partykit_core::{
    Backend, CallError, Close, MemoryBackend, Request, Response, Result, RoomAddress, Timestamp,
    runtime::{Chain, Host, Outgoing, RoomCell, Socket},
};

/// How a test runs tasks, and on which clock.
pub(crate) trait Runs: Send + Sync + 'static {
    fn elapsed(&self) -> Duration;

    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// The driver of a room.
    fn drive(&self, room: Arc<RoomCell>) -> BoxFuture<'static, ()>;
}

/// A host with rooms in memory.
pub(crate) struct Bare<R> {
    pub(crate) runs: R,
    backend: Arc<dyn Backend>,
}

impl<R> Bare<R> {
    pub(crate) fn new(runs: R) -> Arc<Self> {
        Arc::new(Self { runs, backend: Arc::new(MemoryBackend::default()) })
    }
}

impl<R: Runs> Host for Bare<R> {
    fn elapsed(&self) -> Duration {
        self.runs.elapsed()
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
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

    /// Of a time that has not come yet, a test waits for no end.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        if at <= self.elapsed() {
            return Box::pin(std::future::ready(()));
        }
        Box::pin(std::future::pending())
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.runs.spawn(task);
    }

    fn start(&self, room: &Arc<RoomCell>) {
        self.runs.spawn(self.runs.drive(room.clone()));
    }

    fn vacant(&self, _: &Arc<RoomCell>) {}

    fn call(
        &self,
        to: RoomAddress,
        _: Request,
        _: Chain,
    ) -> BoxFuture<'static, Result<Response, CallError>> {
        Box::pin(async move { Err(CallError::Cycle(to)) })
    }

    fn tell(&self, _: RoomAddress, _: Request) {}

    fn knows_party(&self, _: &str) -> bool {
        false
    }
}

/// A socket of 8 bytes, so that each has an address of its own.
#[derive(Default)]
pub(crate) struct Wire(#[allow(dead_code, reason = "every socket has something")] u64);

impl Socket for Wire {
    fn accept(&self) {}
    fn refuse(&self, close: Close) {
        panic!("a connect failed: {close}");
    }
    fn send(&self, _: Outgoing<'_>) {}
    fn close(&self, _: Close) {}
    fn flush(&self) {}
}
