use serde::{Deserialize, Serialize};

use super::slots::MARK;
use crate::{Connection, value::limits};

/// The first byte of [`Attachment::encode`]: the newest version, and the version of a connection without
/// slots.
const VERSION: u8 = 2;
const WITHOUT_SLOTS: u8 = 1;

/// Everything of a connection that survives its room's instance. A runtime keeps it, as bytes, with a socket
/// that another program holds: on Workers it is the attachment of the Durable Object's socket.
///
/// An encoded attachment has at most 16,384 bytes: a [`Connection`] allows 16,320 bytes for id, uri, tags and
/// state, and the encoding adds less than 64.
///
/// ```
/// use partykit_core::runtime::Attachment;
///
/// let attachment = Attachment {
///     order: 3,
///     id: "ada".to_owned(),
///     uri: "http://example.com/parties/main/lobby?_pk=ada".to_owned(),
///     tags: vec!["admin".to_owned()],
///     state: Some(b"{\"x\":1}".to_vec()),
/// };
/// assert_eq!(Attachment::decode(&attachment.encode())?, attachment);
/// assert!(Attachment::decode(b"\x01garbage").is_err());
/// # Ok::<(), partykit_core::runtime::AttachmentError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "another field is another version")]
pub struct Attachment {
    /// Numbers the connections of a room in the order in which they came.
    pub order: u64,
    /// The connection's id.
    pub id: String,
    /// The address of the upgrade request.
    pub uri: String,
    /// The tags beside the id.
    pub tags: Vec<String>,
    /// The state as JSON. If libraries keep slots with the connection: a 0, then state and slots.
    pub state: Option<Vec<u8>>,
}

impl Attachment {
    /// The attachment of a connection as it is now, committed state included.
    pub fn of(connection: &Connection) -> Self {
        Self {
            order: connection.key(),
            id: connection.id().to_owned(),
            uri: connection.uri().to_owned(),
            tags: connection.tags().skip(1).map(ToOwned::to_owned).collect(),
            state: connection.committed_state().map(|state| state.to_vec()),
        }
    }

    /// The bytes: a version, then [postcard](https://postcard.jamesmunns.com/wire-format) of the fields
    /// in their order.
    pub fn encode(&self) -> Vec<u8> {
        // Postcard can encode all strings, byte strings and options of them, so this never fails.
        let has_slots = self.state.as_ref().is_some_and(|state| state.first() == Some(&MARK));
        let version = if has_slots { VERSION } else { WITHOUT_SLOTS };
        postcard::to_extend(self, vec![version]).unwrap_or_default()
    }

    /// Reads what [`encode`](Attachment::encode) made, and checks all limits.
    ///
    /// # Errors
    ///
    /// When the bytes are of another version, cut short, followed by others, or over a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, AttachmentError> {
        let attachment = Self::read(bytes)?;
        if attachment.keeps_limits() { Ok(attachment) } else { Err(AttachmentError::OverLimit) }
    }

    /// Reads without a look at the limits.
    fn read(bytes: &[u8]) -> Result<Self, AttachmentError> {
        let (version, rest) = bytes.split_first().ok_or(AttachmentError::Malformed)?;
        if ![VERSION, WITHOUT_SLOTS].contains(version) {
            return Err(AttachmentError::Version(*version));
        }
        let decoded = postcard::take_from_bytes::<Self>(rest);
        let (attachment, left) = decoded.map_err(|_| AttachmentError::Malformed)?;
        if left.is_empty() { Ok(attachment) } else { Err(AttachmentError::Malformed) }
    }

    /// What is attached, in bytes, as [`limits::ATTACHMENT`] counts it.
    pub(crate) fn size(&self) -> usize {
        let tags: usize = self.tags.iter().map(String::len).sum();
        self.id.len() + self.uri.len() + tags + self.state.as_ref().map_or(0, Vec::len)
    }

    fn keeps_limits(&self) -> bool {
        let is_tag = |tag: &String| (1..=limits::TAG).contains(&tag.len());
        is_tag(&self.id)
            && self.tags.len() < limits::TAGS
            && self.tags.iter().all(is_tag)
            && self.size() <= limits::ATTACHMENT
    }
}

