//! The connections of a room as data.

mod at_rest;
mod sorted;

pub(crate) use self::at_rest::AtRest;

use std::{
    fmt,
    sync::{Arc, Weak},
};

use self::sorted::Sorted;
use super::roster::hash;
use crate::{
    Connection, RoomId,
    connection::{
        Owner,
        attachment::Attachment,
        base::{Base, Beginning},
        record::{LAST_KEY, Record, Status},
        socket::Socket,
    },
};

/// The records of a room's connections, sorted by their keys.
#[derive(Default)]
pub(crate) struct Records {
    sorted: Sorted,
    last_key: u64,
    /// Places of connections that have ended.
    gone: u32,
    listed: u32,
    /// The bytes of ids, uris, tags and committed states, of connections that were listed.
    attached: u32,
    /// How many connections there were when the base was chosen.
    weighed: u32,
    base: Option<Arc<Base>>,
    /// Which room it is. `None` only in tests.
    room: Option<RoomId>,
}

impl Records {
    /// Of this room, with space for as many connections as come back, and no more.
    pub(crate) fn with_capacity(room: RoomId, connections: usize) -> Self {
        let sorted = Sorted::with_capacity(connections);
        Self { sorted, room: Some(room), ..Self::default() }
    }

    /// A connection that was here before is here again.
    pub(crate) fn resume(
        &mut self,
        attachment: &Attachment,
        socket: Arc<dyn Socket>,
        closing: bool,
    ) {
        let key = attachment.order.min(LAST_KEY);
        self.insert(Record::resumed(attachment, socket, hash(&attachment.id), self.beginning()));
        self.listed += 1;
        self.attached += u32::try_from(attachment.size()).unwrap_or(0);
        if closing {
            self.set_status(key, Status::Closing);
        }
    }

    pub(super) fn next_key(&mut self) -> u64 {
        self.last_key = (self.last_key + 1).min(LAST_KEY);
        self.last_key
    }

    pub(super) fn insert(&mut self, record: Record) {
        let key = record.key();
        self.last_key = self.last_key.max(key);
        // Keys grow, so this is nearly always the end.
        let at = match self.sorted.last() {
            Some(last) if last.key() > key => {
                self.sorted.partition_point(|known| known.key() < key)
            }
            _ => self.sorted.len(),
        };
        self.sorted.insert(at, record);
    }

    /// Counts what is attached to a connection from now on.
    pub(super) fn count(&mut self, key: u64, size: usize) {
        let Some(record) = self.get_mut(key) else { return };
        if !record.was_listed() {
            record.set_listed();
            self.attached += u32::try_from(size).unwrap_or(0);
        }
    }

    /// A part of what is attached to a connection has another size now.
    pub(super) fn resize(&mut self, key: u64, before: usize, after: usize) {
        if self.get(key).is_some_and(Record::was_listed) {
            let attached = (self.attached as usize + after).saturating_sub(before);
            self.attached = u32::try_from(attached).unwrap_or(u32::MAX);
        }
    }

    /// Whether that changed which connections are listed. `None` if there is no such connection.
    pub(super) fn set_status(&mut self, key: u64, status: Status) -> Option<bool> {
        let record = self.get_mut(key)?;
        let (was, is) = (record.status() == Status::Open, status == Status::Open);
        record.set_status(status);
        match (was, is) {
            (false, true) => self.listed += 1,
            (true, false) => self.listed -= 1,
            _ => {}
        }
        Some(was != is)
    }

    /// Forgets a connection to which this much is attached.
    pub(super) fn remove(&mut self, key: u64, size: usize) {
        self.resize(key, size, 0);
        let Some(record) = self.get_mut(key) else { return };
        record.end();
        self.gone += 1;
        // A crowd that leaves is not moved up for each who goes.
        if self.gone as usize > 8 + self.sorted.len() / 2 {
            self.close_ranks();
        }
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Record> {
        let at = self.position(key)?;
        self.sorted.get(at).filter(|record| !record.is_gone())
    }

    fn get_mut(&mut self, key: u64) -> Option<&mut Record> {
        let at = self.position(key)?;
        self.sorted.get_mut(at).filter(|record| !record.is_gone())
    }

    /// Where the record of this key is.
    fn position(&self, key: u64) -> Option<usize> {
        let first = self.sorted.first()?.key();
        // Each key is larger than the one before, so it cannot be farther from the first one than this. It is
        // just there while nothing between them has gone.
        let distance = usize::try_from(key.checked_sub(first)?).unwrap_or(usize::MAX);
        let most = distance.min(self.sorted.len() - 1);
        if self.sorted[most].key() == key {
            return Some(most);
        }
        self.sorted[..most].binary_search_by_key(&key, Record::key).ok()
    }

    /// The handle of a connection. Makes it if the record has no handle yet.
    pub(crate) fn handle(&mut self, key: u64, room: &Weak<dyn Owner>) -> Option<Connection> {
        let at = self.position(key)?;
        let begin = beginning(&self.base, &self.room);
        self.sorted[at].handle(room, begin)
    }

    /// The handles of all listed connections, in connection order.
    pub(crate) fn handles(&mut self, room: &Weak<dyn Owner>) -> impl Iterator<Item = Connection> {
        let begin = beginning(&self.base, &self.room);
        let open = self.sorted.iter_mut().filter(|it| it.status() == Status::Open);
        open.filter_map(move |record| record.handle(room, begin))
    }

    /// A handle for a look, see [`Record::peek`].
    pub(crate) fn peek(&self, record: &Record, room: &Weak<dyn Owner>) -> Option<Connection> {
        record.peek(room, self.beginning())
    }

    /// What is attached to the connection of this record.
    pub(crate) fn attachment(&self, record: &Record) -> Option<Attachment> {
        record.attachment(self.beginning())
    }

    /// Connections of any status, in connection order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Record> {
        self.sorted.iter().filter(|record| !record.is_gone())
    }

