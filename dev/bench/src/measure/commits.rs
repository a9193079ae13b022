//! How many commits a second are durable, when each is acknowledged before its room makes the next one.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use partykit::{
    Body, BoxError, Request, Response, Result, Room, RoomAddress, RoomId, Runtime, Server,
    server::Builder,
    storage::{Backend, Batch, DiskBackend, Durability},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{Sizes, rate};
use crate::{
    report::{Goal, Report},
    store::{AppendOnlyLog, Fjall, SqlitePerRoom, value},
};

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// Handlers that write and wait for the disk, again and again: overlay, gate, writer.
    PartyKit,
    /// The same rooms with a request for each commit, which is answered when it is durable.
    Requests,
    /// What these rooms store in, without rooms.
    OurStore,
    /// One batch and one sync for all commits that wait.
    Fjall,
    /// The limit.
    Log,
    Sqlite,
}

impl Contestant {
    pub(crate) const ALL: [Self; 6] =
        [Self::PartyKit, Self::Requests, Self::OurStore, Self::Fjall, Self::Log, Self::Sqlite];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PartyKit => "partykit",
            Self::Requests => "a request each",
            Self::OurStore => "no rooms",
            Self::Fjall => "fjall",
            Self::Log => "append-only log",
            Self::Sqlite => "a SQLite file per room",
        }
    }
}

/// In this many rooms at a time, with the measure's name.
pub(crate) const ROOMS: [(usize, &str); 3] = [
    (1, "durable commits a second, 1 room"),
    (16, "durable commits a second, 16 rooms"),
    (256, "durable commits a second, 256 rooms"),
];

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for _ in 0..sizes.turns {
        for (rooms, measure) in ROOMS {
            for contestant in Contestant::ALL {
                // A disk, where a temporary directory may be none.
                let directory = TempDir::new_in(std::env::current_exe()?.with_file_name(""))?;
                let run = Run { rooms, window: sizes.window };
                let commits = match contestant {
                    Contestant::Sqlite => run.sqlite(&SqlitePerRoom::new(directory.path())),
                    _ => tokio.block_on(run.asynchronous(contestant, &directory)),
                };
                report.record_commits(measure, contestant, rate(commits?, sizes.window));
            }
        }
    }
    for (rooms, measure) in ROOMS {
        let goal = (rooms > 1).then_some(Goal::AtLeast(0.8));
        report.compare_commits(measure, Contestant::Fjall, goal);
        for other in [Contestant::Log, Contestant::Sqlite] {
            report.compare_commits(measure, other, None);
        }
    }
    Ok(())
}

/// A room that keeps what it was asked last.
#[derive(Default)]
struct Diary;

impl Server for Diary {
    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let page = request.into_body().bytes().cloned().unwrap_or_default();
        room.storage().put_bytes("page", page)?;
        Ok(Response::default())
    }
}

/// A room that writes until it is time to stop, and answers how often.
struct Writer {
    end: Instant,
}

impl Server for Writer {
    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        let number = room.id().parse()?;
        let mut round = 0;
        while Instant::now() < self.end {
            let page = Bytes::copy_from_slice(&value(number, round));
            room.storage().put_bytes("page", page)?;
            room.storage().sync().await?;
            round += 1;
        }
        Ok(Response::new(round.to_string().into()))
    }
}

#[derive(Clone, Copy)]
struct Run {
    rooms: usize,
    window: Duration,
}

impl Run {
    async fn asynchronous(self, contestant: Contestant, directory: &TempDir) -> Result<u64> {
        let path = directory.path();
        match contestant {
            Contestant::PartyKit => self.handlers(Runtime::builder().data(path)).await,
            Contestant::Requests => self.requests(Runtime::builder().data(path)).await,
            Contestant::OurStore => {
                self.backend(&DiskBackend::open(path, Durability::Durable)?).await
            }
            Contestant::Fjall => {
                let store = Arc::new(Fjall::open(path)?);
                self.commits(move |room, round| {
                    let store = store.clone();
                    async move { store.commit(room, round).await }
                })
                .await
            }
            Contestant::Log | Contestant::Sqlite => {
                let store = Arc::new(AppendOnlyLog::create(path)?);
                self.commits(move |room, round| {
                    let store = store.clone();
                    async move { store.commit(room, round).await }
                })
                .await
            }
        }
    }

