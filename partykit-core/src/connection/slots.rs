//! A connection's state and the slots of libraries, as one value. The machine commits it and rolls it back as
//! a whole.
//!
//! Without slots it is the state's JSON, which never begins with a 0. With slots it is a 0, then
//! [postcard](https://postcard.jamesmunns.com/wire-format) of [`Slots`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a value with slots begins with.
pub(super) const MARK: u8 = 0;

/// A part to set, as JSON, or to remove.
pub(super) enum Part<'a> {
    State(Option<&'a [u8]>),
    Slot(&'a str, Option<&'a [u8]>),
}

/// The parts, each as JSON.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Slots<'a> {
    /// What [`Connection::set_state`](crate::Connection::set_state) has set.
    #[serde(borrow)]
    pub(super) state: Option<&'a [u8]>,
    /// By name, in the order of names.
    #[serde(borrow)]
    named: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Slots<'a> {
    /// Reads a value. Bytes that are not a value count as no value.
    pub(super) fn read(value: Option<&'a Bytes>) -> Self {
        match value.map(|value| &**value) {
            None => Self::default(),
            Some([MARK, parts @ ..]) => postcard::from_bytes(parts).unwrap_or_default(),
            Some(state) => Self { state: Some(state), named: Vec::new() },
        }
    }

    /// The value; `None` if there is nothing in it.
    pub(super) fn write(&self) -> Option<Bytes> {
        if self.named.is_empty() {
            return self.state.map(Bytes::copy_from_slice);
        }
        // Strings and byte strings have no form that postcard refuses.
        Some(postcard::to_extend(self, vec![MARK]).unwrap_or_default().into())
    }

    pub(super) fn put(&mut self, part: &Part<'a>) {
        match *part {
            Part::State(json) => self.state = json,
            Part::Slot(name, json) => self.set(name, json),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.named.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(self.named[found].1)
    }

    fn set(&mut self, name: &'a str, json: Option<&'a [u8]>) {
        match (self.named.binary_search_by_key(&name, |(name, _)| name), json) {
            (Ok(at), Some(json)) => self.named[at].1 = json,
            (Ok(at), None) => drop(self.named.remove(at)),
            (Err(at), Some(json)) => self.named.insert(at, (name, json)),
            (Err(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A library in the same room as an application.
    #[test]
    fn a_slot_and_the_state_leave_one_another_alone() {
        use crate::{Connection, Message, Result, Room, Server, testing::TestRoom};

        #[derive(Default)]
        struct Both;

        impl Server for Both {
            async fn on_message(&mut self, _: &Room, ada: &Connection, said: Message) -> Result {
                match said.as_text() {
                    Some("state") => ada.set_state("state")?,
                    Some("slot") => ada.set_slot("library", "slot")?,
                    Some("clear") => ada.clear_state(),
                    _ => {
                        ada.set_slot("library", "lost")?;
                        ada.set_state("lost")?;
                        return Err("both are rolled back".into());
                    }
                }
                Ok(())
            }
        }

        futures_executor::block_on(async {
            let room = TestRoom::<Both>::new();
            let ada = room.connect("ada").await;
            let both = || {
                let connection = ada.connection();
                let state = connection.state::<String>().unwrap();
                (state, connection.slot::<String>("library").unwrap())
            };
            let some = |text: &str| Some(text.to_owned());
            ada.send("slot").await;
            assert_eq!(both(), (None, some("slot")));
            ada.send("state").await;
            ada.send("fail").await;
            assert_eq!(both(), (some("state"), some("slot")));
            let attachment = crate::runtime::Attachment::of(ada.connection()).encode();
            assert_eq!(attachment[0], 2);
            ada.send("clear").await;
            assert_eq!(both(), (None, some("slot")));
            ada.connection().clear_slot("library");
            assert_eq!(both(), (None, None));
            assert_eq!(crate::runtime::Attachment::of(ada.connection()).encode()[0], 1);
        });
    }

    #[test]
    fn without_slots_it_is_the_state_alone() {
        let state = Bytes::from_static(b"{\"x\":1}");
        let mut slots = Slots::read(Some(&state));
        assert_eq!(slots.write(), Some(state.clone()));
        slots.set("a", Some(b"1"));
        slots.set("a", None);
        slots.set("b", None);
        assert_eq!(slots.write(), Some(state));
        assert_eq!(Slots::read(None).write(), None);
    }

    proptest! {
        #[test]
        fn they_are_a_map_beside_a_state(
            writes in proptest::collection::vec(("[a-c]{1,2}", proptest::option::of("[0-9]{1,3}")), 0..20)
        ) {
            let mut value = Some(Bytes::from_static(b"true"));
            let mut model = std::collections::BTreeMap::new();
            for (name, json) in &writes {
                let before = value.take();
                let mut slots = Slots::read(before.as_ref());
                slots.set(name, json.as_ref().map(String::as_bytes));
                value = slots.write();
                match json {
                    Some(json) => drop(model.insert(name.clone(), json.clone())),
                    None => drop(model.remove(name)),
                }
                let slots = Slots::read(value.as_ref());
                prop_assert_eq!(slots.state, Some(&b"true"[..]));
                prop_assert_eq!(slots.named.len(), model.len());
                for (name, json) in &model {
                    prop_assert_eq!(slots.get(name), Some(json.as_bytes()));
                }
            }
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from([&[MARK], &*bytes].concat());
            let _ = Slots::read(Some(&bytes)).write();
        }
    }
}
