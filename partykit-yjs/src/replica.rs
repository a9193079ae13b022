//! The document in memory, and the changes that came too early for it.
//!
//! yrs applies a change of a client before that client's earlier ones, if it depends on none of them, and leaves a
//! gap. An update that overlaps the far end of a gap then makes yrs use memory that it has freed. No client of Yjs
//! makes such an update, but an attacker may forge one. So what lies behind a gap waits here until the gap is filled, as it
//! does in Yjs.

use std::panic::AssertUnwindSafe;

use yrs::{
    ClientID, Doc, ReadTxn, StateVector, Transact, TransactionMut, merge_updates_v1,
    updates::encoder::Encode,
};

use crate::scan::{Early, Update};

/// A document, and what waits for it.
pub(crate) struct Replica {
    pub(crate) doc: Doc,
    waiting: Vec<Early>,
}

/// What came of an update.
pub(crate) struct Merged {
    /// What was new in it.
    pub(crate) news: Vec<u8>,
    /// A part of it waits for changes that have not arrived. `news` does not have it.
    pub(crate) is_waiting: bool,
}

impl Replica {
    pub(crate) fn new(doc: Doc) -> Self {
        Self { doc, waiting: Vec::new() }
    }

    /// Applies an update, and what has waited for it. Returns whether it worked. If not, this must not be used any
    /// more.
    pub(crate) fn apply(&mut self, update: Update<'_>) -> bool {
        self.step(update, |_| ()).is_some() && self.settle().is_some()
    }

    /// The same, and says what was new.
    pub(crate) fn merge(&mut self, update: Update<'_>) -> Option<Merged> {
        let before = self.waiting.len();
        let (news, is_waiting) =
            self.step(update, |txn| (txn.encode_update_v1(), txn.has_missing_updates()))?;
        let is_waiting = is_waiting || self.waiting.len() > before;
        self.settle()?;
        Some(Merged { news, is_waiting })
    }

    /// What the document has beyond a state vector, and the changes that wait for others. A change that no client of
    /// Yjs makes may wait in a form that yrs does not read back. Then the answer is without the changes that wait.
    /// (`encode_state_as_update_v1` panics there, and each join would fail.)
    pub(crate) fn beyond(&self, vector: &StateVector) -> Vec<u8> {
        let txn = self.doc.transact();
        let shown = txn.encode_diff_v1(vector);
        let store = txn.store();
        let waiting = caught(|| {
            let changes = store.pending_update().map(|pending| pending.update.encode_v1());
            // An update of no client, and what is deleted.
            let deleted = store.pending_ds().map(|deleted| [vec![0], deleted.encode_v1()].concat());
            [changes, deleted].into_iter().flatten().collect::<Vec<_>>()
        });
        let early = self.waiting.iter().map(|early| early.bytes.clone());
        let waiting: Vec<_> = waiting.into_iter().flatten().chain(early).collect();
        if waiting.is_empty() {
            return shown;
        }
        let all = [shown.clone()].into_iter().chain(waiting);
        caught(|| merge_updates_v1(all).ok()).flatten().unwrap_or(shown)
    }

    /// Applies the part of an update that leaves no gap. The rest waits.
    fn step<T>(
        &mut self,
        update: Update<'_>,
        then: impl FnOnce(&mut TransactionMut<'_>) -> T,
    ) -> Option<T> {
        let known = self.doc.transact().state_vector();
        let split = update.split(|client| known.get(&ClientID::new(client)));
        let (ready, early) = match &split {
            Some((ready, early)) => {
                // What waits is passed on, too: all of it can be read.
                update.decode()?;
                (Update::new(ready)?, &**early)
            }
            None => (update, &[][..]),
        };
        let decoded = ready.decode()?;
        let done = caught(|| {
            let mut txn = self.doc.transact_mut();
            txn.apply_update(decoded).ok()?;
            txn.commit();
            Some(then(&mut txn))
        });
        self.waiting.extend_from_slice(early);
        done.flatten()
    }

    /// Applies what has waited for what is known now.
    fn settle(&mut self) -> Option<()> {
        while !self.waiting.is_empty() {
            let known = self.doc.transact().state_vector();
            let is_due = |early: &Early| early.clock <= known.get(&ClientID::new(early.client));
            let Some(at) = self.waiting.iter().position(is_due) else { break };
            let early = self.waiting.swap_remove(at);
            self.step(Update::new(&early.bytes)?, |_| ())?;
        }
        Some(())
    }
}

/// Calls yrs, which may panic at forged updates.
fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).ok()
}

