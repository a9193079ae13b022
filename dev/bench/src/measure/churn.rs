//! Commits that replace what is there, for so long that what was written has to be merged: their pace,
//! and how long each takes.

use std::{
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use partykit::{
    BoxError, Result, RoomAddress, RoomId,
    storage::{Backend, Batch, DiskBackend, Durability, StoreOptions},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{Sizes, rate};
use crate::{
    report::{Goal, Latencies, Report, permille},
    store::{FjallRows, OneSqlite, row},
};

/// Who is measured. The first has as much memory for changes as fjall, so that the ratios say something
/// about the stores; the second has what it has by default.
const CONTESTANTS: [&str; 4] =
    ["partykit, memory as fjall", "partykit by default", "fjall", "one SQLite database"];

/// What fjall keeps of a keyspace in memory before it writes a file. Ours is a quarter of its memory.
const FJALL_PART: u64 = 64 << 20;

/// How many commit at the same time, each one after another.
const WRITERS: usize = 64;

/// The bytes of a value, which is like no other.
const VALUE: usize = 1_000;

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut all: [Vec<Latencies>; 4] = Default::default();
    for turn in 0..sizes.churn_turns {
        for (contestant, taken) in all.iter_mut().enumerate() {
            eprintln!("  {}, turn {}", CONTESTANTS[contestant], turn + 1);
            // A disk, where a temporary directory may be none.
            let directory = TempDir::new_in(std::env::current_exe()?.with_file_name(""))?;
            let churn = Churn { rows: sizes.churn_rows / WRITERS, window: sizes.churn_window };
            let latencies = tokio.block_on(churn.run(contestant, directory.path()))?;
            report.latencies(CONTESTANTS[contestant], latencies);
            taken.push(latencies);
        }
    }
    let [ours, _, others @ ..] = &all;
    for (others, name) in others.iter().zip(&CONTESTANTS[2..]) {
        let ratio = |of: fn(&Latencies) -> f64| {
            ours.iter().zip(others).map(|(ours, theirs)| of(ours) / of(theirs)).collect::<Vec<_>>()
        };
        let goal = |goal| (*name == "fjall").then_some(goal);
        let pace = "commits a second while files are merged";
        report.claim_each(pace, name, ratio(|it| it.rate), goal(Goal::AtLeast(0.9)));
        let p99 = "p99 of a commit while files are merged";
        report.claim_each(p99, name, ratio(|it| it.p99), goal(Goal::AtMost(1.2)));
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Churn {
    /// Of each writer.
    rows: usize,
    window: Duration,
}

impl Churn {
    async fn run(self, contestant: usize, path: &Path) -> Result<Latencies> {
        match contestant {
            0 | 1 => {
                let mut options = StoreOptions::default();
                if contestant == 0 {
                    options = options.write_memory(4 * FJALL_PART);
                }
                let backend = DiskBackend::open_with(path, Durability::Durable, options)?;
                let mut claims = Vec::new();
                for writer in 0..WRITERS {
                    let address = RoomAddress::new("diary", RoomId::new(format!("{writer}"))?);
                    let epoch = backend.claim(&address).await?.epoch;
                    claims.push((address, epoch));
                }
                let store = backend.clone();
                let latencies = self.measure(move |writer, at, value| {
                    let (store, (address, epoch)) = (store.clone(), claims[writer].clone());
                    async move {
                        let key = Bytes::copy_from_slice(&row(0, at)[8..]);
                        let writes = [(key, Some(Bytes::from(value)))].into();
                        let batch = Batch { writes, ..Batch::default() };
                        Ok(store.commit(&address, epoch, batch).await?)
                    }
                });
                let latencies = latencies.await;
                backend.close().await;
                latencies
            }
            2 => {
                let store = Arc::new(FjallRows::open(path)?);
                self.measure(move |writer, at, value| {
                    let store = store.clone();
                    async move { store.commit(row(writer, at), value).await }
                })
                .await
            }
            _ => {
                let store = Arc::new(OneSqlite::open(path)?);
                self.measure(move |writer, at, value| {
                    let store = store.clone();
                    async move { store.commit(row(writer, at), value).await }
                })
                .await
            }
        }
    }

    /// Each writer fills its rows once, which is not measured, and then replaces them at random.
    async fn measure<F>(
        self,
        commit: impl Fn(usize, usize, Vec<u8>) -> F + Send + Sync + 'static,
    ) -> Result<Latencies>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let commit = Arc::new(commit);
        let filled = Arc::new(tokio::sync::Barrier::new(WRITERS));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (commit, filled) = (commit.clone(), filled.clone());
            writers.spawn(async move {
                let mut random = writer as u64 + 1;
                for at in 0..self.rows {
                    commit(writer, at, value(&mut random)).await?;
                }
                filled.wait().await;
                let end = Instant::now() + self.window;
                let mut times = Vec::new();
                loop {
                    let value = value(&mut random);
                    let at = (next(&mut random) % self.rows as u64) as usize;
                    let begin = Instant::now();
                    if begin >= end {
                        return Ok::<_, BoxError>(times);
                    }
                    commit(writer, at, value).await?;
                    times.push(begin.elapsed().as_secs_f64() * 1e3);
                }
            });
        }
        let mut times = Vec::new();
        while let Some(writer) = writers.join_next().await {
            times.extend(writer??);
        }
        let count = times.len() as u64;
        let [p50, p99, p999, max] = [500, 990, 999, 1000].map(|at| permille(&mut times, at));
        Ok(Latencies { rate: rate(count, self.window), p50, p99, p999, max })
    }
}

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 8
}

fn value(random: &mut u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE);
    while value.len() < VALUE {
        value.extend(next(random).to_le_bytes());
    }
    value
}
