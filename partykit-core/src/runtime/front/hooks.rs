use std::{fmt, panic::AssertUnwindSafe, time::Duration};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use http::{HeaderValue, header};
use tracing::{debug, error};

use super::Refused;
use crate::{
    Admission, Admit, Body, Close, ConnectionId, ErrorId, Handler, Request, Response, Result, Vars,
    runtime::{AppState, strip_internal},
    user::lobby::hook_answer,
    value::failure::panic_message,
};

/// How long a before-hook or the fallback may take: 30 s, as long as a handler by default.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the front needs of a runtime.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use partykit_core::{Vars, runtime::front::Surroundings};
///
/// /// Patient, and not random: for a test.
/// struct Plain;
///
/// impl Surroundings for Plain {
///     fn random(&self, bytes: &mut [u8]) {
///         bytes.fill(7);
///     }
///     fn vars(&self) -> Vars {
///         Arc::new(|_| None)
///     }
///     async fn run<F: Future<Output: Send> + Send>(
///         &self,
///         _: &'static str,
///         _: Duration,
///         work: F,
///     ) -> Option<F::Output> {
///         Some(work.await)
///     }
/// }
/// ```
pub trait Surroundings: Send + Sync {
    /// Fills `bytes` with random bytes, strong enough for ids that must not be guessed.
    fn random(&self, bytes: &mut [u8]);

    /// The named values that hooks see.
    fn vars(&self) -> Vars;

    /// The application's values, for hooks. Default: no values.
    fn app_state(&self) -> AppState {
        AppState::default()
    }

    /// Runs a function of the application with this name, at most for `limit`. `None` if it has not ended. Then
    /// it is dropped.
    fn run<F: Future<Output: Send> + Send>(
        &self,
        name: &'static str,
        limit: Duration,
        work: F,
    ) -> impl Future<Output = Option<F::Output>> + Send;

    /// A before-hook of this party rejected what a client sent, for counting. Default: does nothing.
    fn rejected(&self, party: &str, handler: Handler) {
        let _ = (party, handler);
    }
}

/// What happens with a client's WebSocket.
///
/// ```
/// use partykit_core::{Close, runtime::front::Welcome};
///
/// fn close(welcome: &Welcome) -> Option<&Close> {
///     match welcome {
///         Welcome::In(_) => None,
///         Welcome::Away(close, _) => Some(close),
///     }
/// }
/// # let _ = close;
/// ```
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, clippy::large_enum_variant, reason = "in, or not")]
pub enum Welcome {
    /// The room is asked.
    In(Connecting),
    /// The WebSocket is opened, with this sub-protocol, and closed at once: browsers do not tell a page the
    /// status of a refused handshake. (They insist on one of the protocols that they offer.)
    Away(Close, Option<HeaderValue>),
}

/// A connection that `on_before_connect` lets in.
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::{Refusal, runtime::{ConnectionKey, RoomCell, Socket, front::Connecting}};
///
/// fn enter(
///     cell: &Arc<RoomCell>,
///     connecting: Connecting,
///     socket: Arc<dyn Socket>,
/// ) -> Result<ConnectionKey, Refusal> {
///     cell.connect(connecting.id, connecting.uri, connecting.request, socket)
/// }
/// # let _ = enter;
/// ```
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "each runtime has to pass on all of it")]
pub struct Connecting {
    /// Its id: the client's, or a fresh one.
    pub id: ConnectionId,
    /// The URL that the client asked for.
    pub uri: String,
    /// The request, as the hook passes it on.
    pub request: Request,
    /// The sub-protocol that the hook chose among those that the client offers.
    pub protocol: Option<HeaderValue>,
}

impl Refused {
    /// A failure before the room, or on the way to it. The log gets what failed and the error, under an
    /// id; the client gets the id.
    ///
    /// `what` is a text of the runtime. `error` may have text of clients: in the log it is a field, which
    /// subscribers quote, so that a line break in it begins no line.
    pub fn failed(
        on: &(impl Surroundings + ?Sized),
        what: impl fmt::Display,
        error: Option<&str>,
    ) -> Self {
        let id = error_id(on);
        error!(error_id = %id, error, "{what}");
        Self::Failed(id)
    }
}

