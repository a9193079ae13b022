use std::{mem, sync::Arc};

use super::{Records, sorted::Sorted};
use crate::connection::{
    base::Base,
    record::{Record, Status},
};

/// [`Records`] while their room sleeps. Most rooms that sleep have one connection: theirs are a part of the room.
pub(crate) enum AtRest {
    None { last_key: u64 },
    One { record: Record, last_key: u64, attached: u32, base: Option<Arc<Base>> },
    Many(Box<Records>),
}

impl AtRest {
    /// Has `look` see the records. The room sleeps on.
    pub(crate) fn with<R>(&mut self, look: impl FnOnce(&mut Records) -> R) -> R {
        if let Self::Many(records) = self {
            return look(records);
        }
        let mut records = Records::from(mem::take(self));
        let result = look(&mut records);
        *self = records.into();
        result
    }

    /// Connections of any status.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None { .. } => 0,
            Self::One { .. } => 1,
            Self::Many(records) => records.len(),
        }
    }

    pub(crate) fn listed(&self) -> usize {
        match self {
            Self::None { .. } => 0,
            Self::One { record, .. } => usize::from(record.status() == Status::Open),
            Self::Many(records) => records.listed(),
        }
    }
}

impl Default for AtRest {
    fn default() -> Self {
        Self::None { last_key: 0 }
    }
}

impl From<Records> for AtRest {
    fn from(mut records: Records) -> Self {
        records.sorted.trim();
        let Records { last_key, attached, .. } = records;
        match mem::take(&mut records.sorted) {
            Sorted::One(record) if !record.is_gone() => {
                Self::One { record, last_key, attached, base: records.base }
            }
            Sorted::Any(all) if all.is_empty() => Self::None { last_key },
            sorted => Self::Many(Box::new(Records { sorted, ..records })),
        }
    }
}

impl From<AtRest> for Records {
    fn from(rest: AtRest) -> Self {
        match rest {
            AtRest::None { last_key } => Self { last_key, ..Self::default() },
            AtRest::One { record, last_key, attached, base } => Self {
                listed: u32::from(record.status() == Status::Open),
                sorted: Sorted::One(record),
                last_key,
                attached,
                // A lone one has the base that was chosen for it, or one that is chosen again when others come.
                weighed: 1,
                base,
                ..Self::default()
            },
            AtRest::Many(records) => *records,
        }
    }
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
        for count in 0..4_u64 {
            for closing in [false, true] {
                let mut records = Records::default();
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
                assert_eq!(matches!(rest, AtRest::Many(_)), count > 1, "one needs no list");
                let kept = |records: &mut Records| {
                    let all = records.all().filter_map(|record| records.attachment(record));
                    all.collect::<Vec<_>>()
                };
                let all: Vec<_> = (1..=count).map(attachment).collect();
                assert_eq!(rest.with(kept), all);
                let mut back = Records::from(rest);
                assert_eq!((back.listed(), back.attached()), (listed, attached));
                assert_eq!((kept(&mut back), back.next_key()), (all, count + 2));
            }
        }
    }
}
