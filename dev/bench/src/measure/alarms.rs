//! How many alarms a second ring, beside the same handler without an alarm.
//!
//! An alarm's attempt is durable before its handler runs. So a ring is two commits one after the other, and
//! a request whose handler writes the same is one: the ratio is what the attempt costs, and the way of an
//! alarm from the store to its room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use partykit::{
    Alarm, Body, BoxError, Request, Response, Result, Room, RoomId, Runtime, Server, server::Handle,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{Sizes, rate};
use crate::report::Report;

const ROOMS: usize = 1_000;

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut ratios = Vec::new();
    for turn in 0..sizes.turns {
        let [rung, asked] = [true, false].map(|rings| tokio.block_on(run(sizes.window, rings)));
        let (rung, asked) = (rung?, asked?);
        eprintln!("  turn {}: {rung:.0} alarms a second, {asked:.0} requests", turn + 1);
        ratios.push(rung / asked);
    }
    let measure = "alarms of 1,000 rooms a second, each a write";
    report.claim_each(measure, "requests that write", ratios, None);
    Ok(())
}

/// How often a second the handlers of all rooms were done.
async fn run(window: Duration, rings: bool) -> Result<f64> {
    let directory = TempDir::new_in(std::env::current_exe()?.with_file_name(""))?;
    let shared = Arc::new(Shared::default());
    let made = shared.clone();
    let runtime = Runtime::builder()
        .data(directory.path())
        .party_with("bell", move |_: &RoomId| Bell(made.clone()))
        .build()?;
    let handle = runtime.handle();
    // Every room is in memory, and its alarms ring from now on, if they are to.
    shared.rings.store(rings, Ordering::Relaxed);
    ask_all(&handle, None).await?;
    let (before, begin) = (shared.done.load(Ordering::Relaxed), Instant::now());
    if rings {
        tokio::time::sleep(window).await;
    } else {
        ask_all(&handle, Some(begin + window)).await?;
    }
    let done = shared.done.load(Ordering::Relaxed) - before;
    let time = begin.elapsed();
    shared.rings.store(false, Ordering::Relaxed);
    handle.shutdown().await;
    Ok(rate(done, time))
}

/// Asks each room, once or until it is time to stop.
async fn ask_all(handle: &Handle, until: Option<Instant>) -> Result<()> {
    let mut rooms = JoinSet::new();
    for room in 0..ROOMS {
        let handle = handle.clone();
        rooms.spawn(async move {
            loop {
                let request = Request::new(Body::empty());
                let answer = handle.request("bell", &format!("{room}"), request).await?;
                if answer.status() != 200 {
                    return Err::<(), BoxError>(answer.status().as_str().into());
                }
                if until.is_none_or(|until| Instant::now() >= until) {
                    return Ok(());
                }
            }
        });
    }
    while let Some(room) = rooms.join_next().await {
        room??;
    }
    Ok(())
}

#[derive(Default)]
struct Shared {
    /// How many handlers are done.
    done: AtomicU64,
    /// Whether the next alarm is set.
    rings: AtomicBool,
}

struct Bell(Arc<Shared>);

impl Bell {
    fn work(&self, room: &Room) -> Result {
        let done = self.0.done.fetch_add(1, Ordering::Relaxed);
        room.storage().put("done", &done)?;
        if self.0.rings.load(Ordering::Relaxed) {
            room.storage().set_alarm(room.now())?;
        }
        Ok(())
    }
}

impl Server for Bell {
    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        self.work(room)?;
        Ok(Response::default())
    }

    async fn on_alarm(&mut self, room: &Room, _: Alarm) -> Result {
        self.work(room)
    }
}
