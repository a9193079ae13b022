//! The document in memory, and the changes that came too early for it.
//!
//! yrs applies a change of a client before that client's earlier ones, if it depends on none of them, and leaves a
//! gap. An update that overlaps the far end of a gap then makes yrs use memory that it has freed. No client of Yjs
//! makes such an update, but an attacker may forge one. So what lies behind a gap waits here until the gap is filled, as it
//! does in Yjs. This can go when a later version of yrs than 0.28 leaves no gap: when the tests below and the fuzz
//! target `document_frame` pass without `split`.

use std::{borrow::Cow, collections::BTreeMap, panic::AssertUnwindSafe};

use yrs::{
    ClientID, Doc, ID, IdSet, OffsetKind, Options, ReadTxn, StateVector, Transact, TransactionMut,
    merge_updates_v1, updates::encoder::Encode,
};

use crate::{
    collect::collected,
    scan::{Early, Update},
    subdocs::{inward, outward},
};

/// A document, and what waits for it.
pub(crate) struct Replica {
    pub(crate) doc: Doc,
    /// By client. One piece each: what waits for what does not take longer the more messages it came in.
    early: BTreeMap<u64, Early>,
    /// The nested types, deleted ones included.
    types: IdSet,
}

/// What came of an update.
pub(crate) struct Merged {
    /// What was new in it.
    pub(crate) news: Vec<u8>,
    /// A part of it waits for changes that have not arrived. `news` does not have it.
    pub(crate) is_waiting: bool,
}

impl Replica {
    /// An empty document, for changes of this client.
    pub(crate) fn new(client: u64) -> Self {
        let options = Options {
            // Yjs counts in UTF-16 units.
            offset_kind: OffsetKind::Utf16,
            // The collector is unsafe for nested types: see `collect`. `step` has it take the rest.
            skip_gc: true,
            ..Options::with_client_id(ClientID::new(client))
        };
        Self { doc: Doc::with_options(options), early: BTreeMap::new(), types: IdSet::new() }
    }

    /// Applies an update, and what has waited for it. Returns whether it worked. If not, this must not be used any
    /// more.
    pub(crate) fn apply(&mut self, update: Update<'_>) -> bool {
        let inner = inward(update.bytes);
        let Some(update) = Update::inner(&inner) else { return false };
        self.step(update, |_| ()).is_some() && self.settle().is_some()
    }

    /// The same, and says what was new.
    pub(crate) fn merge(&mut self, update: Update<'_>) -> Option<Merged> {
        let inner = inward(update.bytes);
        let update = Update::inner(&inner)?;
        let before = self.waiting();
        let news = self.step(update, |txn| txn.encode_update_v1())?;
        // What has waited before may wait for ever, and is no reason to take all of each update for new.
        let after = self.waiting();
        let is_waiting = after.is_none() || after != before;
        self.settle()?;
        Some(Merged { news: outward(&collected(&news)).into_owned(), is_waiting })
    }

    /// What the document has beyond a state vector, and the changes that wait for others. A change that no client of
    /// Yjs makes may wait in a form that yrs does not read back. Then the answer is without the changes that wait.
    /// (`encode_state_as_update_v1` panics there, and each join would fail.)
    pub(crate) fn beyond(&self, vector: &StateVector) -> Vec<u8> {
        self.written(vector).0
    }

    /// The whole document, and whether this has more than it in memory: what was deleted.
    pub(crate) fn snapshot(&self) -> (Vec<u8>, bool) {
        self.written(&StateVector::default())
    }

    fn written(&self, vector: &StateVector) -> (Vec<u8>, bool) {
        let all = self.doc.transact().encode_diff_v1(vector);
        let shown = collected(&all);
        let is_less = matches!(shown, Cow::Owned(_));
        let waiting = self.waiting().unwrap_or_default();
        if waiting.is_empty() {
            return (outward(&shown).into_owned(), is_less);
        }
        let shown = shown.into_owned();
        let all = [shown.clone()].into_iter().chain(waiting);
        let all = caught(|| merge_updates_v1(all).ok()).flatten().unwrap_or(shown);
        (outward(&all).into_owned(), is_less)
    }

    /// What waits, as updates. `None` if yrs cannot write it.
    pub(crate) fn waiting(&self) -> Option<Vec<Vec<u8>>> {
        let txn = self.doc.transact();
        let store = txn.store();
        let early = || Early::update(self.early.values());
        caught(|| {
            let changes = store.pending_update().map(|pending| pending.update.encode_v1());
            // An update of no client, and what is deleted.
            let deleted = store.pending_ds().map(|deleted| [vec![0], deleted.encode_v1()].concat());
            let early = (!self.early.is_empty()).then(early);
            [changes, deleted, early].into_iter().flatten().collect()
        })
    }

