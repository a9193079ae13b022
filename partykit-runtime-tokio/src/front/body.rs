use std::{future::poll_fn, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use http_body_util::BodyExt;
use partykit_core::{BoxError, runtime::front::Refused};
use tokio::time::timeout;

use crate::{
    limits::{Evicted, Place},
    memory::{Memory, NoSpace, Whole},
};

/// How long a client may take for a request's body.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first size of the buffer for a body, in bytes.
const FIRST: usize = 1024;

/// The memory that bodies are read into.
pub(crate) struct Reading<'a> {
    /// The most bytes that a body may have.
    pub(crate) limit: usize,
    pub(crate) memory: &'a Arc<Memory>,
    /// The client's address. `None` if it is not known.
    pub(crate) client: Option<IpAddr>,
    /// The client's place. The client may lose it while its body is awaited.
    pub(crate) place: Option<&'a Arc<Place>>,
}

/// The body of a request, and its part of the memory. Hold it until the request is answered.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    _memory: Option<Whole>,
}

/// Reads the whole body of a request before any room knows of the request, so a slow client delays only
/// itself. The body is read into one buffer, which is not larger than what has arrived.
///
/// # Errors
///
/// When the body is over the limit (if its head says so, nothing is read), takes too long or breaks off, or
/// when there is no memory for it.
pub(crate) async fn read<B>(body: B, reading: Reading<'_>) -> Result<Read, Refused>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.is_end_stream() {
        return Ok(Read::default());
    }
    let Reading { limit, memory, client, place } = reading;
    let announced = body.size_hint();
    if announced.lower() > limit as u64 {
        return Err(Refused::BodyTooLong);
    }
    // The buffer never becomes larger than the announced length, or than the limit.
    let most = usize::try_from(announced.upper().unwrap_or(u64::MAX)).unwrap_or(limit).min(limit);
    let (mut part, evicted) = memory.begin(client);
    let listening = place.map(Place::listen);
    let whole = async {
        let (mut body, mut bytes) = (pin!(body), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refused::BodyBroken)?;
            let Ok(data) = frame.into_data() else { continue };
            let filled = bytes.len() + data.len();
            if filled > limit {
                return Err(Refused::BodyTooLong);
            }
            if filled > bytes.capacity() {
                let target = filled.max(most.min((2 * bytes.capacity()).max(FIRST)));
                poll_fn(|cx| memory.poll_space(cx)).await;
                part.grow(target).map_err(|NoSpace| Refused::NoSpace)?;
                bytes.reserve_exact(target - bytes.len());
            }
            bytes.extend_from_slice(&data);
        }
        bytes.shrink_to_fit();
        Ok(Bytes::from(bytes))
    };
    let (listening, lost) = listening.unzip();
    let lost = OptionFuture::from(lost.map(Evicted::wait));
    let lost = async {
        if lost.await.is_none() {
            std::future::pending::<()>().await;
        }
    };
    let bytes = tokio::select! {
        biased;
        () = evicted.wait() => return Err(Refused::NoSpace),
        () = lost => return Err(Refused::NoSpace),
        whole = timeout(PATIENCE, whole) => whole.map_err(|_| Refused::BodyLate)??,
    };
    drop(listening);
    let memory = part.finish(bytes.len()).map_err(|NoSpace| Refused::NoSpace)?;
    Ok(Read { bytes, _memory: Some(memory) })
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};
    use http::StatusCode;
    use http_body_util::{Full, StreamBody};

    use super::*;

    type Piece = Result<http_body::Frame<Bytes>, BoxError>;

    async fn status(pieces: Vec<Piece>, limit: usize) -> Result<Bytes, StatusCode> {
        let body = StreamBody::new(stream::iter(pieces));
        let memory = Memory::new(1 << 20);
        read(body, reading(&memory, limit)).await.map(|read| read.bytes).map_err(|it| it.status())
    }

    fn reading(memory: &Arc<Memory>, limit: usize) -> Reading<'_> {
        Reading { limit, memory, client: None, place: None }
    }

    fn piece(bytes: &'static [u8]) -> Piece {
        Ok(http_body::Frame::data(Bytes::from_static(bytes)))
    }

    #[tokio::test]
    async fn the_limit_is_on_the_bytes() {
        assert_eq!(status(vec![piece(b"ab"), piece(b"cd")], 4).await, Ok("abcd".into()));
        let long = status(vec![piece(b"ab"), piece(b"cd"), piece(b"e")], 4).await;
        assert_eq!(long, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let memory = Memory::new(1 << 20);
        let said = read(Full::new(Bytes::from_static(b"abcde")), reading(&memory, 4)).await;
        assert_eq!(said.err().unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_broken_body_is_the_clients_fault() {
        let broken = status(vec![piece(b"ab"), Err("reset".into())], 4).await;
        assert_eq!(broken, Err(StatusCode::BAD_REQUEST));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let body = StreamBody::new(stream::pending::<Piece>());
        let memory = Memory::new(1 << 20);
        let late = read(body, reading(&memory, 4)).await.err().unwrap();
        assert_eq!(late.status(), StatusCode::REQUEST_TIMEOUT);
    }

    /// Two bodies that grow, where one and a half have space: the older one has to go, and the other one
    /// has its space until it is answered.
    #[tokio::test]
    async fn bodies_share_the_memory_of_the_process() {
        let memory = Memory::new(60_000);
        let growing = |pieces: usize| {
            let piece = || piece(&[b'x'; 1000]);
            let arrive = stream::repeat_with(piece).take(pieces);
            StreamBody::new(arrive.chain(stream::pending()))
        };
        let mut older = Box::pin(read(growing(30), reading(&memory, 40_000)));
        assert!((&mut older).now_or_never().is_none());
        let whole = StreamBody::new(stream::repeat_with(|| piece(&[b'x'; 1000])).take(40));
        let (kept, older) = tokio::join!(read(whole, reading(&memory, 40_000)), older);
        let kept = kept.unwrap();
        assert_eq!(kept.bytes.len(), 40_000);
        assert_eq!(older.err().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        let mut another = Box::pin(read(growing(30), reading(&memory, 40_000)));
        let refused = (&mut another).now_or_never().unwrap().err().unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(kept);
        assert!(read(growing(30), reading(&memory, 40_000)).now_or_never().is_none());
    }
}
