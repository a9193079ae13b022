use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::Link;
use crate::{
    limits::Evicted,
    memory::{Memory, NoSpace, Part},
};

/// The bytes that each client may have without being counted. So short messages never wait for memory.
pub(super) const FREE: usize = 4096;

/// A socket's share of the memory for what clients send. It is for half messages, and for messages that the
/// room does not take yet. A message that goes to the room at once needs none of it.
pub(super) struct Charge {
    part: Part,
    evicted: Evicted,
    bytes: usize,
}

impl Charge {
    /// Counts what a socket has now. Returns `None` if it has no more than [`FREE`].
    pub(super) fn adjust(
        charge: Option<Self>,
        bytes: usize,
        memory: &Arc<Memory>,
        link: &Link,
    ) -> Option<Self> {
        if bytes <= FREE {
            return None;
        }
        let mut charge = charge.unwrap_or_else(|| {
            let (part, evicted) = memory.begin(link.address());
            Self { part, evicted, bytes: 0 }
        });
        if charge.bytes != bytes {
            charge.bytes = bytes;
            // If there is no space, `poll_evicted` tells the socket to give its memory up.
            let (Ok(()) | Err(NoSpace)) = charge.part.grow(bytes);
        }
        Some(charge)
    }

    /// Ready when the socket has to give up all of its memory.
    pub(super) fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.evicted.poll(cx)
    }
}
