//! The suite that every backend passes, on disk.

use std::sync::Arc;

use partykit_core::{Backend, conformance::storage, testing::FaultyBackend};
use partykit_runtime_tokio::store::{DiskBackend, Durability};

use super::support::{directory, open};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_disk_keeps_the_contract() {
    for durability in [Durability::Durable, Durability::Relaxed] {
        let directory = directory();
        let next = std::sync::atomic::AtomicU32::new(0);
        storage::all(async || {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = directory.path().join(n.to_string());
            Arc::new(DiskBackend::open(path, durability).unwrap())
        })
        .await;
    }
}

#[tokio::test]
async fn it_does_so_on_one_thread_and_behind_a_pointer() {
    let directory = directory();
    let next = std::cell::Cell::new(0);
    storage::all(async || {
        next.set(next.get() + 1);
        open(directory.path().join(next.get().to_string())) as Arc<dyn Backend>
    })
    .await;
}

#[tokio::test]
async fn the_cases_share_one_store() {
    let directory = directory();
    let store = open(directory.path());
    storage::all(async || store.clone()).await;
}

#[tokio::test]
async fn rows_epochs_and_wake_ups_outlive_the_one_who_wrote_them() {
    for durability in [Durability::Durable, Durability::Relaxed] {
        let directory = directory();
        storage::persistence(async || {
            Arc::new(DiskBackend::open(directory.path(), durability).unwrap())
        })
        .await;
    }
}

#[tokio::test]
async fn it_keeps_the_contract_although_calls_fail() {
    for seed in 0..4 {
        let directory = directory();
        let store = DiskBackend::open(directory.path(), Durability::Relaxed).unwrap();
        let backend = FaultyBackend::new(store, seed).fail_commits(0.2).fail_reads(0.1);
        storage::random_failures(&backend, seed).await;
    }
}
