//! A connection as data: what is kept of it while no code asks for a handle.

use std::sync::{Arc, Weak};

use super::{
    Connection, Owner, attachment::Attachment, base::Beginning, kept, peer::Peer, socket::Socket,
};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Its connect waits in the mailbox, or its handshake is not answered yet. Listed while its
    /// `on_connect` runs.
    Connecting,
    Open,
    /// The server has closed it; the client's answer is awaited. Not listed.
    Closing,
}

/// One connection of a room, in 40 bytes and what is kept of it.
///
/// The same beginning has to be given to all methods that want one, until [`Record::set_beginning`] changes it.
pub(crate) struct Record {
    /// The key, bits of the id's hash, whether it was listed, and the status.
    word: u64,
    /// `None` when the connection has ended: the place is free, and keeps the order.
    held: Option<Held>,
}

struct Held {
    socket: Arc<dyn Socket>,
    kept: Kept,
}

enum Kept {
    /// A handle was made since the room woke, or is still held.
    Live(Connection),
    /// The [`Attachment`].
    Bytes(kept::Kept),
}

const STATUS_BITS: u32 = 2;
const LISTED: u64 = 1 << STATUS_BITS;
const MARK_SHIFT: u32 = STATUS_BITS + 1;
const MARK_BITS: u32 = 17;
const MARK: u64 = (1 << MARK_BITS) - 1;
const KEY_SHIFT: u32 = MARK_SHIFT + MARK_BITS;

/// The largest key: a room whose clients come at a million a second counts half a year.
pub(crate) const LAST_KEY: u64 = (1 << (64 - KEY_SHIFT)) - 1;

impl Record {
    /// A connection that is not listed yet. `hash` is that of its id.
    pub(crate) fn new(connection: Connection, hash: u64) -> Self {
        let word = connection.key() << KEY_SHIFT | (hash & MARK) << MARK_SHIFT;
        let socket = connection.socket().clone();
        Self { word, held: Some(Held { socket, kept: Kept::Live(connection) }) }
    }

    /// A listed connection that comes back, of which there is no handle.
    pub(crate) fn resumed(
        attachment: &Attachment,
        socket: Arc<dyn Socket>,
        hash: u64,
        begin: Beginning<'_>,
    ) -> Self {
        let word =
            attachment.order.min(LAST_KEY) << KEY_SHIFT | (hash & MARK) << MARK_SHIFT | LISTED;
        let kept = kept::Kept::of_attachment(attachment, begin, &mut Vec::new());
        let mut record = Self { word, held: Some(Held { socket, kept: Kept::Bytes(kept) }) };
        record.set_status(Status::Open);
        record
    }

    pub(crate) fn key(&self) -> u64 {
        self.word >> KEY_SHIFT
    }

    pub(crate) fn status(&self) -> Status {
        match self.word & ((1 << STATUS_BITS) - 1) {
            0 => Status::Connecting,
            1 => Status::Open,
            _ => Status::Closing,
        }
    }

    pub(crate) fn set_status(&mut self, status: Status) {
        let bits = match status {
            Status::Connecting => 0,
            Status::Open => 1,
            Status::Closing => 2,
        };
        self.word = self.word >> STATUS_BITS << STATUS_BITS | bits;
    }

    /// Whether its tags are known, and what is attached to it counts.
    pub(crate) fn was_listed(&self) -> bool {
        self.word & LISTED != 0
    }

    pub(crate) fn set_listed(&mut self) {
        self.word |= LISTED;
    }

    /// Whether its id may have this hash.
    pub(crate) fn may_have_id(&self, hash: u64) -> bool {
        self.word >> MARK_SHIFT & MARK == hash & MARK
    }

