//! Documents in documents, as yrs may hold them.
//!
//! yrs reads what it has freed when such a document is deleted with what it stands in, and never frees a document
//! that has one. A room has no use for them: it only passes on that they are there. So an embedded value stands for
//! each in yrs. This can go when both are mended in a later version than 0.28.

use std::borrow::Cow;

use yrs::encoding::write::Write;

use crate::scan::{self, Special};

/// The only key of the value that stands for a document. No client may write it.
pub(crate) const KEY: &str = "partykit-yjs:document";

/// The kinds of content.
const EMBED: u8 = 5;
const DOCUMENT: u8 = 9;

/// An update as yrs may have it.
pub(crate) fn inward(update: &[u8]) -> Cow<'_, [u8]> {
    rewritten(update, |special, content| {
        let Special::Document = special else { return None };
        let digits: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut embed = Vec::new();
        embed.write_string(&serde_json::json!({ KEY: digits }).to_string());
        Some((EMBED, embed))
    })
}

/// An update of yrs as clients have it.
pub(crate) fn outward(update: &[u8]) -> Cow<'_, [u8]> {
    rewritten(update, |special, _| {
        let Special::Standing(digits) = special else { return None };
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        let document = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok());
        Some((DOCUMENT, document.collect::<Option<Vec<u8>>>()?))
    })
}

/// What stands for a document, if this JSON does.
pub(crate) fn standing(json: &[u8]) -> Option<String> {
    match serde_json::from_slice(json).ok()? {
        serde_json::Value::Object(object) => Some(object.get(KEY)?.as_str()?.to_owned()),
        _ => None,
    }
}

/// Replaces contents. `replace` gets what is special in one and its bytes, and returns another kind and its bytes.
fn rewritten(
    update: &[u8],
    replace: impl Fn(&Special, &[u8]) -> Option<(u8, Vec<u8>)>,
) -> Cow<'_, [u8]> {
    let mut bytes = Vec::new();
    let mut done = 0;
    for content in scan::contents(update) {
        let Some((kind, other)) = replace(&content.special, &update[content.range.clone()]) else {
            continue;
        };
        bytes.extend_from_slice(&update[done..content.info]);
        bytes.push(update[content.info] & 0xf0 | kind);
        bytes.extend_from_slice(&update[content.info + 1..content.range.start]);
        bytes.extend_from_slice(&other);
        done = content.range.end;
    }
    if done == 0 {
        return Cow::Borrowed(update);
    }
    bytes.extend_from_slice(&update[done..]);
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use yrs::{Array, ArrayPrelim, Doc, ReadTxn, StateVector, Transact};

    use super::*;
    use crate::{replica::Replica, scan::Update};

    /// A list with a list that has a document in it, and how the inner list is deleted.
    fn nested() -> [Vec<u8>; 2] {
        let doc = Doc::with_client_id(7);
        let outer = doc.get_or_insert_array("a");
        {
            let mut txn = doc.transact_mut();
            let inner = outer.push_back(&mut txn, ArrayPrelim::default());
            inner.push_back(&mut txn, Doc::with_client_id(5));
        }
        let before = doc.transact().encode_state_as_update_v1(&StateVector::default());
        let mut txn = doc.transact_mut();
        outer.remove(&mut txn, 0);
        [before, txn.encode_update_v1()]
    }

    fn apply(replica: &mut Replica, bytes: &[u8]) {
        assert!(replica.apply(Update::new(bytes).expect("an update")));
    }

    #[test]
    fn a_document_comes_out_as_it_was_and_yrs_has_none() {
        let [bytes, _] = nested();
        let inner = inward(&bytes);
        assert_ne!(*inner, *bytes);
        assert_eq!(outward(&inner), bytes);
        let mut replica = Replica::new(99);
        apply(&mut replica, &bytes);
        assert_eq!(replica.doc.transact().subdocs().count(), 0);
        assert_eq!(replica.beyond(&StateVector::default()), bytes);
        let merged = Replica::new(98).merge(Update::new(&bytes).unwrap());
        assert_eq!(merged.unwrap().news, bytes);
    }

    /// With a document in yrs, this reads what was freed. Only a sanitizer sees that, or that one is never freed.
    #[test]
    fn a_document_goes_with_what_it_stands_in() {
        let mut replica = Replica::new(99);
        nested().iter().for_each(|bytes| apply(&mut replica, bytes));
        assert_eq!(replica.doc.get_or_insert_array("a").len(&replica.doc.transact()), 0);
    }

    #[test]
    fn no_client_writes_what_stands_for_a_document() {
        let embed = |json: &str| {
            let mut bytes = vec![1, 1, 7, 0, 5, 1, 1, b'a'];
            bytes.write_string(json);
            bytes.push(0);
            bytes
        };
        assert!(Update::new(&embed(r#"{"image":"00"}"#)).is_some());
        for json in [r#"{"partykit-yjs:document":"00"}"#, r#"{ "partykit-yjs:d\u006fcument": "" }"#]
        {
            assert!(Update::new(&embed(json)).is_none());
        }
    }
}
