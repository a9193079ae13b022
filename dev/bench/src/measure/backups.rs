//! What backups cost those who commit meanwhile: the same rooms with and without them, in turns.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use partykit::{
    Result, RoomAddress, RoomId,
    storage::{Backend, BackupOptions, Batch, DiskBackend, Durability},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{Sizes, rate};
use crate::report::{Goal, Latencies, Report, permille};

/// Rooms that commit all the time, each one commit after another.
const ROOMS: usize = 256;

/// Rows of each of them, of 1 kB.
const ROWS: u64 = 400;

/// How long a commit took, in milliseconds.
type Times = Arc<Mutex<Vec<f64>>>;

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // A disk, where a temporary directory may be none.
    let directory = TempDir::new_in(std::env::current_exe()?.with_file_name(""))?;
    tokio.block_on(measure(sizes, &directory, report))
}

async fn measure(sizes: &Sizes, directory: &TempDir, report: &mut Report) -> Result<()> {
    let store = DiskBackend::open(directory.path().join("store"), Durability::Durable)?;
    let times = Times::default();
    let mut rooms = JoinSet::new();
    for room in 0..ROOMS {
        rooms.spawn(write(store.clone(), room, times.clone()));
    }
    let window = sizes.churn_window / 3;
    // Until there are files to copy.
    tokio::time::sleep(window).await;
    let (mut paces, mut slower, mut made) = (Vec::new(), Vec::new(), 0);
    for _ in 0..sizes.churn_turns {
        clear(&times);
        tokio::time::sleep(window).await;
        let alone = latencies(&times, window);
        report.latencies("partykit, 256 rooms", alone);
        let to = directory.path().join("copy");
        let begin = Instant::now();
        clear(&times);
        while begin.elapsed() < window {
            store.backup(&to, BackupOptions::new()).await?;
            fs::remove_dir_all(&to)?;
            made += 1;
        }
        let beside = latencies(&times, begin.elapsed());
        report.latencies("the same, beside backups", beside);
        paces.push(beside.rate / alone.rate);
        slower.push(beside.p99 / alone.p99);
    }
    rooms.abort_all();
    eprintln!("  {made} backups");
    let beside = "no backup";
    let p99 = "p99 of a commit of 256 rooms while backups are made";
    report.claim_each(p99, beside, slower, Some(Goal::AtMost(2.0)));
    let pace = "commits a second of 256 rooms while backups are made";
    report.claim_each(pace, beside, paces, None);
    Ok(())
}

async fn write(store: DiskBackend, room: usize, times: Times) -> Result<()> {
    let address = RoomAddress::new("diary", RoomId::new(format!("{room}"))?);
    let epoch = store.claim(&address).await?.epoch;
    for n in 0_u64.. {
        let mut value = vec![room as u8; 1_000];
        value[..8].copy_from_slice(&n.to_le_bytes());
        let key = Bytes::copy_from_slice(&(n % ROWS).to_be_bytes());
        let writes = [(key, Some(Bytes::from(value)))].into();
        let begin = Instant::now();
        store.commit(&address, epoch, Batch { writes, ..Batch::default() }).await?;
        let time = begin.elapsed().as_secs_f64() * 1e3;
        times.lock().unwrap_or_else(PoisonError::into_inner).push(time);
    }
    Ok(())
}

fn clear(times: &Times) {
    times.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn latencies(times: &Times, window: Duration) -> Latencies {
    let mut times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
    let count = times.len() as u64;
    let [p50, p99, p999, max] = [500, 990, 999, 1000].map(|at| permille(&mut times, at));
    Latencies { rate: rate(count, window), p50, p99, p999, max }
}
