use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::Link;
use crate::{
    limits::Evicted,
    memory::{Memory, NoSpace, Part},
};

/// What every client may have without being counted, in bytes. So short messages never wait for anybody.
pub(super) const FREE: usize = 4096;

/// What a socket has of the memory for what clients send: for half messages, and for what its room does not
/// take. Nothing of it is for messages that are handed on as they are read.
pub(super) struct Charge {
    part: Part,
    evicted: Evicted,
    bytes: usize,
}

impl Charge {
    /// Takes note of what a socket has now. `None` if that is little.
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
            // The socket hears of it by `poll_evicted`, as if others had come.
            let (Ok(()) | Err(NoSpace)) = charge.part.grow(bytes);
        }
        Some(charge)
    }

    /// Ready when the socket has to give up all of it.
    pub(super) fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.evicted.poll(cx)
    }
}
