use std::{mem, num::NonZeroU32, sync::Arc};

use super::{Records, sorted::Sorted};
use crate::{
    RoomId,
    connection::{
        base::Base,
        record::{Record, Status},
    },
};

/// [`Records`] while their room sleeps. Most rooms that sleep have one connection: theirs are a part of the room.
pub(crate) enum AtRest {
    /// `keys` were given, from that of the record on. That it is never 0 spares the enum its tag, 8 bytes.
    One { record: Record, keys: NonZeroU32, attached: u32, base: Option<Arc<Base>> },
    /// `None` if no connection has ever come.
    Other(Option<Box<Records>>),
}

impl AtRest {
    /// Has `look` see the records. `room` sleeps on.
    pub(crate) fn with<R>(&mut self, room: &RoomId, look: impl FnOnce(&mut Records) -> R) -> R {
        if let Self::Other(Some(records)) = self {
            return look(records);
        }
        let mut records = mem::take(self).wake(room);
        let result = look(&mut records);
        *self = records.into();
        result
    }

    /// The records, for `room` wakes.
    pub(crate) fn wake(self, room: &RoomId) -> Records {
        let records = match self {
            Self::One { record, keys, attached, base } => Records {
                listed: u32::from(record.status() == Status::Open),
                last_key: record.key() + u64::from(keys.get()) - 1,
                sorted: Sorted::One(record),
                attached,
                // A lone one has the base that was chosen for it, or one that is chosen again when others come.
                weighed: 1,
                base,
                ..Records::default()
            },
            Self::Other(Some(records)) => *records,
            Self::Other(None) => Records::default(),
        };
        Records { room: Some(room.clone()), ..records }
    }

    /// Connections of any status.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One { .. } => 1,
            Self::Other(records) => records.as_ref().map_or(0, |it| it.len()),
        }
    }

    pub(crate) fn listed(&self) -> usize {
        match self {
            Self::One { record, .. } => usize::from(record.status() == Status::Open),
            Self::Other(records) => records.as_ref().map_or(0, |it| it.listed()),
        }
    }
}

impl Default for AtRest {
    fn default() -> Self {
        Self::Other(None)
    }
}

impl From<Records> for AtRest {
    fn from(mut records: Records) -> Self {
        records.sorted.trim();
        if records.last_key == 0 && records.sorted.is_empty() {
            return Self::default();
        }
        if let Sorted::One(record) = &records.sorted
            && !record.is_gone()
            && let Some(keys) = keys(record.key(), records.last_key)
            && let Sorted::One(record) = mem::take(&mut records.sorted)
        {
            return Self::One { record, keys, attached: records.attached, base: records.base };
        }
        Self::Other(Some(Box::new(records)))
    }
}

/// How many there are. `None` if they are too many for the form of a lone record.
fn keys(first: u64, last: u64) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(last.checked_sub(first)?.checked_add(1)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connection::attachment::Attachment, testing::bare::NoSocket};

    fn attachment(order: u64) -> Attachment {
        let (id, uri) = (format!("client {order}"), format!("http://h/p/a?_pk={order}"));
        Attachment { order, id, uri, tags: vec!["red".into()], state: None }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let room = RoomId::new("a").unwrap();
        for count in 0..4_u64 {
            for closing in [false, true] {
                let mut records = Records::with_capacity(room.clone(), 0);
                (1..=count).for_each(|order| {
                    records.resume(&attachment(order), Arc::new(NoSocket), closing);
                });
                // Another one came after them, and has gone.
                records.resume(&attachment(count + 1), Arc::new(NoSocket), false);
                records.set_status(count + 1, Status::Closing);
                records.remove(count + 1, attachment(count + 1).size());
                records.rest();
                let (listed, attached) = (records.listed(), records.attached());
                let mut rest = AtRest::from(records);
                assert_eq!((rest.len(), rest.listed()), (count as usize, listed));
                assert_eq!(matches!(rest, AtRest::One { .. }), count == 1, "one needs no list");
                let kept = |records: &mut Records| {
                    let all = records.all().filter_map(|record| records.attachment(record));
                    all.collect::<Vec<_>>()
                };
                let all: Vec<_> = (1..=count).map(attachment).collect();
                assert_eq!(rest.with(&room, kept), all);
                let mut back = rest.wake(&room);
                assert_eq!((back.listed(), back.attached()), (listed, attached));
                assert_eq!((kept(&mut back), back.next_key()), (all, count + 2));
            }
        }
    }

    /// The first key is 1, but a runtime may resume a connection with any key.
    #[test]
    fn a_connection_whose_key_is_0_is_not_lost() {
        let room = RoomId::new("a").unwrap();
        let mut records = Records::with_capacity(room.clone(), 1);
        records.resume(&attachment(0), Arc::new(NoSocket), false);
        records.rest();
        let back = AtRest::from(records).wake(&room);
        assert_eq!((back.len(), back.get(0).is_some()), (1, true));
    }
}
