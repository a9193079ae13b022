use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use partykit_core::{
    Admission, Admit, Handler, Reject, Response, Result,
    runtime::{self, Host},
};
use tracing::debug;

use crate::{
    answer::failure,
    host::TokioHost,
    party::Party,
    refusals::{Why, because},
    watch::{self, Work},
};

/// How long a before-hook, or the fallback, may take: as long as a handler unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a before-hook lets nobody in.
pub(crate) enum Denied {
    /// This is the answer for the client.
    Answer(Response),
    /// It is the client's fault.
    Rejected(Reject),
}

impl From<Response> for Denied {
    fn from(response: Response) -> Self {
        Self::Answer(response)
    }
}

impl Denied {
    /// The answer to a request, which a WebSocket's may be as well.
    pub(crate) fn response(self) -> Response {
        match self {
            Self::Answer(response) => response,
            Self::Rejected(reject) => reject.response(),
        }
    }
}

/// Runs a before-hook to its answer.
///
/// # Errors
///
/// The answer for the client, when the hook gave one, or failed in any way.
pub(crate) async fn admit(
    host: &TokioHost,
    party: &Party,
    handler: Handler,
    hook: BoxFuture<'static, Result<Admit>>,
) -> Result<Admission, Denied> {
    let name = handler.name();
    match runtime::hook_answer(guard(host, name, hook).await?) {
        Ok(Admit::Continue(admission)) => Ok(admission),
        Ok(Admit::Respond(response)) => {
            Err(because(fit(host, name, response), Why::Hook(name)).into())
        }
        Ok(Admit::Reject(reject)) => {
            party.rejected(handler);
            let (status, text) = (reject.status().as_u16(), reject.text());
            debug!(party = &**party.name(), status, text, "{name} rejected what a client sent");
            Err(Denied::Rejected(reject))
        }
        Err(error) => {
            Err(failure(host, format_args!("{name} failed"), Some(&error.to_string())).into())
        }
    }
}

/// Runs a user's function that is not a room's.
///
/// # Errors
///
/// The answer for the client, when the function panics or takes too long.
pub(crate) async fn guard<T>(
    host: &TokioHost,
    name: &'static str,
    work: BoxFuture<'static, T>,
) -> Result<T, Response> {
    let work = watch::over(Work::Other(name), AssertUnwindSafe(work).catch_unwind());
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(payload)) => {
            let text = panic_text(&*payload);
            Err(failure(host, format_args!("{name} panicked"), Some(text)))
        }
        Err(_) => Err(failure(host, format_args!("{name} was cancelled after {PATIENCE:?}"), None)),
    }
}

/// A user's response, as far as it may leave.
pub(crate) fn fit(host: &TokioHost, name: &str, response: Response) -> Response {
    runtime::fit(|bytes| host.random(bytes), name, response)
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref().map(String::as_str)).unwrap_or("no text")
}