/// A fresh id for a failure.
pub fn error_id(on: &(impl Surroundings + ?Sized)) -> ErrorId {
    let mut id = [0; 8];
    on.random(&mut id);
    ErrorId::from_bytes(id)
}

/// Lets the application's fallback answer a request that is not for a room. `work` calls the fallback,
/// because the call itself may panic too.
///
/// # Errors
///
/// The answer for the client, when it panics, takes too long, or returns an answer that cannot be sent.
pub async fn fall_back(
    on: &(impl Surroundings + ?Sized),
    is_head: bool,
    work: BoxFuture<'_, Response>,
) -> Result<Response, Refused> {
    const NAME: &str = "the fallback";
    let response = guard(on, NAME, work).await?;
    fit(on, NAME, is_head, response)
}

/// Runs a before-hook of a party to its answer.
pub(super) async fn admit(
    on: &(impl Surroundings + ?Sized),
    party: &str,
    handler: Handler,
    is_head: bool,
    hook: BoxFuture<'_, Result<Admit>>,
) -> Result<Admission, Refused> {
    let name = handler.name();
    match hook_answer(guard(on, name, hook).await?) {
        Ok(Admit::Continue(admission)) => Ok(admission),
        Ok(Admit::Respond(response)) => {
            let response = fit(on, name, is_head, response)?;
            Err(Refused::ByHook(name, response.into()))
        }
        Ok(Admit::Reject(reject)) => {
            on.rejected(party, handler);
            let (status, text) = (reject.status().as_u16(), reject.text());
            debug!(party, status, text, "{name} rejected what a client sent");
            Err(Refused::Rejected(reject))
        }
        Err(error) => failed(on, handler, &error.to_string()),
    }
}

pub(super) fn failed<T>(
    on: &(impl Surroundings + ?Sized),
    handler: Handler,
    error: &str,
) -> Result<T, Refused> {
    Err(Refused::failed(on, format_args!("{handler} failed"), Some(error)))
}

/// Runs a function of the application outside of a room.
async fn guard<T: Send>(
    on: &(impl Surroundings + ?Sized),
    name: &'static str,
    work: BoxFuture<'_, T>,
) -> Result<T, Refused> {
    match on.run(name, PATIENCE, AssertUnwindSafe(work).catch_unwind()).await {
        Some(Ok(result)) => Ok(result),
        Some(Err(payload)) => {
            let text = panic_message(payload);
            Err(Refused::failed(on, format_args!("{name} panicked"), Some(&text)))
        }
        _ => {
            Err(Refused::failed(on, format_args!("{name} was cancelled after {PATIENCE:?}"), None))
        }
    }
}

/// Makes the answer of a function of the application ready for the client:
///
/// * without [internal headers](crate::runtime::INTERNAL_HEADERS);
/// * without a body where HTTP has none (204, 205, 304);
/// * with the length of its body, even if the function's header says another one. The answer to a HEAD keeps
///   what it says of the body that it does not have.
///
/// ```
/// use http::{Response, StatusCode};
/// use partykit_core::{Body, runtime::front::{Surroundings, fit}};
///
/// fn check(on: &impl Surroundings) {
///     let response = Response::builder().status(205).header("x-partykit-mine", "1");
///     let fitting = fit(on, "on_request", false, response.body("a body".into()).unwrap()).unwrap();
///     assert!(fitting.headers().is_empty() && fitting.body().bytes().unwrap().is_empty());
///
///     let odd = Response::builder().status(700).body(Body::empty()).unwrap();
///     let failed = fit(on, "on_request", false, odd).unwrap_err();
///     assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
/// }
/// ```
///
/// # Errors
///
/// [`Refused::Failed`] for a status outside of 200 to 599: with a 101 the connection would stop to be
/// HTTP, and not every platform can send the others.
pub fn fit(
    on: &(impl Surroundings + ?Sized),
    name: &str,
    is_head: bool,
    mut response: Response,
) -> Result<Response, Refused> {
    let status = response.status();
    if !(200..600).contains(&status.as_u16()) {
        let what = format_args!("{name} answered {status}, which is not an answer");
        return Err(Refused::failed(on, what, None));
    }
    strip_internal(response.headers_mut());
    let has_none = matches!(status.as_u16(), 204 | 205 | 304);
    if has_none {
        *response.body_mut() = Body::empty();
    }
    if has_none || (!is_head && !response.body().is_stream()) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    Ok(response)
}
