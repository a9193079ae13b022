use std::{
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use partykit::{
    Result, RoomAddress, RoomId, Timestamp,
    storage::{Backend, Batch, DiskBackend, Durability, WakeUp, rig},
};

/// How often the store is opened, and how many commits there are each time.
const OPENED: usize = 3;
const STEPS: usize = 40;

/// How much smaller than usual files and memory are: some commits fill a file of the log.
const SMALLER: u32 = 128;

/// How long a life waits for a store that fails, before it goes on or ends.
const PATIENCE: Duration = Duration::from_millis(400);

/// The room of a commit, and what it writes.
pub(super) fn step(number: usize) -> (RoomAddress, Batch) {
    let room = RoomAddress::new("main", RoomId::new(["a", "b", "c"][number % 3]).expect("a name"));
    let text = |text: String| Bytes::from(text);
    let mut batch = Batch { clear: number % 13 == 7, ..Batch::default() };
    batch.writes.insert("first".into(), Some(text(number.to_string())));
    batch.writes.insert("last".into(), Some(text(number.to_string())));
    let ballast = text(format!("ballast:{}", number % 4));
    batch.writes.insert(ballast, Some(vec![number as u8; 5000].into()));
    batch.writes.insert(text(format!("own:{number}")), Some("here".into()));
    batch.writes.insert(text(format!("own:{}", number.saturating_sub(6))), None);
    batch.wake_up = match number % 4 {
        1 => Some(WakeUp::At(Timestamp::from_millis(1_000 + number as u64))),
        3 => Some(WakeUp::Never),
        _ => None,
    };
    (room, batch)
}

/// The process whose operations fail. Says what it tries and what it is told, a line each.
///
/// # Errors
///
/// When its output is closed.
pub async fn short_life(directory: &Path, dies: bool, forgets: bool) -> Result {
    rig::shrink(SMALLER);
    if forgets {
        rig::forget_what_failed();
    }
    for opened in 0..OPENED {
        let store = match DiskBackend::open(directory, Durability::Durable) {
            Ok(store) => store,
            Err(error) => return say(&format!("closed {error}")),
        };
        for number in opened * STEPS..(opened + 1) * STEPS {
            say(&format!("try {number}"))?;
            let (room, batch) = step(number);
            let told = match store.claim(&room).await {
                Ok(claim) => store.commit(&room, claim.epoch, batch).await,
                Err(error) => Err(error),
            };
            if told.is_ok() {
                say("ok")?;
                continue;
            }
            say("no")?;
            let is_back = is_back(&store).await;
            if dies {
                return say("kill");
            }
            if !is_back {
                break;
            }
        }
        if dies && opened + 1 == OPENED {
            return say("kill");
        }
        store.close().await;
    }
    say("end")
}

/// Waits until the store can be read, for a while.
async fn is_back(store: &DiskBackend) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if store.wake_ups(None, 1).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn say(line: &str) -> Result {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
