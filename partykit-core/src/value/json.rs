/// Why JSON could not be read, or why a value has no JSON form.
///
/// This error is about the server's own values: connection states, props, and messages to send.
/// [`Message::json`](crate::Message::json) and [`RequestExt::json`](crate::RequestExt::json) read what a
/// client sent; their error is a [`Reject`](crate::Reject).
///
/// ```
/// use std::collections::HashMap;
/// use partykit_core::{JsonError, Message};
///
/// let odd = HashMap::from([((1, 2), "a map whose keys are no text")]);
/// let error: JsonError = Message::from_json(&odd).unwrap_err();
/// assert_eq!(error.to_string(), "key must be a string");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(serde_json::Error);

impl JsonError {
    pub(crate) fn new(error: serde_json::Error) -> Self {
        Self(error)
    }
}