    /// Whether the connection has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.held.is_none()
    }

    /// The connection, for what is said to it.
    pub(crate) fn peer(&self) -> Option<Peer> {
        self.socket().map(|socket| Peer::new(self.key(), socket.clone()))
    }

    pub(crate) fn socket(&self) -> Option<&Arc<dyn Socket>> {
        self.held.as_ref().map(|held| &held.socket)
    }

    /// Whether a handle is kept.
    #[cfg(test)]
    pub(crate) fn is_live(&self) -> bool {
        matches!(&self.held, Some(Held { kept: Kept::Live(_), .. }))
    }

    /// The handle. Makes it, and keeps it, if the record has no handle yet.
    pub(crate) fn handle(
        &mut self,
        room: &Weak<dyn Owner>,
        begin: Beginning<'_>,
    ) -> Option<Connection> {
        let connection = self.peek(room, begin)?;
        if let Some(held) = &mut self.held
            && let Kept::Bytes(_) = held.kept
        {
            held.kept = Kept::Live(connection.clone());
        }
        Some(connection)
    }

    /// A handle for a look. If the record has no handle, this makes one and does not keep it: two handles of one
    /// connection do not share their state.
    pub(crate) fn peek(&self, room: &Weak<dyn Owner>, begin: Beginning<'_>) -> Option<Connection> {
        let Held { socket, kept } = self.held.as_ref()?;
        Some(match kept {
            Kept::Live(connection) => connection.clone(),
            Kept::Bytes(kept) => kept.connection(self.key(), begin, room.clone(), socket.clone()),
        })
    }

    /// What is attached to the connection.
    pub(crate) fn attachment(&self, begin: Beginning<'_>) -> Option<Attachment> {
        Some(match &self.held.as_ref()?.kept {
            Kept::Live(connection) => Attachment::of(connection),
            Kept::Bytes(kept) => kept.attachment(self.key(), begin),
        })
    }

    /// The address of its request.
    pub(crate) fn uri(&self, begin: Beginning<'_>) -> Option<String> {
        match &self.held.as_ref()?.kept {
            Kept::Live(connection) => Some(connection.uri().to_owned()),
            Kept::Bytes(_) => Some(self.attachment(begin)?.uri),
        }
    }

    /// Has `look` see the id, then each tag.
    pub(crate) fn tags<R>(&self, look: impl FnOnce(&mut dyn Iterator<Item = &str>) -> R) -> R {
        match self.held.as_ref().map(|held| &held.kept) {
            Some(Kept::Live(connection)) => look(&mut connection.tags()),
            Some(Kept::Bytes(kept)) => look(&mut kept.tags()),
            None => look(&mut std::iter::empty()),
        }
    }

    pub(crate) fn has_id(&self, id: &str) -> bool {
        self.tags(|tags| tags.next() == Some(id))
    }

    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags(|mut tags| Iterator::any(&mut tags, |own| own == tag))
    }

    /// The connection has ended. Its place is kept, because others are found by their order.
    pub(crate) fn end(&mut self) {
        self.held = None;
    }

    /// The room sleeps: the handle becomes bytes, unless other code has it, too.
    pub(crate) fn rest(&mut self, begin: Beginning<'_>, scratch: &mut Vec<u8>) {
        let Some(held) = &mut self.held else { return };
        if let Kept::Live(connection) = &held.kept
            && self.word & LISTED != 0
            && !connection.is_shared()
        {
            held.kept = Kept::Bytes(kept::Kept::of(connection, begin, scratch));
        }
    }

    /// The uris of the room have another beginning from now on.
    pub(crate) fn set_beginning(
        &mut self,
        old: Beginning<'_>,
        new: Beginning<'_>,
        scratch: &mut Vec<u8>,
    ) {
        let key = self.key();
        if let Some(Held { kept: Kept::Bytes(kept), .. }) = &mut self.held {
            *kept = kept::Kept::of_attachment(&kept.attachment(key, old), new, scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connection::tags::Tags, engine::cell::RoomCell, testing::bare::NoSocket};

    fn record(key: u64, id: &str, hash: u64) -> (Record, Weak<dyn Owner>) {
        let room: Weak<dyn Owner> = Weak::<RoomCell>::new();
        let connection = Connection::new(key, id, "http://h/?a", room.clone(), Arc::new(NoSocket));
        connection.set_tags(Tags::known(["red", "blue"].into_iter()));
        (Record::new(connection, hash), room)
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Record>() <= 5 * size_of::<usize>());
    }

    #[test]
    fn the_word_keeps_its_parts_apart() {
        let (mut record, _) = record(LAST_KEY, "ada", u64::MAX);
        assert_eq!((record.key(), record.status()), (LAST_KEY, Status::Connecting));
        assert!(record.may_have_id(u64::MAX) && !record.may_have_id(0) && !record.was_listed());
        record.set_listed();
        for status in [Status::Open, Status::Closing, Status::Connecting] {
            record.set_status(status);
            assert_eq!((record.key(), record.status()), (LAST_KEY, status));
            assert!(record.may_have_id(MARK) && record.was_listed());
        }
    }

    #[test]
    fn a_handle_that_somebody_has_stays_and_another_comes_back_as_it_was() {
        let (mut record, room) = record(7, "ada", 1);
        let mut scratch = Vec::new();
        record.rest(Beginning::default(), &mut scratch);
        assert!(record.is_live(), "its tags are not known yet");
        record.set_listed();
        let held = record.handle(&room, Beginning::default()).unwrap();
        drop(held.commit_state(Some(b"1".as_slice().into())));
        record.rest(Beginning::default(), &mut scratch);
        assert!(record.is_live());
        let (socket, before) = (Arc::as_ptr(held.socket()).addr(), Attachment::of(&held));
        drop(held);
        record.rest(Beginning::default(), &mut scratch);
        assert!(!record.is_live());
        assert!(record.has_id("ada") && record.has_tag("blue") && !record.has_id("blue"));
        assert!(
            record.peek(&room, Beginning::default()).is_some() && !record.is_live(),
            "a look makes no handle"
        );
        let back = record.handle(&room, Beginning::default()).unwrap();
        assert_eq!(Arc::as_ptr(back.socket()).addr(), socket);
        assert_eq!(Attachment::of(&back), before);
        assert_eq!(record.handle(&room, Beginning::default()), Some(back));
        record.end();
        assert!(
            record.is_gone()
                && record.handle(&room, Beginning::default()).is_none()
                && !record.has_tag("ada")
        );
        assert_eq!(record.key(), 7);
    }

    #[test]
    fn slots_of_libraries_come_back_with_the_state() {
        let (mut record, room) = record(8, "ada", 1);
        record.set_listed();
        let held = record.handle(&room, Beginning::default()).unwrap();
        drop(held.commit_state(Some(b"\0 state and slots".as_slice().into())));
        let before = Attachment::of(&held);
        drop(held);
        record.rest(Beginning::default(), &mut Vec::new());
        assert!(!record.is_live());
        assert_eq!(record.attachment(Beginning::default()), Some(before));
    }
}