/// Why bytes could not be read as an [`Attachment`].
///
/// ```
/// use partykit_core::runtime::{Attachment, AttachmentError};
///
/// assert_eq!(Attachment::decode(&[9]), Err(AttachmentError::Version(9)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// The bytes are cut short, or are something else.
    #[error("the bytes are not an attachment")]
    Malformed,
    /// A part is over a limit of connections.
    #[error("the attachment exceeds a limit of connections")]
    OverLimit,
    /// The bytes have this version, which this library does not know.
    #[error("the attachment has version {0}, this library reads {VERSION}")]
    Version(u8),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connection::{base::Beginning, kept::Kept};

    fn attachment() -> impl Strategy<Value = Attachment> {
        let tag = "[a-zé]{1,40}";
        let tags = proptest::collection::vec(tag, 0..=9);
        let state = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
        let fields = (any::<u64>(), tag, ".{0,100}", tags, state);
        fields.prop_map(|(order, id, uri, tags, state)| Attachment { order, id, uri, tags, state })
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(attachment in attachment()) {
            prop_assert_eq!(Attachment::decode(&attachment.encode()), Ok(attachment));
        }

        #[test]
        fn a_part_of_one_is_none(attachment in attachment(), cut in any::<prop::sample::Index>()) {
            let bytes = attachment.encode();
            let part = &bytes[..cut.index(bytes.len())];
            prop_assert!(Attachment::decode(part).is_err());
            prop_assert!(Attachment::decode(&[&*bytes, b"\0"].concat()).is_err());
        }

        #[test]
        fn bytes_never_panic_and_what_is_read_keeps_the_limits(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let bytes = [&[VERSION], &*bytes].concat();
            if let Ok(attachment) = Attachment::decode(&bytes) {
                prop_assert!(attachment.keeps_limits());
            }
        }
    }

    #[test]
    fn the_largest_one_fits_into_a_platforms_attachment() {
        let tags: Vec<String> = (0..9).map(|n| format!("{n}").repeat(limits::TAG)).collect();
        let (id, uri) = ("i".repeat(limits::TAG), "u".repeat(1000));
        let state = limits::ATTACHMENT - id.len() - uri.len() - 9 * limits::TAG;
        let mut largest =
            Attachment { order: u64::MAX, id, uri, tags, state: Some(vec![b'1'; state]) };
        assert!(largest.encode().len() <= 16_384);
        assert!(Attachment::decode(&largest.encode()).is_ok());
        largest.uri.push('u');
        assert_eq!(Attachment::decode(&largest.encode()), Err(AttachmentError::OverLimit));
    }

    #[test]
    fn a_connections_attachment_has_all_of_it() {
        struct Tagged;

        impl crate::Server for Tagged {
            fn connection_tags(
                &mut self,
                _: &crate::Room,
                _: &str,
                _: &crate::Request,
            ) -> crate::Result<Vec<String>> {
                Ok(vec!["admin".to_owned()])
            }
        }

        futures_executor::block_on(async {
            let room = crate::testing::TestRoomBuilder::new(|_| Tagged).build();
            let ada = room.connect("ada").await;
            ada.connection().set_state(&1).unwrap();
            let attachment = Attachment::of(ada.connection());
            let kept = Kept::of(ada.connection(), Beginning::default(), &mut Vec::new());
            assert_eq!(kept.attachment(attachment.order, Beginning::default()), attachment);
            assert_eq!(kept.tags().collect::<Vec<_>>(), ["ada", "admin"]);
            assert_eq!((&*attachment.id, &*attachment.uri), ("ada", ada.connection().uri()));
            assert_eq!(
                (attachment.tags, attachment.state),
                (vec!["admin".into()], Some(b"1".into()))
            );
        });
    }
}