    /// Applies the part of an update that leaves no gap. The rest waits.
    fn step<T>(
        &mut self,
        update: Update<'_>,
        then: impl FnOnce(&mut TransactionMut<'_>) -> T,
    ) -> Option<T> {
        let known = self.doc.transact().state_vector();
        for (client, clock) in update.type_ids() {
            let client = ClientID::new(client);
            // Others are known already, no matter what this says of them.
            if clock >= known.get(&client) {
                self.types.insert(ID::new(client, clock), 1);
            }
        }
        let split = update.split(|client| known.get(&ClientID::new(client)));
        let (ready, early) = match &split {
            Some((ready, early)) => {
                // What waits is passed on, too: all of it can be read.
                update.decode()?;
                (Update::inner(ready)?, &**early)
            }
            None => (update, &[][..]),
        };
        let decoded = ready.decode()?;
        let done = caught(|| {
            let mut txn = self.doc.transact_mut();
            txn.apply_update(decoded).ok()?;
            // Before yrs joins what was deleted: joining many texts copies each again and again.
            let values = txn.delete_set().diff(&self.types);
            txn.gc(Some(&values));
            txn.commit();
            Some(then(&mut txn))
        });
        for early in early {
            let joined = match self.early.get(&early.client) {
                Some(other) => caught(|| other.join(early)).flatten()?,
                None => early.clone(),
            };
            self.early.insert(early.client, joined);
        }
        done.flatten()
    }

    /// Applies what has waited for what is known now.
    fn settle(&mut self) -> Option<()> {
        while !self.early.is_empty() {
            let known = self.doc.transact().state_vector();
            let is_due = |early: &&Early| early.clock <= known.get(&ClientID::new(early.client));
            let due: Vec<Early> = self.early.values().filter(is_due).cloned().collect();
            if due.is_empty() {
                break;
            }
            due.iter().for_each(|early| drop(self.early.remove(&early.client)));
            let update = Early::update(due.iter());
            self.step(Update::inner(&update)?, |_| ())?;
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
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use proptest::{collection::vec, prelude::*, sample::Index};
    use yrs::{GetString, Text, encoding::write::Write};

    use super::*;

    fn replica() -> Replica {
        Replica::new(99)
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
        assert_eq!((text(&replica).as_str(), replica.early.len()), ("", 1));
        let vector = replica.doc.transact().state_vector();
        assert_eq!(vector.get(&ClientID::new(7)), 0);
        // Who joins gets it, and it survives a snapshot.
        let all = replica.beyond(&StateVector::default());
        let mut other = self::replica();
        assert!(apply(&mut other, &all));
        for replica in [&mut replica, &mut other] {
            assert!(apply(replica, &forged(0, &["first"])));
            assert_eq!(text(replica).len(), 10);
            assert!(replica.early.is_empty());
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
        assert_eq!(replica.early[&7].clock, 20);
        let merged = replica.merge(Update::new(&forged(30, &["x"])).unwrap()).unwrap();
        assert!(merged.is_waiting && replica.early.len() == 1);
        let again = replica.merge(Update::new(&forged(30, &["x"])).unwrap()).unwrap();
        assert!(!again.is_waiting && Update::new(&again.news).unwrap().is_empty(), "it has waited");
        assert!(apply(&mut replica, &forged(8, &["89abcdefghijklmnopqrst"])));
        assert_eq!(replica.doc.transact().state_vector().get(&ClientID::new(7)), 31);
    }

    /// A change of client 7 at clock 0, one at clock 5, and what it says is missing in between.
    #[test]
    fn what_lies_behind_a_gap_within_an_update_waits_too() {
        let mut replica = replica();
        let text_of = |letter: u8| [4, 1, 1, b't', 1, letter];
        let update = [&[1, 3, 7, 0][..], &text_of(b'a'), &[10, 4], &text_of(b'f'), &[0]].concat();
        let merged = replica.merge(Update::new(&update).unwrap()).unwrap();
        assert!(merged.is_waiting);
        assert_eq!((text(&replica).as_str(), replica.early[&7].clock), ("a", 5));
        assert!(apply(&mut replica, &forged(1, &["bcde"])));
        assert_eq!((text(&replica).len(), replica.early.len()), (6, 0));
        let again = replica.merge(Update::new(&update).unwrap()).unwrap();
        assert!(!again.is_waiting && Update::new(&again.news).unwrap().is_empty(), "it is known");
    }

    /// One filled gap after another would take hours for as many clients as a message holds.
    #[test]
    fn many_clients_whose_gaps_are_filled_at_once_are_applied_at_once() {
        const CLIENTS: u32 = 3000;
        let update = |clock: u32| {
            let mut bytes = Vec::new();
            bytes.write_var(CLIENTS);
            for client in 0..CLIENTS {
                bytes.write_var(1_u32);
                bytes.write_var(1000 + client);
                bytes.write_var(clock);
                // Something that was collected, one long.
                bytes.extend([0, 1]);
            }
            bytes.push(0);
            bytes
        };
        let mut replica = replica();
        let known = |replica: &Replica| {
            let vector = replica.doc.transact().state_vector();
            vector.iter().map(|(_, clock)| *clock).sum::<u32>()
        };
        let commits = Arc::new(AtomicUsize::new(0));
        let count = commits.clone();
        let counting = move |_: &mut TransactionMut<'_>| {
            count.fetch_add(1, Ordering::SeqCst);
        };
        replica.doc.observe_after_transaction("count", counting).unwrap();
        assert!(apply(&mut replica, &update(1)));
        assert_eq!(known(&replica), 0);
        assert!(apply(&mut replica, &update(0)));
        assert_eq!((known(&replica), replica.early.len()), (2 * CLIENTS, 0));
        assert!(commits.load(Ordering::SeqCst) <= 8, "{commits:?} transactions");
    }

    #[test]
    fn what_waits_in_many_messages_waits_in_one_piece() {
        let mut replica = replica();
        for clock in (2..60).step_by(2).chain((3..60).step_by(2)) {
            assert!(apply(&mut replica, &forged(clock, &["x"])));
            assert_eq!(replica.early.len(), 1);
        }
        assert!(apply(&mut replica, &forged(0, &["ab"])));
        assert_eq!((text(&replica).len(), replica.early.len()), (60, 0));
    }

    /// What waits for changes of another client waits in yrs itself.
    #[test]
    fn what_waits_for_ever_makes_no_other_update_new() {
        let mut replica = replica();
        let later = [1, 1, 8, 0, 0x84, 7, 0, 1, b'z', 0];
        assert!(replica.merge(Update::new(&later).unwrap()).unwrap().is_waiting);
        let other = [1, 1, 9, 0, 4, 1, 1, b't', 1, b'a', 0];
        for (update, is_new) in [(&other[..], true), (&other, false), (&later, false)] {
            let merged = replica.merge(Update::new(update).unwrap()).unwrap();
            assert!(!merged.is_waiting);
            assert_eq!(!Update::new(&merged.news).unwrap().is_empty(), is_new);
        }
    }

    #[test]
    fn what_cannot_be_read_does_not_wait() {
        let mut replica = replica();
        let mut bytes = forged(5, &["later"]);
        let name = bytes.iter().position(|byte| *byte == b't').unwrap();
        bytes[name] = 0xff;
        assert!(!apply(&mut replica, &bytes));
        assert!(replica.early.is_empty());
    }

    /// What two clients type and delete, each with half of what the other does, in one update for each change.
    fn typed(changes: &[(bool, u8, bool)]) -> (Vec<Vec<u8>>, String) {
        let docs = [7, 8].map(Doc::with_client_id);
        let give = |from: &Doc, to: &Doc| {
            let all = from.transact().encode_state_as_update_v1(&StateVector::default());
            to.transact_mut().apply_update(Update::new(&all).unwrap().decode().unwrap()).unwrap();
        };
        let mut updates = Vec::new();
        for (n, (is_second, at, deletes)) in changes.iter().enumerate() {
            let doc = &docs[usize::from(*is_second)];
            let shared = doc.get_or_insert_text("t");
            let mut txn = doc.transact_mut();
            let length = shared.len(&txn);
            let at = u32::from(*at) % (length + 1);
            match deletes {
                true if at < length => shared.remove_range(&mut txn, at, 1),
                _ => shared.insert(&mut txn, at, "abc"),
            }
            updates.push(txn.encode_update_v1());
            drop(txn);
            if n % 2 == 0 {
                give(doc, &docs[usize::from(!is_second)]);
            }
        }
        give(&docs[1], &docs[0]);
        let text = docs[0].get_or_insert_text("t").get_string(&docs[0].transact());
        (updates, text)
    }

    proptest! {
        /// Some come twice, and now and then the document is stored and read again.
        #[test]
        fn honest_updates_in_any_order_end_as_one_document(
            changes in vec(any::<(bool, u8, bool)>(), 1..12),
            order in vec((any::<Index>(), proptest::bool::weighted(0.2)), 0..30),
        ) {
            let (updates, whole) = typed(&changes);
            let mut replica = replica();
            let mut left: Vec<_> = (0..updates.len()).collect();
            for (at, is_stored) in order {
                let at = at.index(updates.len());
                left.retain(|other| *other != at);
                prop_assert!(apply(&mut replica, &updates[at]));
                if is_stored {
                    let stored = replica.beyond(&StateVector::default());
                    replica = self::replica();
                    prop_assert!(apply(&mut replica, &stored));
                }
            }
            for at in left.into_iter().rev() {
                prop_assert!(apply(&mut replica, &updates[at]));
            }
            prop_assert_eq!(text(&replica), whole);
            prop_assert_eq!(replica.waiting(), Some(Vec::new()));
        }
    }
}
