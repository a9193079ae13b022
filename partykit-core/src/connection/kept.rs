//! What is kept of a connection of which there is no handle: its attachment, as few bytes as possible.
//!
//! These bytes never leave the process, so their form is not that of [`Attachment::encode`]. The id is
//! written once, though it is usually a part of the uri too. What the uris of a room begin with is written
//! once for the room: its [base](super::base::Base). The name of the room is known.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{
    Connection, Owner, attachment::Attachment, base::Beginning, socket::Socket, tags::Tags,
};

/// The uri begins with the base of the room.
const ON_BASE: u8 = 1;
/// The uri has the id in it.
const HAS_ID: u8 = 2;
const HAS_TAGS: u8 = 4;
const HAS_STATE: u8 = 8;
/// The name of the room comes behind the base.
const HAS_ROOM: u8 = 16;

/// The flags and the lengths of the texts rarely need more bytes.
const ROOM_FOR_LENGTHS: usize = 16;

/// What is kept of a connection, in one allocation that is as large as it.
///
/// The bytes: flags; the id; the uri without its beginning, up to the id; if it has the id, what comes behind it;
/// the tags; the state. Each text follows its length.
pub(crate) struct Kept(Box<[u8]>);

impl Kept {
    /// Keeps a connection. `begin` is that of its room.
    pub(crate) fn of(connection: &Connection, begin: Beginning<'_>, scratch: &mut Vec<u8>) -> Self {
        let tags = connection.tags().skip(1);
        let state = connection.committed_state();
        Self::write(connection.id(), connection.uri(), tags, state.as_deref(), begin, scratch)
    }

    /// Keeps a connection that comes back.
    pub(crate) fn of_attachment(
        attachment: &Attachment,
        begin: Beginning<'_>,
        scratch: &mut Vec<u8>,
    ) -> Self {
        let Attachment { id, uri, tags, state, order: _ } = attachment;
        let tags = tags.iter().map(String::as_str);
        Self::write(id, uri, tags, state.as_deref(), begin, scratch)
    }

    fn write<'a>(
        id: &str,
        uri: &str,
        tags: impl ExactSizeIterator<Item = &'a str>,
        state: Option<&[u8]>,
        begin: Beginning<'_>,
        scratch: &mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        let on_base = begin.base.and_then(|base| uri.strip_prefix(base));
        let in_room = on_base.and_then(|rest| rest.strip_prefix(begin.room));
        let rest = in_room.or(on_base).unwrap_or(uri);
        scratch.reserve(ROOM_FOR_LENGTHS + id.len() + rest.len() + state.map_or(0, <[u8]>::len));
        let around_id = rest.rsplit_once(id);
        let flags = [
            (on_base.is_some(), ON_BASE),
            (in_room.is_some(), HAS_ROOM),
            (around_id.is_some(), HAS_ID),
            (tags.len() > 0, HAS_TAGS),
            (state.is_some(), HAS_STATE),
        ];
        scratch.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
        put(scratch, id.as_bytes());
        match around_id {
            Some((before, behind)) => {
                put(scratch, before.as_bytes());
                put(scratch, behind.as_bytes());
            }
            None => put(scratch, rest.as_bytes()),
        }
        if tags.len() > 0 {
            put_length(scratch, tags.len());
            tags.for_each(|tag| put(scratch, tag.as_bytes()));
        }
        scratch.extend_from_slice(state.unwrap_or_default());
        Self(scratch.as_slice().into())
    }

    /// The attachment. `begin` is what it was when this was written.
    pub(crate) fn attachment(&self, order: u64, begin: Beginning<'_>) -> Attachment {
        let mut parts = Parts::of(&self.0);
        let id = parts.id();
        let uri = parts.uri(id, begin);
        let tags = parts.tags().map(str::to_owned).collect();
        let state = parts.has(HAS_STATE).then(|| parts.rest.to_vec());
        Attachment { order, id: id.to_owned(), uri, tags, state }
    }

    /// The same as a handle, without an attachment in between.
    pub(crate) fn connection(
        &self,
        key: u64,
        begin: Beginning<'_>,
        room: Weak<dyn Owner>,
        socket: Arc<dyn Socket>,
    ) -> Connection {
        let mut parts = Parts::of(&self.0);
        let id = parts.id();
        let uri = parts.uri(id, begin);
        let tags = if parts.has(HAS_TAGS) { Tags::known(parts.tags()) } else { Tags::default() };
        let state = parts.has(HAS_STATE).then(|| Bytes::copy_from_slice(parts.rest));
        Connection::resume(key, (id.into(), uri.into()), tags, state, room, socket)
    }

    /// The id, then each tag.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &str> {
        let mut parts = Parts::of(&self.0);
        let id = parts.id();
        parts.skip_uri();
        std::iter::once(id).chain(parts.into_tags())
    }
}