    async fn handlers(self, builder: Builder) -> Result<u64> {
        let end = Instant::now() + self.window;
        let runtime = builder.party_with("writer", move |_: &RoomId| Writer { end }).build()?;
        let handle = runtime.handle();
        let mut answers = JoinSet::new();
        for room in 0..self.rooms {
            let handle = handle.clone();
            answers.spawn(async move {
                let room = format!("{room}");
                handle.request("writer", &room, Request::new(Body::empty())).await
            });
        }
        let mut count = 0;
        while let Some(answer) = answers.join_next().await {
            let body = answer??.into_body();
            let text = std::str::from_utf8(body.bytes().ok_or("an answer without a body")?)?;
            count += text.parse::<u64>()?;
        }
        handle.shutdown().await;
        Ok(count)
    }

    async fn requests(self, builder: Builder) -> Result<u64> {
        let runtime = builder.party::<Diary>("diary").build()?;
        let handle = runtime.handle();
        let asked = handle.clone();
        let commits = self.commits(move |room, round| {
            let handle = asked.clone();
            async move {
                let body = Body::from(Bytes::copy_from_slice(&value(room, round)));
                let answer =
                    handle.request("diary", &format!("{room}"), Request::new(body)).await?;
                if answer.status() == 200 { Ok(()) } else { Err(answer.status().as_str().into()) }
            }
        });
        let commits = commits.await;
        handle.shutdown().await;
        commits
    }

    async fn backend(self, backend: &DiskBackend) -> Result<u64> {
        let mut claims = Vec::new();
        for room in 0..self.rooms {
            let address = RoomAddress::new("diary", RoomId::new(format!("{room}"))?);
            let epoch = backend.claim(&address).await?.epoch;
            claims.push((address, epoch));
        }
        let backend = backend.clone();
        self.commits(move |room, round| {
            let (backend, (address, epoch)) = (backend.clone(), claims[room].clone());
            async move {
                let value = Bytes::copy_from_slice(&value(room, round));
                let writes = [("page".into(), Some(value))].into();
                backend.commit(&address, epoch, Batch { writes, ..Batch::default() }).await?;
                Ok(())
            }
        })
        .await
    }

    /// Commits in all rooms for the time of the window, one after another in each.
    async fn commits<F>(
        self,
        commit: impl Fn(usize, u64) -> F + Send + Sync + 'static,
    ) -> Result<u64>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let end = Instant::now() + self.window;
        let commit = Arc::new(commit);
        let mut writers = JoinSet::new();
        for room in 0..self.rooms {
            let commit = commit.clone();
            writers.spawn(async move {
                let mut round = 0;
                while Instant::now() < end {
                    commit(room, round).await?;
                    round += 1;
                }
                Ok::<_, BoxError>(round)
            });
        }
        let mut count = 0;
        while let Some(writer) = writers.join_next().await {
            count += writer??;
        }
        Ok(count)
    }

    fn sqlite(self, files: &SqlitePerRoom) -> Result<u64> {
        let rooms: Vec<_> = (0..self.rooms).map(|room| files.room(room)).collect::<Result<_>>()?;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = rooms
                .into_iter()
                .map(|room| {
                    let is_over = &is_over;
                    scope.spawn(move || {
                        let mut round = 0;
                        while !is_over.load(Ordering::Relaxed) {
                            room.commit(round)?;
                            round += 1;
                        }
                        Ok(round)
                    })
                })
                .collect();
            thread::sleep(self.window);
            is_over.store(true, Ordering::Relaxed);
            let counts = writers.into_iter().map(|writer| writer.join().map_err(|_| "a panic")?);
            counts.sum()
        })
    }
}
