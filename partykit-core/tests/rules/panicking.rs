//! A store that panics fails what needed it, and not the room.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_executor::block_on;
use futures_util::future::BoxFuture;
use partykit_core::{
    Backend, BackendError, Batch, Claim, Epoch, KeyRange, MemoryBackend, Refusal, Request,
    Response, Result, Room, RoomAddress, RoomId, Server, Timestamp, testing::TestRoom,
};

#[derive(Default)]
struct Hello;

impl Server for Hello {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new("hello".into()))
    }
}

/// Claims panic while `panics` is set: when they are called, or when they are polled. The functions of `WrappedBackend`
/// are polled only, so this is a backend of its own.
struct Panicking {
    memory: MemoryBackend,
    panics: AtomicBool,
    at_the_call: bool,
}

#[async_trait]
impl Backend for Panicking {
    fn claim<'a, 'room, 'future>(
        &'a self,
        room: &'room RoomAddress,
    ) -> BoxFuture<'future, Result<Claim, BackendError>>
    where
        'a: 'future,
        'room: 'future,
        Self: 'future,
    {
        let panics = self.panics.load(Ordering::Relaxed);
        assert!(!panics || !self.at_the_call, "as a driver of a database may");
        Box::pin(async move {
            assert!(!panics, "as a driver of a database may");
            self.memory.claim(room).await
        })
    }

    async fn read(
        &self,
        room: &RoomAddress,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, BackendError> {
        self.memory.read(room, keys).await
    }

    async fn scan(
        &self,
        room: &RoomAddress,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.memory.scan(room, range, reverse, limit).await
    }

    async fn commit(
        &self,
        room: &RoomAddress,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<(), BackendError> {
        self.memory.commit(room, epoch, batch).await
    }

    async fn wake_ups(
        &self,
        after: Option<&(Timestamp, RoomAddress)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RoomAddress)>, BackendError> {
        self.memory.wake_ups(after, limit).await
    }

    async fn rooms(
        &self,
        party: &str,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomId>, BackendError> {
        self.memory.rooms(party, after, limit).await
    }

    fn release(&self, room: &RoomAddress, epoch: Epoch) {
        self.memory.release(room, epoch);
    }
}

#[test]
fn a_claim_that_panics_fails_the_start_and_the_next_event_tries_again() {
    for at_the_call in [true, false] {
        block_on(async {
            let memory = MemoryBackend::default();
            let backend = Arc::new(Panicking { memory, panics: true.into(), at_the_call });
            let room = TestRoom::<Hello>::builder().backend(backend.clone()).build();
            let refused = room.get("/").await;
            assert!(matches!(refused, Err(Refusal::Failed(_))), "{refused:?}, {at_the_call}");
            backend.panics.store(false, Ordering::Relaxed);
            assert_eq!(room.get("/").await.unwrap(), "hello");
        });
    }
}
