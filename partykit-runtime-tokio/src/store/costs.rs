//! What things cost in the tree, counted and not timed: keys that are looked at, rows and bytes that are
//! written.

use std::{ops::Bound, sync::Arc};

use super::{
    collect, gaps, keys,
    listing::Listing,
    model::{all, open, room},
    reading::Read,
    replay::Mark,
    rows::Step,
    tree::Tree,
};

fn queue_key(n: u64) -> Vec<u8> {
    [&keys::rows(&room(0), keys::Generation(0))[..], &n.to_be_bytes()].concat()
}

/// How many keys are looked at for the first row of room 0.
fn first(tree: &Arc<Tree>) -> u64 {
    let prefix = keys::rows(&room(0), keys::Generation(0));
    let mut end = prefix.clone();
    end.push(u8::MAX);
    let mut rows = tree.snapshot().range((Bound::Included(prefix), Bound::Excluded(end)), false);
    loop {
        match rows.step().unwrap() {
            Step::Row(..) | Step::End => return rows.looked_at,
            Step::Nothing => {}
        }
    }
}

#[test]
fn a_queue_stays_as_fast_as_it_was_after_many_pops() {
    let pops = std::env::var("STORE_QUEUE_POPS").ok().and_then(|pops| pops.parse().ok());
    let pops = pops.unwrap_or(60_000_u64);
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    let mut most = 0;
    for n in 0..pops {
        let (pushed, popped) = (queue_key(n + 10), queue_key(n));
        tree.change([(&pushed[..], Some(&b"message"[..])), (&popped[..], None)].into_iter());
        // As a server does that looks at its queue now and then.
        if n % 16 == 0 {
            most = most.max(first(&tree));
        }
        if n % 15_000 == 14_999 {
            tree.seal(Mark { number: n, file: n });
            tree.flush().unwrap();
            while tree.merge().unwrap() {}
        }
    }
    assert!(most <= 3 * u64::from(gaps::WORTH), "{most} keys for the first row");
    assert!(tree.files().rows() < 500, "{:?} rows in the files", tree.files().rows());

    // And one that was not looked at: the first look pays, the next does not.
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    for n in 0..5_000 {
        let (pushed, popped) = (queue_key(n + 10), queue_key(n));
        tree.change([(&pushed[..], Some(&b"message"[..])), (&popped[..], None)].into_iter());
    }
    assert!(first(&tree) > 4_000, "there is nothing to skip");
    assert!(first(&tree) <= 3);
}

#[test]
fn a_stack_and_an_empty_room_are_fast_from_both_ends() {
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    let keys: Vec<_> = (0..3_000).map(queue_key).collect();
    tree.change(keys.iter().map(|key| (&key[..], Some(&b"v"[..]))));
    tree.change(keys.iter().map(|key| (&key[..], None)));
    let range = || (Bound::Included(queue_key(0)), Bound::Included(queue_key(u64::MAX)));
    let (rows, looked_at) = all(&tree.snapshot(), range(), true);
    assert_eq!((rows.len(), looked_at), (0, 3_000));
    for reverse in [true, false] {
        let (rows, looked_at) = all(&tree.snapshot(), range(), reverse);
        assert!(rows.is_empty() && looked_at <= 2, "{looked_at}");
    }
    // Rows that come into the gap are found, from either end.
    let (low, high) = (queue_key(7), queue_key(2_000));
    tree.change([(&low[..], Some(&b"v"[..])), (&high[..], Some(&b"v"[..]))].into_iter());
    for reverse in [true, false] {
        let (rows, looked_at) = all(&tree.snapshot(), range(), reverse);
        assert_eq!(rows.len(), 2);
        assert!(looked_at <= 3_000);
    }
}

#[test]
fn listing_rooms_costs_the_same_however_many_rows_they_have() {
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    let rooms = 40;
    for n in 0..rooms {
        let generation = keys::Generation((n % 2) as u64);
        for (part, generation) in [keys::Generation(0), generation].into_iter().enumerate() {
            let prefix = keys::rows(&room(n), generation);
            let keys: Vec<_> =
                (0..300_u32).map(|n| [&prefix[..], &n.to_be_bytes()].concat()).collect();
            tree.change(keys.iter().map(|key| (&key[..], Some(&b"v"[..]))));
            if n < 30 {
                let number = (n * 2 + part) as u64;
                tree.seal(Mark { number, file: number });
                tree.flush().unwrap();
            }
        }
        if n % 2 == 1 {
            let cleared = (keys::generation(&room(n)), generation.print());
            tree.change([(&cleared.0[..], Some(&cleared.1[..]))].into_iter());
        }
    }
    let mut listing = Listing::new(tree.snapshot(), room(0).party(), None, usize::MAX).unwrap();
    let mut steps = 0;
    let found = loop {
        steps += 1;
        if let Some(found) = listing.step().unwrap() {
            break found;
        }
    };
    assert_eq!(found.len(), rooms);
    // A row, one of an earlier generation, and to give the room out.
    assert!(steps <= 3 * rooms + 3, "{steps} steps for {rooms} rooms of 300 rows");
}

