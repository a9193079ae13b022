use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::holder::{
    EVERYTHING, Holder, address, apply, assert_rows, bytes, cleared, deletes, expect_scan,
    odd_keys, puts, row,
};
use crate::{Backend, Batch, Epoch, KeyRange, RoomAddress};

/// Line 1: no call for one room reads or changes a row of another room, even if their names are similar.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::separation(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line.
pub async fn separation<B: Backend + ?Sized>(backend: &B) {
    let rooms = similar_rooms();
    let keys = odd_keys();
    let own = |room: &RoomAddress| puts(keys.iter().map(|key| (key, format!("{room:?}"))));
    let check = async |emptied: &[&RoomAddress]| {
        for room in &rooms {
            let rows = Holder::with_epoch(backend, room, Epoch(0));
            let expected: Vec<_> = match emptied.contains(&room) {
                true => Vec::new(),
                false => keys.iter().map(|key| row(key, format!("{room:?}"))).collect(),
            };
            let broken = format!("contract line 1 (rooms are separate): of {room:?}");
            assert_rows(&rows.rows().await, &expected, &broken);
            let values = rows.read(&keys).await;
            let read = keys.iter().cloned().zip(values).filter_map(|(k, v)| Some((k, v?)));
            assert_rows(&read.collect::<Vec<_>>(), &expected, &broken);
        }
    };

    let mut holders = Vec::new();
    for room in &rooms {
        let holder = Holder::claim(backend, room).await;
        assert!(
            holder.found_empty,
            "contract line 1 (rooms are separate): {room:?} has rows before anyone wrote any"
        );
        holder.commit(own(room)).await;
        holders.push(holder);
    }
    check(&[]).await;
    for (index, holder) in holders.iter().enumerate() {
        let empty = if index % 2 == 0 { cleared(Batch::default()) } else { deletes(&keys) };
        holder.commit(empty).await;
        check(&[&holder.room]).await;
        holder.commit(own(&holder.room)).await;
    }
    check(&[]).await;
}

/// Line 2: keys order as byte strings, and every byte string is a key.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::order(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line.
pub async fn order<B: Backend + ?Sized>(backend: &B) {
    let holder = Holder::claim(backend, &address("order", "room")).await;
    let keys = odd_keys();
    // Neither in order nor in one batch: every second key, then the others.
    for half in [1, 0] {
        let half = keys.iter().enumerate().filter(|(index, _)| index % 2 == half);
        holder.commit(puts(half.map(|(_, key)| (key, key)))).await;
    }
    let mut expected: Vec<_> = keys.iter().map(|key| row(key, key)).collect();
    assert_rows(
        &holder.rows().await,
        &expected,
        "contract line 2 (order): the rows are not in the order of their keys' bytes",
    );
    expected.reverse();
    assert_rows(
        &holder.scan(&EVERYTHING, true, usize::MAX).await,
        &expected,
        "contract line 2 (order): in reverse, the rows are not in reverse order",
    );
    for key in keys {
        holder.commit(deletes([&key])).await;
        expected.retain(|(other, _)| *other != key);
        assert_rows(
            &holder.scan(&EVERYTHING, true, usize::MAX).await,
            &expected,
            format!(
                "contract line 2 (order): deleting {:?} did not remove its row alone",
                key.get(..32).unwrap_or(&key)
            ),
        );
    }
}

/// `read` answers in the order of its keys, and any bytes can be a value.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::reads(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend does otherwise.
pub async fn reads<B: Backend + ?Sized>(backend: &B) {
    let holder = Holder::claim(backend, &address("reads", "room")).await;
    assert_eq!(holder.read(&[]).await, [], "a read of nothing");
    assert_eq!(holder.read(&[bytes("a")]).await, [None], "a read in an empty room");

    // The longest value that core lets a user store.
    let longest = vec![0xA5; 2_000_000];
    let every_byte: Vec<u8> = (0..=255).collect();
    holder.commit(puts([("a", &b"1"[..]), ("b", b""), ("c", &every_byte), ("d", &longest)])).await;
    let asked = ["c", "x", "a", "b", "c", "", "a"].map(bytes);
    let found = [
        Some(bytes(&every_byte)),
        None,
        Some(bytes("1")),
        Some(Bytes::new()),
        Some(bytes(&every_byte)),
        None,
        Some(bytes("1")),
    ];
    assert_eq!(
        holder.read(&asked).await,
        found,
        "a read answers key by key; an empty value is a value, and a missing key has no value"
    );
    let found = holder.read(&[bytes("d")]).await;
    assert!(found == [Some(bytes(&longest))], "a value of 2,000,000 bytes comes back as it was");

    let many: Vec<_> = (0..1000_u32).map(|n| bytes(n.to_be_bytes())).collect();
    holder.commit(puts(many.iter().map(|key| (key, key)))).await;
    let found: Vec<_> = many.iter().cloned().map(Some).collect();
    assert_eq!(holder.read(&many).await, found, "a read of 1,000 keys");
}

