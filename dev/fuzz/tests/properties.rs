//! The bodies of the fuzz targets on stable, with a few hundred inputs each.

use partykit_core::runtime::Attachment;
use proptest::{collection::vec, prelude::*};

/// What a URL is made of, and what it is not.
fn url() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[a-z]{1,8}",
        "[/%.?#&=+\\\\\n]{1,4}",
        "%[0-9A-Fa-f]{2}",
        "_pk=",
        "\\PC{1,8}",
        "[a-z]{200,1100}",
    ];
    (any::<u8>(), vec(part, 0..12)).prop_map(|(flags, parts)| {
        let mut bytes = vec![flags];
        bytes.extend(parts.concat().into_bytes());
        bytes
    })
}

/// The bytes of an attachment, or nearly.
fn attachment() -> impl Strategy<Value = Vec<u8>> {
    let tags = vec("[a-z]{1,9}", 0..=9);
    let state = proptest::option::of(vec(any::<u8>(), 0..50));
    let whole = (any::<u64>(), "[a-z]{1,9}", ".{0,50}", tags, state).prop_map(
        |(order, id, uri, tags, state)| Attachment { order, id, uri, tags, state }.encode(),
    );
    (whole, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    })
}

proptest! {
    #[test]
    fn attachments(bytes in prop_oneof![attachment(), vec(any::<u8>(), 0..100)]) {
        fuzz::attachment(&bytes);
    }

    #[test]
    fn route(bytes in prop_oneof![url(), vec(any::<u8>(), 0..100)]) {
        fuzz::route(&bytes);
    }

    #[test]
    fn list(bytes in vec(any::<u8>(), 0..2000)) {
        fuzz::list(&bytes);
    }

    #[test]
    fn machine(bytes in vec(any::<u8>(), 0..2000)) {
        fuzz::machine(&bytes);
    }

    #[test]
    fn document(bytes in vec(any::<u8>(), 0..600)) {
        fuzz::document(&bytes);
    }

    #[test]
    fn transports(bytes in vec(any::<u8>(), 0..400)) {
        fuzz::transports(&bytes);
    }
}
