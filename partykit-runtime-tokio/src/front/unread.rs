use std::{
    future::poll_fn,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use bytes::Bytes;
use http::{HeaderValue, header::CONNECTION};
use partykit_core::{Response, runtime::front::Refused};

use crate::{
    limits::Evicted,
    memory::{Memory, NoSpace, Part},
};

/// Shorter answers do not count.
const SHORT: usize = 4 << 10;

/// The answer that the client of one connection has not read yet.
///
/// Answers wait in memory until they are read. A client that reads nothing is given up after
/// [`STALL`](crate::admitted::STALL), but one that reads a byte now and then can take for ever. So all
/// answers share a limited memory. When it is used up, the oldest answer of the address that uses most is
/// dropped with its connection.
#[derive(Default)]
pub(crate) struct Unread(Mutex<Option<Evicted>>);

impl Unread {
    /// Counts an answer as long as a part of it waits.
    pub(crate) fn count(
        &self,
        response: Response,
        memory: &Arc<Memory>,
        address: Option<IpAddr>,
    ) -> Response {
        let (head, body) = response.into_parts();
        let Some(bytes) = body.bytes().filter(|bytes| bytes.len() > SHORT).cloned() else {
            return Response::from_parts(head, body);
        };
        let (mut part, evicted) = memory.begin(address);
        if let Err(NoSpace) = part.grow(bytes.len()) {
            return no_space();
        }
        *self.evicted() = Some(evicted);
        let counted = Bytes::from_owner(Counted { bytes, _part: part });
        Response::from_parts(head, counted.into())
    }

    /// Waits until the answer has to be dropped.
    pub(crate) async fn lost(&self) {
        poll_fn(|cx| match &mut *self.evicted() {
            Some(evicted) => evicted.poll(cx),
            None => Poll::Pending,
        })
        .await;
    }

    fn evicted(&self) -> MutexGuard<'_, Option<Evicted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body, and its part of the memory.
struct Counted {
    bytes: Bytes,
    _part: Part,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The answer instead of one that is too long, or whose address uses most.
fn no_space() -> Response {
    let mut response = Refused::NoSpace.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn answer(bytes: usize) -> Response {
        Response::new(vec![b'x'; bytes].into())
    }

    #[test]
    fn an_answer_counts_until_the_last_of_it_is_gone() {
        let memory = Memory::new(100_000);
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        let (one, other) = (Unread::default(), Unread::default());
        let first = one.count(answer(60_000), &memory, address);
        let rest = first.into_body().bytes().unwrap().slice(59_999..);
        let second = other.count(answer(60_000), &memory, address);
        assert_eq!(second.status(), 200);
        assert!(one.lost().now_or_never().is_some(), "the oldest one has to go");
        assert!(other.lost().now_or_never().is_none());
        drop((rest, second));
        assert!(other.lost().now_or_never().is_none() && other.lost().now_or_never().is_none());
        let whole = one.count(answer(100_000), &memory, address);
        assert_eq!(whole.status(), 200, "all of it is free again");
        assert_eq!(other.count(answer(100_001), &memory, None).status(), 503);
        assert_eq!(other.count(answer(SHORT), &memory, None).status(), 200);
    }
}