    /// Listed connections, in connection order.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Record> {
        self.all().filter(|record| record.status() == Status::Open)
    }

    /// Of any status.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len() - self.gone as usize
    }

    pub(crate) fn listed(&self) -> usize {
        self.listed as usize
    }

    pub(super) fn attached(&self) -> usize {
        self.attached as usize
    }

    /// How many handles there are.
    #[cfg(test)]
    pub(crate) fn live(&self) -> usize {
        self.all().filter(|record| record.is_live()).count()
    }

    /// The room sleeps: handles that no other code has become bytes.
    pub(super) fn rest(&mut self) {
        self.close_ranks();
        let mut scratch = Vec::new();
        self.share();
        let begin = beginning(&self.base, &self.room);
        self.sorted.iter_mut().for_each(|record| record.rest(begin, &mut scratch));
        self.sorted.trim();
    }

    /// Chooses the base again if there are twice as many connections as last time.
    pub(crate) fn share(&mut self) {
        let len = self.sorted.len();
        if len == 0 {
            (self.base, self.weighed) = (None, 0);
        }
        if len < 2 * (self.weighed as usize).max(1) && !(len == 1 && self.weighed == 0) {
            return;
        }
        self.weighed = u32::try_from(len).unwrap_or(u32::MAX);
        let old = self.base.take();
        let begin = beginning(&old, &self.room);
        let uris = self.sorted.iter().filter_map(|record| record.uri(begin));
        self.base = Base::choose(uris);
        if self.base != old {
            let (new, mut scratch) = (beginning(&self.base, &self.room), Vec::new());
            self.sorted.iter_mut().for_each(|it| it.set_beginning(begin, new, &mut scratch));
        }
    }

    fn beginning(&self) -> Beginning<'_> {
        beginning(&self.base, &self.room)
    }

    fn close_ranks(&mut self) {
        if self.gone > 0 {
            self.sorted.retain(|record| !record.is_gone());
            self.gone = 0;
        }
    }
}

fn beginning<'a>(base: &'a Option<Arc<Base>>, room: &'a Option<RoomId>) -> Beginning<'a> {
    let base = base.as_ref().map(|base| base.as_str());
    Beginning { base, room: room.as_ref().map_or("", RoomId::as_str) }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bare::NoSocket;

    #[test]
    fn a_record_is_found_by_its_key_wherever_it_is() {
        let mut records = Records::default();
        let mut here = std::collections::BTreeSet::new();
        // Resumed ones come in any order, and with gaps.
        for order in [7, 3, 4, 12, 13, 14, 20] {
            let (id, uri) = (order.to_string(), "http://h/".to_owned());
            let attachment = Attachment { order, id, uri, tags: Vec::new(), state: None };
            records.resume(&attachment, Arc::new(NoSocket), false);
            here.insert(order);
        }
        let check = |records: &Records, here: &std::collections::BTreeSet<u64>| {
            for key in 0..25 {
                let found = records.get(key).map(Record::key);
                assert_eq!(found, here.contains(&key).then_some(key));
            }
        };
        check(&records, &here);
        for gone in [3, 13, 20, 4, 12, 7, 14] {
            records.remove(gone, 0);
            here.remove(&gone);
            check(&records, &here);
            records.close_ranks();
            check(&records, &here);
        }
    }

    /// No matter what the uris of the room have in common at the time.
    #[test]
    fn each_connection_keeps_its_own_uri_while_others_come_and_go() {
        let hosts = ["http://h", "https://g", "https://g", "https://g", "http://h"];
        let (mut records, mut here) = (Records::default(), Vec::new());
        let mut bases = Vec::new();
        for (host, order) in hosts.iter().cycle().zip(1..40) {
            let (id, tags) = (format!("client {order}"), vec!["red".to_owned()]);
            let uri = format!("{host}/parties/main/hall?_pk={id}");
            let attachment = Attachment { order, id, uri, tags, state: Some(vec![b'1']) };
            records.resume(&attachment, Arc::new(NoSocket), false);
            here.push(attachment);
            if order % 7 == 0 {
                let gone = here.remove(0);
                records.remove(gone.order, gone.size());
            }
            records.rest();
            bases.push(records.beginning().base.map(str::to_owned));
            let kept = records.all().filter_map(|record| records.attachment(record));
            assert_eq!(kept.collect::<Vec<_>>(), here);
        }
        bases.dedup();
        let base = |host: &str| Some(format!("{host}/parties/main/hall?"));
        assert_eq!(bases[0].as_deref(), Some("http://h/parties/main/"));
        assert_eq!(bases.last(), Some(&base("https://g")));
        for gone in here {
            records.remove(gone.order, gone.size());
        }
        records.rest();
        assert_eq!((records.len(), records.beginning().base), (0, None));
    }
}