#[cfg(test)]
mod tests {
    use yrs::{GetString, OffsetKind, Options, Text};

    use super::*;

    fn replica() -> Replica {
        let options = Options::with_client_id(ClientID::new(99));
        Replica::new(Doc::with_options(Options { offset_kind: OffsetKind::Utf16, ..options }))
    }

    fn text(replica: &Replica) -> String {
        replica.doc.get_or_insert_text("t").get_string(&replica.doc.transact())
    }

    /// An update of client 7 that begins at a clock, with texts at the beginning of "t" that depend on nothing.
    fn forged(clock: u8, texts: &[&str]) -> Vec<u8> {
        let mut bytes = vec![1, texts.len() as u8, 7, clock];
        for text in texts {
            bytes.extend([4, 1, 1, b't', text.len() as u8]);
            bytes.extend(text.as_bytes());
        }
        bytes.push(0);
        bytes
    }

    fn apply(replica: &mut Replica, bytes: &[u8]) -> bool {
        replica.apply(Update::new(bytes).expect("an update"))
    }

    #[test]
    fn what_lies_behind_a_gap_waits_until_it_is_filled() {
        let mut replica = replica();
        assert!(apply(&mut replica, &forged(5, &["later"])));
        assert_eq!((text(&replica).as_str(), replica.waiting.len()), ("", 1));
        let vector = replica.doc.transact().state_vector();
        assert_eq!(vector.get(&ClientID::new(7)), 0);
        // Who joins gets it, and it survives a snapshot.
        let all = replica.beyond(&StateVector::default());
        let mut other = self::replica();
        assert!(apply(&mut other, &all));
        for replica in [&mut replica, &mut other] {
            assert!(apply(replica, &forged(0, &["first"])));
            assert_eq!(text(replica).len(), 10);
            assert!(replica.waiting.is_empty());
        }
        assert_eq!(text(&replica), text(&other));
    }

    /// yrs alone reads what it has freed at the last of these.
    #[test]
    fn an_update_that_overlaps_the_end_of_a_gap_does_not_meet_one() {
        let mut replica = replica();
        for (clock, texts) in [(5, &["later"][..]), (20, &["last"]), (0, &["0123456789"])] {
            assert!(apply(&mut replica, &forged(clock, texts)));
        }
        assert_eq!(text(&replica), "0123456789", "what is known of the second is not known twice");
        assert_eq!(replica.waiting.len(), 1);
        let merged = replica.merge(Update::new(&forged(30, &["x"])).unwrap()).unwrap();
        assert!(merged.is_waiting && replica.waiting.len() == 2);
        assert!(apply(&mut replica, &forged(8, &["89abcdefghijklmnopqrst"])));
        assert_eq!(replica.doc.transact().state_vector().get(&ClientID::new(7)), 31);
    }

    #[test]
    fn what_cannot_be_read_does_not_wait() {
        let mut replica = replica();
        let mut bytes = forged(5, &["later"]);
        let name = bytes.iter().position(|byte| *byte == b't').unwrap();
        bytes[name] = 0xff;
        assert!(!apply(&mut replica, &bytes));
        assert!(replica.waiting.is_empty());
    }

    #[test]
    fn honest_updates_in_any_order_end_as_one_document() {
        let doc = Doc::with_client_id(7);
        let shared = doc.get_or_insert_text("t");
        let mut updates = Vec::new();
        for (at, text) in [(0, "a🎈"), (1, "bc"), (0, "d"), (3, "é")] {
            let mut txn = doc.transact_mut();
            shared.insert(&mut txn, at, text);
            updates.push(txn.encode_update_v1());
        }
        let whole = shared.get_string(&doc.transact());
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let mut replica = replica();
            for at in order {
                assert!(apply(&mut replica, &updates[at]));
            }
            assert_eq!((text(&replica), replica.waiting.len()), (whole.clone(), 0), "{order:?}");
        }
    }
}
