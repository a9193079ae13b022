/// JSON that could not be read, or a value that has no JSON form.
///
/// It is the error of values of the server's own: connection states, props, messages that are sent.
/// What a client sent is read with [`Message::json`](crate::Message::json) and
/// [`RequestExt::json`](crate::RequestExt::json), whose error is a [`Reject`](crate::Reject).
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
