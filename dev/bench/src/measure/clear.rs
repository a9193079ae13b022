//! What `delete_all` of a large room costs the others, and the room itself afterwards; and a queue.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use partykit::{
    BoxError, Result, RoomAddress, RoomId,
    storage::{Backend, Batch, DiskBackend, Durability, Epoch},
};
use tempfile::TempDir;

use super::Sizes;
use crate::report::Report;

/// In one batch.
const ROWS: u64 = 10_000;

const VALUE: [u8; 100] = [7; 100];

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // A disk, where a temporary directory may be none.
    let directory = TempDir::new_in(std::env::current_exe()?.with_file_name(""))?;
    tokio.block_on(measure(sizes, directory.path(), report))
}

async fn measure(sizes: &Sizes, path: &Path, report: &mut Report) -> Result<()> {
    let backend = DiskBackend::open(path, Durability::Durable)?;
    let large = RoomAddress::new("clear", RoomId::new("large")?);
    let epoch = backend.claim(&large).await?.epoch;
    for part in 0..sizes.cleared_rows / ROWS {
        let keys = part * ROWS..(part + 1) * ROWS;
        write(&backend, &large, epoch, keys.map(|n| (n, Some(&VALUE)))).await?;
    }
    tokio::time::sleep(sizes.clear_rest).await;
    let before = size(path)?;

    let is_over = Arc::new(AtomicBool::new(false));
    let bystander = {
        let (backend, is_over) = (backend.clone(), is_over.clone());
        tokio::spawn(async move {
            let room = RoomAddress::new("clear", RoomId::new("bystander")?);
            let epoch = backend.claim(&room).await?.epoch;
            let (mut times, mut n) = (Vec::new(), 0);
            while !is_over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                write(&backend, &room, epoch, [(n % 100, Some(&VALUE))].into_iter()).await?;
                times.push(millis(begin));
                n += 1;
            }
            Ok::<_, BoxError>(times)
        })
    };
    let begin = Instant::now();
    backend.commit(&large, epoch, Batch { clear: true, ..Batch::default() }).await?;
    let cleared = millis(begin);
    let begin = Instant::now();
    let claim = backend.claim(&large).await?;
    let first_wake = millis(begin);
    if !claim.empty {
        return Err("the room has rows".into());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    is_over.store(true, Ordering::Relaxed);
    let longest = bystander.await??.into_iter().fold(0.0, f64::max);
    tokio::time::sleep(sizes.clear_rest).await;
    let after = size(path)?;

    let mut claim = |measure, value| report.claim_each(measure, "nothing", vec![value], None);
    claim("delete_all of a large room, ms", cleared);
    claim("the longest commit of another room meanwhile, ms", longest);
    claim("the first claim after it, ms", first_wake);
    claim("files and log before it, MB", before as f64 / 1e6);
    claim("files and log after it and a rest, MB", after as f64 / 1e6);

    let queue = RoomAddress::new("clear", RoomId::new("queue")?);
    let epoch = backend.claim(&queue).await?.epoch;
    let mut popped = 0;
    while popped < sizes.pops {
        let end = popped + 10;
        let pushes = (popped + 10..end + 10).map(|n| (n, Some(&VALUE)));
        let pops = (popped..end).map(|n| (n, None));
        write(&backend, &queue, epoch, pushes.chain(pops)).await?;
        popped = end;
    }
    let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let mut firsts = Vec::new();
    for _ in 0..3 {
        let begin = Instant::now();
        backend.scan(&queue, &everything, false, 1).await?;
        firsts.push(millis(begin));
    }
    report.claim_each(
        "the first row of a queue of ten after many pops, ms",
        "nothing",
        firsts,
        None,
    );
    backend.close().await;
    Ok(())
}

async fn write(
    backend: &DiskBackend,
    room: &RoomAddress,
    epoch: Epoch,
    rows: impl Iterator<Item = (u64, Option<&[u8; 100]>)>,
) -> Result<()> {
    let writes = rows.map(|(key, value)| {
        let key = Bytes::copy_from_slice(format!("{key:012}").as_bytes());
        (key, value.map(|value| Bytes::copy_from_slice(value)))
    });
    // Of a key that is put and removed, the last counts.
    let batch = Batch { writes: writes.collect(), ..Batch::default() };
    Ok(backend.commit(room, epoch, batch).await?)
}

fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// Of all files of a directory. The log's files are longer than what is in them.
fn size(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut size = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is = match entry.metadata() {
            // It was removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            is => is?,
        };
        size += if is.is_dir() { self::size(&entry.path())? } else { is.blocks() * 512 };
    }
    Ok(size)
}