/// What is left to be read. Bytes of another form, of which there are none, are read as empty texts.
struct Parts<'a> {
    flags: u8,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let (flags, rest) = bytes.split_first().map_or((0, bytes), |(flags, rest)| (*flags, rest));
        Self { flags, rest }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn id(&mut self) -> &'a str {
        self.text()
    }

    fn uri(&mut self, id: &str, begin: Beginning<'_>) -> String {
        let base = begin.base.filter(|_| self.has(ON_BASE)).unwrap_or_default();
        let room = if self.has(HAS_ROOM) { begin.room } else { "" };
        let before = self.text();
        let (own_id, behind) = if self.has(HAS_ID) { (id, self.text()) } else { ("", "") };
        [base, room, before, own_id, behind].concat()
    }

    fn skip_uri(&mut self) {
        self.text();
        if self.has(HAS_ID) {
            self.text();
        }
    }

    fn tags(&mut self) -> impl Iterator<Item = &'a str> {
        (0..self.count()).map(|_| self.text())
    }

    fn into_tags(mut self) -> impl Iterator<Item = &'a str> {
        (0..self.count()).map(move |_| self.text())
    }

    fn count(&mut self) -> usize {
        let count = if self.has(HAS_TAGS) { self.length() } else { 0 };
        // Each has at least a byte.
        count.min(self.rest.len())
    }

    fn text(&mut self) -> &'a str {
        let length = self.length().min(self.rest.len());
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        std::str::from_utf8(text).unwrap_or_default()
    }

    fn length(&mut self) -> usize {
        let mut length = 0;
        for shift in (0..28).step_by(7) {
            let Some((byte, rest)) = self.rest.split_first() else { break };
            self.rest = rest;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        length
    }
}

fn put(into: &mut Vec<u8>, text: &[u8]) {
    put_length(into, text.len());
    into.extend_from_slice(text);
}

/// Seven bits in a byte.
fn put_length(into: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        into.push(length as u8 | 0x80);
        length >>= 7;
    }
    into.push(length as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CROWD: Beginning<'_> =
        Beginning { base: Some("http://h/parties/main/hall?"), room: "hall" };
    const ALONE: Beginning<'_> = Beginning { base: Some("http://h/parties/main/"), room: "hall" };
    const NONE: Beginning<'_> = Beginning { base: None, room: "hall" };

    fn kept(attachment: &Attachment, begin: Beginning<'_>) -> Kept {
        Kept::of_attachment(attachment, begin, &mut Vec::new())
    }

    fn beginning() -> impl Strategy<Value = Beginning<'static>> {
        proptest::sample::select(vec![CROWD, ALONE, NONE])
    }

    fn attachment() -> impl Strategy<Value = Attachment> {
        let tags = proptest::collection::vec("[a-zé]{1,200}", 0..=9);
        let state = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
        let usual = [
            "ID",
            "http://h/parties/main/hall?",
            "http://h/parties/main/hall",
            "http://h/parties/main/hallway?_pk=ID",
            "http://h/parties/main/hall?_pk=ID",
            "http://h/parties/main/hall?a=ID&_pk=ID&b=é",
            "https://h/ID?_pk=ID",
        ];
        let usual = proptest::sample::select(usual.map(str::to_owned).to_vec());
        let uri = prop_oneof![".{0,200}", usual];
        (any::<u64>(), "[a-zé]{1,200}", uri, tags, state).prop_map(
            |(order, id, uri, tags, state)| {
                let uri = uri.replace("ID", &id);
                Attachment { order, id, uri, tags, state }
            },
        )
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(attachment in attachment(), begin in beginning()) {
            let kept = kept(&attachment, begin);
            let tags = kept.tags().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!((&tags[0], &tags[1..]), (&attachment.id, &*attachment.tags));
            prop_assert_eq!(kept.attachment(attachment.order, begin), attachment);
        }

        #[test]
        fn other_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let kept = Kept(bytes.into());
            let _ = (kept.attachment(0, ALONE), kept.tags().count());
        }
    }

    #[test]
    fn the_id_and_the_beginning_are_not_written_again() {
        let id = "V1StGXR8_Z5jdHi6B-myT".to_owned();
        let uri = format!("http://h/parties/main/hall?_pk={id}");
        let attachment = Attachment { order: 1, id, uri, tags: Vec::new(), state: None };
        assert!(kept(&attachment, CROWD).0.len() <= 32, "a size class");
        assert!(kept(&attachment, ALONE).0.len() <= 32, "a size class");
        assert!(kept(&attachment, NONE).0.len() <= 4 + attachment.uri.len());
    }
}
