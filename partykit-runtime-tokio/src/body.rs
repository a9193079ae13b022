use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use partykit_core::{BoxError, Response};

use crate::answer::hang_up;

/// How long a client may take for a request's body.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads all of a request's body, before any room knows of the request: a slow client holds nobody
/// up but itself.
///
/// # Errors
///
/// An answer: 413 for a body over `limit` bytes, without reading it if it says so in its head; 408 for
/// one that takes too long; 400 for one that breaks off.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<Bytes, Response>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let too_long = || hang_up(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout(PATIENCE, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(_)) => Err(hang_up(StatusCode::BAD_REQUEST, "the body breaks off")),
        Err(_) => Err(hang_up(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};

    use super::*;

    type Piece = Result<http_body::Frame<Bytes>, BoxError>;

    async fn status(pieces: Vec<Piece>, limit: usize) -> Result<Bytes, StatusCode> {
        let body = StreamBody::new(stream::iter(pieces));
        read(body, limit).await.map_err(|answer| answer.status())
    }

    fn piece(bytes: &'static [u8]) -> Piece {
        Ok(http_body::Frame::data(Bytes::from_static(bytes)))
    }

    #[tokio::test]
    async fn the_limit_is_on_the_bytes() {
        assert_eq!(status(vec![piece(b"ab"), piece(b"cd")], 4).await, Ok("abcd".into()));
        let long = status(vec![piece(b"ab"), piece(b"cd"), piece(b"e")], 4).await;
        assert_eq!(long, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let said = read(Full::new(Bytes::from_static(b"abcde")), 4).await;
        assert_eq!(said.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_broken_body_is_the_clients_fault() {
        let broken = status(vec![piece(b"ab"), Err("reset".into())], 4).await;
        assert_eq!(broken, Err(StatusCode::BAD_REQUEST));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let body = StreamBody::new(stream::pending::<Piece>());
        assert_eq!(read(body, 4).await.unwrap_err().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