#[test]
fn clearing_a_room_is_one_row_and_gives_the_disk_back() {
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    let value = vec![7; 1_000];
    for part in 0..20 {
        let keys: Vec<_> = (0..1_000).map(|n| queue_key(part * 1_000 + n)).collect();
        tree.change(keys.iter().map(|key| (&key[..], Some(&value[..]))));
        tree.seal(Mark { number: part, file: part });
        tree.flush().unwrap();
        while tree.merge().unwrap() {}
    }
    let before = tree.files().size();
    assert!(before > 15_000_000, "{before}");
    let looks = tree.snapshot();

    let generation = keys::Generation(99);
    tree.change([(&keys::generation(&room(0))[..], Some(&generation.print()[..]))].into_iter());
    assert!(tree.in_memory() < 200, "{} bytes for a room of 20 MB", tree.in_memory());
    let prefix = keys::rows(&room(0), tree.snapshot().generation(&room(0)).unwrap());
    let end = [&prefix[..], &[u8::MAX]].concat();
    let range = (Bound::Included(prefix), Bound::Excluded(end));
    assert_eq!(all(&tree.snapshot(), range, false), (Vec::new(), 0));
    // Until it is in a file, nothing goes: the log may not have it durably.
    collect::tidy(&tree, &|| false).unwrap();
    assert_eq!(tree.files().size(), before);

    tree.seal(Mark { number: 99, file: 99 });
    tree.flush().unwrap();
    collect::tidy(&tree, &|| false).unwrap();
    assert!(tree.files().size() < 10_000, "{} bytes are left", tree.files().size());
    assert_eq!(tree.files().rows(), 2, "the generation, and the mark of the log");
    // Who looked before sees all of it still.
    let range = (Bound::Included(queue_key(0)), Bound::Included(queue_key(u64::MAX)));
    assert_eq!(all(&looks, range, false).0.len(), 20_000);
    drop(looks);
    tree.forget();
    let on_disk: u64 = std::fs::read_dir(directory.path().join("tables"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk < 20_000, "{on_disk} bytes are on the disk");
}

#[test]
fn many_small_rooms_that_were_cleared_give_the_disk_back_too() {
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    let rows = |n: usize, generation: u64| {
        let prefix = keys::rows(&room(n), keys::Generation(generation));
        (0..8).map(move |row: u8| [&prefix[..], &[row]].concat())
    };
    let value = [7; 200];
    let all_rows: Vec<_> = (0..2_000).flat_map(|n| rows(n, 0)).collect();
    tree.change(all_rows.iter().map(|key| (&key[..], Some(&value[..]))));
    tree.seal(Mark { number: 1, file: 1 });
    tree.flush().unwrap();
    let before = tree.files().size();
    // Every other one, and each of these has a new row.
    let generation = keys::Generation(5).print();
    for n in (0..2_000).step_by(2) {
        let (cleared, new) = (keys::generation(&room(n)), rows(n, 5).next().unwrap());
        tree.change(
            [(&cleared[..], Some(&generation[..])), (&new[..], Some(&b"new"[..]))].into_iter(),
        );
    }
    tree.seal(Mark { number: 5, file: 5 });
    tree.flush().unwrap();
    collect::tidy(&tree, &|| false).unwrap();
    let after = tree.files().size();
    assert!(after < before * 6 / 10, "{after} of {before} bytes");
    assert_eq!(tree.files().rows(), 1_000 * 8 + 1_000 * 2 + 1);
}

#[test]
fn many_removed_rows_are_merged_away() {
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    let keys: Vec<_> = (0..20_000).map(queue_key).collect();
    tree.change(keys.iter().map(|key| (&key[..], Some(&b"v"[..]))));
    tree.seal(Mark { number: 1, file: 1 });
    tree.flush().unwrap();
    tree.change(keys.iter().map(|key| (&key[..], None)));
    tree.seal(Mark { number: 2, file: 2 });
    tree.flush().unwrap();
    assert_eq!(tree.files().tombstones(), 20_000);
    collect::tidy(&tree, &|| false).unwrap();
    assert_eq!((tree.files().tombstones(), tree.files().rows()), (0, 1));
}

#[test]
fn a_row_that_came_and_went_is_never_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    let (gone, stays, cleared) =
        (queue_key(1), queue_key(2), keys::rows(&room(1), Default::default()));
    tree.change([(&gone[..], Some(&b"v"[..])), (&stays[..], Some(&b"v"[..]))].into_iter());
    tree.change([(&gone[..], None), (&cleared[..], Some(&b"v"[..]))].into_iter());
    let generation = keys::Generation(3).print();
    tree.change([(&keys::generation(&room(1))[..], Some(&generation[..]))].into_iter());
    tree.seal(Mark { number: 3, file: 1 });
    tree.flush().unwrap();
    assert_eq!(tree.files().rows(), 3, "one that stays, a generation, and the mark of the log");
    tree.change([(&stays[..], None)].into_iter());
    tree.seal(Mark { number: 4, file: 2 });
    tree.flush().unwrap();
    assert_eq!(tree.snapshot().get(&stays).unwrap(), None, "what a file has is hidden");
}

#[test]
fn nobody_waits_while_the_list_of_files_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let tree = open(&directory);
    let (a, b) = (queue_key(1), queue_key(2));
    tree.change([(&a[..], Some(&b"v"[..]))].into_iter());
    tree.seal(Mark { number: 1, file: 1 });
    tree.flush().unwrap();
    let snapshot = tree.snapshot();
    let (done, is_done) = std::sync::mpsc::channel();
    let of_thread = tree.clone();
    // Files are synced under this lock.
    tree.while_locked(|| {
        let thread = std::thread::spawn(move || {
            let tree = of_thread;
            assert!(snapshot.get(&a).unwrap().is_some());
            tree.change([(&b[..], Some(&b"v"[..]))].into_iter());
            tree.seal(Mark { number: 2, file: 2 });
            tree.change([(&a[..], None)].into_iter());
            assert!(tree.snapshot().get(&a).unwrap().is_none());
            assert!(tree.snapshot().get(&b).unwrap().is_some());
            assert!(first(&tree) > 0 && tree.in_memory() > 0 && tree.fresh_files() == 1);
            done.send(()).unwrap();
        });
        is_done.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        thread.join().unwrap();
    });
}
