//! A disk that is full, and has space again.
#![cfg(target_os = "linux")]

use std::{fs, path::PathBuf, process::Command, time::Duration};

use partykit_core::{Backend, Batch};
use partykit_runtime_tokio::store::{DiskBackend, Durability};
use tempfile::TempDir;
use tokio::{task::yield_now, time::timeout};

use super::support::{address, directory, puts, rows};

/// A small file system in memory, for those who may mount one.
pub(crate) struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    pub(crate) fn mount(mebibytes: usize) -> Option<Self> {
        let directory = directory();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]);
        let is_mounted = mount.arg(directory.path()).output().is_ok_and(|it| it.status.success());
        if !is_mounted {
            eprintln!("skipped: this user may not mount a file system");
        }
        is_mounted.then_some(Self { directory })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Takes the space that is left, but for so much.
    pub(crate) fn fill(&self, but: usize) {
        use std::io::Write;
        let mut file = fs::File::create(self.path("ballast")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length - but as u64).unwrap();
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_commits_and_space_mends_it() {
    let Some(disk) = SmallDisk::mount(48) else { return };
    for durability in [Durability::Durable, Durability::Relaxed] {
        let path = disk.path(&format!("{durability:?}"));
        let store = DiskBackend::open(&path, durability).unwrap();
        let room = address("room");
        let mut acknowledged = None;
        // Wherever in the way of a commit the space ends: in the log, a new file of it, the tree.
        for (round, but) in [0, 4096, 100_000, 1 << 20, 3 << 20, 6 << 20].into_iter().enumerate() {
            let claim = store.claim(&room).await.unwrap();
            let value = |n: usize| vec![(round * 40 + n) as u8; 300_000 - n];
            let commit = async |n, epoch| {
                store.commit(&room, epoch, puts([("k", value(n))])).await.map(|()| value(n))
            };
            acknowledged = Some(commit(0, claim.epoch).await.unwrap());
            disk.fill(but);
            let mut last = None;
            for n in 1..40 {
                match commit(n, claim.epoch).await {
                    Ok(value) => acknowledged = Some(value),
                    Err(error) => {
                        assert!(error.to_string().contains("No space left"), "{error}");
                        last = Some(value(n));
                        break;
                    }
                }
            }
            assert!(last.is_some() || but >= 1 << 20, "the disk is full");
            disk.free();
            let found = loop {
                match rows(&store, &room).await {
                    Ok(found) => break found,
                    Err(error) => assert!(error.to_string().contains("No space"), "{error}"),
                }
                tokio::task::yield_now().await;
            };
            let found = Some(found[0].1.to_vec());
            assert!(found == acknowledged || found == last, "round {round}");
        }
        let claim = store.claim(&room).await.unwrap();
        let batch = Batch { clear: true, ..puts([("k", "after")]) };
        store.commit(&room, claim.epoch, batch).await.unwrap();
        drop(store);
        let store = DiskBackend::open(&path, durability).unwrap();
        assert_eq!(rows(&store, &room).await.unwrap(), [("k".into(), "after".into())]);
        assert!(acknowledged.is_some());
    }
}

/// Whether it becomes so.
async fn soon(is_so: impl AsyncFn() -> bool) -> bool {
    let wait = async {
        while !is_so().await {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.is_ok()
}

/// A disk with space for what is written, and none to merge it: reads and small commits go on, nothing is
/// closed, and merging is tried again when there is space.
#[tokio::test(flavor = "multi_thread")]
async fn merging_that_does_not_fit_rests_and_rooms_go_on() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let store = DiskBackend::open(disk.path("data"), Durability::Durable).unwrap();
    let rooms: Vec<_> = (0..8).map(|n| address(n.to_string())).collect();
    let mut claims = Vec::new();
    for room in &rooms {
        claims.push(store.claim(room).await.unwrap());
    }
    // Rows that stay, in every file, so that merging them makes nothing smaller.
    let mut written = 0_usize;
    let mut is_filled = false;
    while store.stats().merges_postponed == 0 {
        let value: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let room = written % rooms.len();
        let key = format!("{written:05}");
        if written < 80 {
            let batch = puts([(key, value)]);
            store.commit(&rooms[room], claims[room].epoch, batch).await.unwrap();
            written += 1;
        } else if !is_filled {
            disk.fill(9 << 20);
            is_filled = true;
        } else {
            // At the pace of the store, which other programs may keep from writing its files: the log alone must not
            // take the space.
            let is_written = || fs::read_dir(disk.path("data/log")).unwrap().count() <= 2;
            assert!(soon(async || is_written()).await, "the log grows and grows");
            // While a merge takes the last space, a large commit may find none.
            let batch = puts([("small", vec![1; 150_000])]);
            if store.commit(&rooms[room], claims[room].epoch, batch).await.is_err() {
                let opens = soon(async || store.wake_ups(None, 1).await.is_ok()).await;
                assert!(opens, "it stays closed");
            }
        }
    }
    let mut refused = 0;
    for n in 0..40 {
        let batch = puts([("small", vec![n; 100])]);
        if store.commit(&rooms[0], claims[0].epoch, batch).await.is_err() {
            refused += 1;
        } else {
            let small = store.read(&rooms[0], &["small".into()]).await.unwrap();
            assert_eq!(small[0].as_ref().unwrap()[0], n);
        }
    }
    assert!(refused < 4, "{refused} of 40 small commits were refused");
    let stats = store.stats();
    assert!(stats.waits_for_space && stats.merges_postponed < 8, "{stats:?}");
    disk.free();
    assert!(soon(async || !store.stats().waits_for_space).await, "it merges when there is space");
    for (n, room) in rooms.iter().enumerate() {
        let found = rows(&store, room).await.unwrap();
        assert_eq!(
            found.iter().filter(|(key, _)| key.len() == 5 && key != "small").count(),
            10,
            "{n}"
        );
    }
    store.close().await;
}