/// `scan` with every combination of bounds, both directions, and limits around the number of rows.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::ranges(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend finds other rows.
pub async fn ranges<B: Backend + ?Sized>(backend: &B) {
    let holder = Holder::claim(backend, &address("ranges", "room")).await;
    assert_rows(&holder.rows().await, &[], "a scan of an empty room");

    // Every second one is stored, so that bounds lie on rows, between them and around them.
    let keys =
        [&b""[..], b"\x00", b"a", b"a\x00", b"b", b"\xFE\xFF", b"\xFF", b"\xFF\xFF"].map(bytes);
    for stored in [0, 1] {
        let batch = puts(keys.iter().skip(stored).step_by(2).map(|key| (key, key)));
        let mut model = BTreeMap::new();
        apply(&mut model, &batch);
        holder.commit(cleared(batch)).await;
        for range in every_range(&keys) {
            for (reverse, limit) in
                [false, true].into_iter().flat_map(|it| [0, 1, 2, 4, usize::MAX].map(|n| (it, n)))
            {
                let broken = format!(
                    "contract line 2 (order): a scan of {range:?}, reverse: {reverse}, limit: {limit}"
                );
                let expected = expect_scan(&model, &range, reverse, limit);
                assert_rows(&holder.scan(&range, reverse, limit).await, &expected, broken);
            }
        }
    }

    let many: Vec<_> = (0..3000_u32).map(|n| row(n.to_be_bytes(), "v")).collect();
    holder.commit(cleared(puts(many.iter().cloned()))).await;
    for limit in [2999, 3000, 3001, usize::MAX] {
        let found = holder.scan(&EVERYTHING, false, limit).await;
        let broken = format!("a scan of 3,000 rows with limit {limit}");
        assert_rows(&found, &many[..limit.min(3000)], broken);
    }
}

/// Line 3 without failures: the whole batch is applied, its `clear` first.
///
/// ```
/// use partykit_core::{MemoryBackend, conformance::storage};
///
/// futures_executor::block_on(storage::batches(&MemoryBackend::default()));
/// ```
///
/// # Panics
///
/// When the backend breaks this line.
pub async fn batches<B: Backend + ?Sized>(backend: &B) {
    let holder = Holder::claim(backend, &address("batches", "room")).await;
    let mixed = |puts: &[(&str, &str)], deletes: &[&str]| Batch {
        writes: (puts.iter().map(|(key, value)| (bytes(key), Some(bytes(value)))))
            .chain(deletes.iter().map(|key| (bytes(key), None)))
            .collect(),
        ..Batch::default()
    };
    let steps = [
        ("nothing", Batch::default()),
        ("deletes of what is not there", mixed(&[], &["a", ""])),
        ("puts", mixed(&[("a", "1"), ("b", "1"), ("c", "1")], &[])),
        ("nothing again", Batch::default()),
        ("a put over a row, a put, a delete", mixed(&[("a", "2"), ("d", "2")], &["b"])),
        ("a clear and puts", cleared(mixed(&[("a", "3"), ("e", "3")], &[]))),
        ("a clear and deletes", cleared(mixed(&[("f", "4")], &["a", "x"]))),
        ("a put", mixed(&[("a", "5")], &[])),
        ("a clear", cleared(Batch::default())),
        ("a clear of nothing", cleared(Batch::default())),
        ("a put after it", mixed(&[("a", "6")], &[])),
        ("the last delete", mixed(&[], &["a"])),
        ("2,000 puts", puts((0..2000_u32).map(|n| (n.to_be_bytes(), "v")))),
        ("2,000 deletes", deletes((0..2000_u32).map(u32::to_be_bytes))),
    ];
    let mut model = BTreeMap::new();
    for (name, batch) in steps {
        apply(&mut model, &batch);
        holder.commit(batch).await;
        let expected = expect_scan(&model, &EVERYTHING, false, usize::MAX);
        let broken = format!("contract line 3 (commits): after a batch of {name}");
        assert_rows(&holder.rows().await, &expected, broken);
    }
}

/// Rooms whose names run into each other when they are joined, cut, folded or normalised.
fn similar_rooms() -> Vec<RoomAddress> {
    let long = "x".repeat(1023);
    let names = [
        ("a", "b"),
        ("a", "bc"),
        ("ab", "c"),
        ("a", "b/c"),
        ("a/b", "c"),
        ("a", "b:c"),
        ("a:b", "c"),
        ("a", "b\0c"),
        ("a\0b", "c"),
        ("a", "b\0"),
        ("a", "\0b"),
        ("b", "a"),
        ("A", "b"),
        ("a", "B"),
        ("a", " b"),
        ("a", "b "),
        ("a", "%62"),
        ("a", ".."),
        ("a", "../a/b"),
        ("a", "é"),
        ("a", "e\u{301}"),
        ("a", "\u{10FFFF}"),
        ("a", &format!("{long}x")),
        ("a", &format!("{long}y")),
        ("a", &long),
    ];
    names.map(|(party, room)| address(&format!("separation-{party}"), room)).into()
}

fn every_range(keys: &[Bytes]) -> Vec<KeyRange> {
    let bounds: Vec<_> = (keys.iter())
        .flat_map(|key| [Bound::Included(key.clone()), Bound::Excluded(key.clone())])
        .chain([Bound::Unbounded])
        .collect();
    let ranges =
        bounds.iter().flat_map(|start| bounds.iter().map(|end| (start.clone(), end.clone())));
    ranges.collect()
}
