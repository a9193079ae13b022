//! A disk that is full, and has space again.
#![cfg(target_os = "linux")]

use std::{fs, path::PathBuf, process::Command};

use partykit_core::{Backend, Batch};
use partykit_runtime_tokio::{DiskBackend, Durability};
use tempfile::TempDir;

use super::support::{address, directory, puts, rows};

/// A small file system in memory, for whoever may mount one.
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
