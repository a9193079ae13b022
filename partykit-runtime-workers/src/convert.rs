//! Converts HTTP between the platform's form and the form that handlers see.

use std::{future::poll_fn, pin::Pin};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header, request::Parts};
use http_body::Body as _;
use js_sys::Uint8Array;
use partykit_core::{
    Body, BoxError, Response,
    runtime::{front::Refused, strip_internal},
};
use send_wrapper::SendWrapper;
use serde::{Serialize, Serializer};
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    envelope::{self, ENVELOPE, header_value, pairs},
    js::{self, JsReader, JsResponse, JsWriter, TransformStream},
    settled::Settled,
    tasks::Tasks,
};

/// The head of a client's request, from the text that `js::head` makes. Without internal headers.
pub(crate) fn head(text: &str) -> Result<Parts, BoxError> {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let mut head = http::Request::new(()).into_parts().0;
    head.method = Method::from_bytes(line().as_bytes())?;
    head.uri = line().parse::<Uri>()?;
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        head.headers.append(HeaderName::from_bytes(name.as_bytes())?, header_value(value)?);
    }
    strip_internal(&mut head.headers);
    Ok(head)
}

/// Reads all of a body.
///
/// # Errors
///
/// When the body has more bytes than `limit`, or breaks off.
pub(crate) async fn read(body: JsValue, limit: usize) -> Result<Bytes, Refused> {
    let broken = |_| Refused::BodyBroken;
    let Some(reader) = JsReader::of(body).map_err(broken)? else { return Ok(Bytes::new()) };
    let mut whole = BytesMut::new();
    while let Some(piece) = next_piece(&reader).await.map_err(broken)? {
        if whole.len() + piece.len() > limit {
            // The answer does not wait for it.
            let _ = reader.cancel();
            return Err(Refused::BodyTooLong);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Reads all of a body that the application made.
pub(crate) async fn collect(mut body: Body) -> Result<Bytes, BoxError> {
    if let Some(bytes) = body.bytes() {
        return Ok(bytes.clone());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// A room's answer to a call, as the calling room sees it.
pub(crate) async fn response(response: JsResponse) -> Result<Response, BoxError> {
    let mut ours = Response::default();
    *ours.status_mut() = StatusCode::from_u16(response.status().map_err(thrown)?)?;
    let packed = response.headers().and_then(|headers| headers.get(ENVELOPE)).map_err(thrown)?;
    let packed = packed.ok_or("the other room's object did not answer as one of this library")?;
    let (headers, streams) = envelope::unpack(&packed)?;
    *ours.headers_mut() = headers;
    let reader = JsReader::of(response.body().map_err(thrown)?).map_err(thrown)?;
    *ours.body_mut() = match reader {
        None => Body::empty(),
        Some(reader) if streams => {
            let reader = SendWrapper::new(reader);
            Body::stream(futures_util::stream::unfold(Some(reader), |reader| {
                SendWrapper::new(async move {
                    let reader = reader?;
                    match next_piece(&reader).await {
                        Ok(None) => None,
                        Ok(Some(piece)) => Some((Ok(piece), Some(reader))),
                        Err(error) => Some((Err(thrown(error)), None)),
                    }
                })
            }))
        }
        Some(reader) => {
            let mut whole = BytesMut::new();
            while let Some(piece) = next_piece(&reader).await.map_err(thrown)? {
                whole.extend_from_slice(&piece);
            }
            whole.freeze().into()
        }
    };
    Ok(ours)
}

/// Converts a response for the platform. A streamed body goes on after this has returned.
pub(crate) fn to_js(tasks: &Tasks, response: Response) -> Result<JsResponse, JsValue> {
    let (mut head, body) = response.into_parts();
    // The platform sets the length of a body that is complete.
    head.headers.remove(header::CONTENT_LENGTH);
    let status = head.status.as_u16();
    // The bytes are already encoded as `Content-Encoding` says, so the platform must not encode them again.
    let is_encoded = head.headers.contains_key(header::CONTENT_ENCODING);
    let encode_body = is_encoded.then_some("manual");
    let init = Init { status, headers: Fields(&head.headers), encode_body };
    let init = serde_json::to_string(&init).map_err(|error| error.to_string())?;
    if matches!(status, 101 | 204 | 205 | 304) {
        return js::respond(&init, None);
    }
    if let Some(bytes) = body.bytes() {
        return js::respond(&init, Some(bytes));
    }
    let pipe = TransformStream::new()?;
    let response = js::respond_with(&init, &pipe.readable()?)?;
    tasks.spawn(write_out(body, pipe.writer()?));
    Ok(response)
}

/// An exception as an error.
#[allow(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
pub(crate) fn thrown(error: JsValue) -> BoxError {
    js::describe(&error).into()
}

/// The options of the platform's `Response`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Init<'a> {
    status: u16,
    headers: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encode_body: Option<&'static str>,
}

/// Headers as an object, which the platform reads faster. A list of pairs only if a name is there twice.
struct Fields<'a>(&'a HeaderMap);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = pairs(self.0);
        if self.0.keys_len() == self.0.len() {
            serializer.collect_map(pairs)
        } else {
            serializer.collect_seq(pairs)
        }
    }
}

/// The next piece of a body, `None` after the last.
async fn next_piece(reader: &JsReader) -> Result<Option<Bytes>, JsValue> {
    let read = Settled::of(&reader.read()?).await?;
    if js::get(&read, "done").is_truthy() {
        return Ok(None);
    }
    let piece = js::get(&read, "value").dyn_into::<Uint8Array>();
    Ok(Some(piece.map(|piece| piece.to_vec().into()).unwrap_or_default()))
}

/// Writes a stream as fast as the client reads it. Drops the stream when the client is gone.
async fn write_out(mut body: Body, writer: JsWriter) {
    let written = async {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
            Settled::of(&writer.write(&Uint8Array::from(&data[..]))?).await?;
        }
        Ok::<_, JsValue>(())
    };
    let ended = match written.await {
        Ok(()) => writer.close(),
        Err(error) => writer.abort(&error),
    };
    if let Ok(ended) = ended {
        // The result does not matter any more.
        let _ = Settled::of(&ended).await;
    }
}
