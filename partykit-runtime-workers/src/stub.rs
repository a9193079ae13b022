use std::time::Duration;

use bytes::Bytes;
use js_sys::Promise;
use partykit_core::{
    CallError, Refusal, Request, Response, RoomAddress,
    runtime::{Chain, front},
};
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    Env, Settings, convert,
    envelope::{self, Asked, Envelope},
    js::{self, JsResponse},
    parties::Party,
    settled::Settled,
    timers::pause,
};

/// How often a room is asked before it counts as lost.
const TRIES: u32 = 3;

/// The pause before the second try. Each further pause is longer by this much.
const PATIENCE: Duration = Duration::from_millis(100);

/// Reaches the room of an address.
pub(crate) struct Stub<'a> {
    pub(crate) env: &'a Env,
    pub(crate) settings: &'a Settings,
    pub(crate) party: &'a Party,
    pub(crate) address: &'a RoomAddress,
}

/// A room that could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StubError {
    #[error("the room is overloaded: {0}")]
    Overloaded(String),
    #[error("{0}")]
    Failed(String),
}

impl Stub<'_> {
    /// Sends a request. Tried again when the platform says that this makes sense, and that it is not
    /// overloaded. `failed` is how the first try has ended, if there was one.
    pub(crate) async fn send(
        &self,
        envelope: &Envelope,
        body: &Bytes,
        mut failed: Option<JsValue>,
    ) -> Result<JsResponse, StubError> {
        let header = envelope.encode();
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = match failed.take() {
                Some(error) => Err(error),
                None => match self.fetch(envelope, &header, body) {
                    Ok(sent) => Settled::of(&sent).await,
                    Err(error) => Err(error),
                },
            };
            let error = match sent {
                Ok(response) => return Ok(response.unchecked_into()),
                Err(error) => error,
            };
            let is = |what| js::get(&error, what).is_truthy();
            let text = js::describe(&error);
            if is("overloaded") {
                return Err(StubError::Overloaded(text));
            }
            if !is("retryable") || tries >= TRIES {
                return Err(StubError::Failed(text));
            }
            pause(PATIENCE * tries).await;
        }
    }

    /// Makes a new stub for each try, because a stub that has failed may fail for ever.
    fn fetch(&self, envelope: &Envelope, header: &str, body: &Bytes) -> Result<Promise, JsValue> {
        let class = self.party.class();
        // The URL is only for the platform's logs. The room reads the envelope.
        let uri = envelope.uri.parse::<http::Uri>();
        let path = uri.as_ref().map_or("/", |uri| uri.path());
        let sent = js::ask(
            self.env.js(),
            class,
            self.settings.jurisdiction.as_deref(),
            self.address.room().as_str(),
            self.settings.location_hint.as_deref(),
            &format!("http://{}{path}", self.party.name()),
            header,
            matches!(envelope.kind, Asked::Connect { .. }),
            body,
        )?;
        sent.ok_or_else(|| format!("the Worker has no binding {class:?}").into())
    }

    /// Calls the room for another room.
    pub(crate) async fn call(
        &self,
        request: Request,
        chain: &Chain,
    ) -> Result<Response, CallError> {
        let refused = |refusal| CallError::Refused(self.address.clone(), refusal);
        let failed = |detail: &dyn std::fmt::Display| {
            let id = front::error_id(self.env);
            let (to, error) = (self.address.to_string(), detail.to_string());
            tracing::error!(error_id = %id, to = to.as_str(), error = error.as_str(), "a call failed");
            Refusal::Failed(id)
        };
        let envelope = Envelope::new(Asked::Call, &request, chain);
        let body = match convert::collect(request.into_body()).await {
            Ok(body) => body,
            Err(error) => return Err(refused(failed(&error))),
        };
        let answer = match self.send(&envelope, &body, None).await {
            Ok(answer) => answer,
            Err(StubError::Overloaded(_)) => return Err(refused(Refusal::Overloaded)),
            Err(error) => return Err(refused(failed(&error))),
        };
        match convert::response(answer).await {
            Ok(response) => match envelope::refusal(response.headers()) {
                Some(refusal) => Err(refused(refusal)),
                None => Ok(response),
            },
            Err(error) => Err(refused(failed(&error))),
        }
    }

    /// Tells the room something, without waiting for an answer.
    pub(crate) async fn tell(&self, request: Request) {
        let envelope = Envelope::new(Asked::Tell, &request, &Chain::new());
        let sent = match convert::collect(request.into_body()).await {
            Ok(body) => self.send(&envelope, &body, None).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            let to = self.address.to_string();
            tracing::warn!(to = to.as_str(), ?error, "a tell to this room was lost");
        }
    }
}
