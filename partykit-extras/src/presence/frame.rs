//! What is said to clients: the frames of Phoenix's presence, as the payloads of one object.

use std::{collections::BTreeMap, fmt::Write as _};

use partykit_core::Message;

/// The metas of users, each with its ref: what `presence_state`, `joins` and `leaves` hold.
#[derive(Debug, Default)]
pub(super) struct Metas(BTreeMap<String, Vec<String>>);

impl Metas {
    /// Adds one. `meta` is a JSON object.
    pub(super) fn add(&mut self, user: &str, meta: &str, reference: &str) {
        let inner = meta.strip_suffix('}').unwrap_or(meta);
        let comma = if inner.ends_with('{') { "" } else { "," };
        // Behind the application's own fields: of two with one name, JSON's readers take the last.
        let meta = format!("{inner}{comma}\"phx_ref\":\"{reference}\"}}");
        self.0.entry(user.to_owned()).or_default().push(meta);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn write(&self, json: &mut String) {
        json.push('{');
        for (n, (user, metas)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let user = serde_json::Value::from(user.as_str());
            let _ = write!(json, "{comma}{user}:{{\"metas\":[{}]}}", metas.join(","));
        }
        json.push('}');
    }
}

/// The whole list.
pub(super) fn state(metas: &Metas) -> Message {
    let mut json = String::from("{\"presence_state\":");
    metas.write(&mut json);
    json.push('}');
    Message::from(json)
}

/// What has changed.
pub(super) fn diff(joins: &Metas, leaves: &Metas) -> Message {
    let mut json = String::from("{\"presence_diff\":{\"joins\":");
    joins.write(&mut json);
    json.push_str(",\"leaves\":");
    leaves.write(&mut json);
    json.push_str("}}");
    Message::from(json)
}
