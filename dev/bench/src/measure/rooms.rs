//! What rooms cost of which nobody hears: in memory, on disk, when a server starts, and while they wait
//! for their alarms. None of them has a connection.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use partykit::Result;
use tempfile::TempDir;

use super::Sizes;
use crate::{
    child::{Allocator, Server},
    report::{Goal, Report},
};

/// Rooms that are written before memory is measured: what the first ones cost is the server's code.
const FIRST: u64 = 16;

/// How soon an alarm rings that is to be due when the server starts: after it has stopped, but not long.
const DUE: Duration = Duration::from_secs(2);

/// How long the disk has to be as it is before it is said to be at rest.
const STILL: Duration = Duration::from_secs(2);

/// How long anything may take that passes by itself.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    asleep(sizes, report)?;
    starts(sizes, report)?;
    pending(sizes, report)
}

/// Rooms that were written once.
fn asleep(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let ways = [
        (Allocator::Jemalloc, "write", "sleeping rooms: memory of all, MB, jemalloc"),
        (Allocator::Jemalloc, "burst", "the same, all written in a burst, MB, jemalloc"),
        (Allocator::Glibc, "burst", "the same, all written in a burst, MB, glibc"),
    ];
    for (allocator, way, measure) in ways {
        let home = home()?;
        let mut server = start(home.path(), allocator)?;
        server.count(&format!("write 0 {FIRST}"))?;
        forget_all(&mut server)?;
        rest(sizes, allocator);
        let (memory, tasks) = (server.process().memory()?, server.count("tasks")?);

        let (written, most) =
            watch(home.path(), || server.count(&format!("{way} {FIRST} {}", FIRST + sizes.rooms)))?;
        forget_all(&mut server)?;
        let used = settle(home.path())?;
        rest(sizes, allocator);
        let grown = (server.process().memory()? as f64 - memory as f64) / 1e6;
        // After a burst, an allocator keeps of what tens of thousands of rooms had that were awake.
        let goal = (way == "write").then_some(Goal::Below(20.0));
        report.claim_each(measure, "as many not written", vec![grown], goal);
        if way == "write" {
            let tasks = server.count("tasks")? as f64 - tasks as f64;
            report.claim("sleeping rooms: tasks", "as many not written", tasks, Goal::AtMost(0.0));
            let of_one = |used: u64| (used as f64 - written as f64) / (FIRST + sizes.rooms) as f64;
            report.claim(
                "sleeping rooms: bytes of disk each, at rest",
                "what clients wrote",
                of_one(used),
                Goal::Below(300.0),
            );
            let most = vec![of_one(most)];
            let measure = "sleeping rooms: bytes of disk each, at the worst moment";
            report.claim_each(measure, "what clients wrote", most, None);
        }
    }
    Ok(())
}

/// Servers that start with one alarm that is due, beside rooms that sleep.
fn starts(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let counts = [1, sizes.rooms / 10, sizes.rooms];
    let homes = [home()?, home()?, home()?];
    for (home, count) in homes.iter().zip(counts) {
        let mut server = start(home.path(), Allocator::Jemalloc)?;
        server.count(&format!("remind 0 {count}"))?;
        forget_all(&mut server)?;
        settle(home.path())?;
        stop_before_it_is_due(server)?;
    }
    let (mut answered, mut rung, mut read) =
        <([Vec<f64>; 3], [Vec<f64>; 3], [Vec<f64>; 3])>::default();
    for turn in 0..=sizes.turns {
        for (at, home) in homes.iter().enumerate() {
            let log = usage(&home.path().join("data/log"))?.length;
            let mut server = start(home.path(), Allocator::Jemalloc)?;
            let times = [server.count("answered")?, server.count("rung")?];
            let bytes = server.count("read")?.saturating_sub(log);
            stop_before_it_is_due(server)?;
            // The first start also writes to the tree what the log has.
            if turn > 0 || sizes.turns == 0 {
                answered[at].push(times[0] as f64);
                rung[at].push(times[1] as f64);
                read[at].push(bytes as f64);
            }
        }
    }
    let ratios = |all: &[Vec<f64>; 3], one: usize, other: usize| {
        all[one].iter().zip(&all[other]).map(|(one, other)| one / other).collect::<Vec<_>>()
    };
    let none = "a start with one room";
    report.claim_each("start-up: first answer, all rooms", none, ratios(&answered, 2, 0), None);
    report.claim_each("start-up: alarm that is due, all rooms", none, ratios(&rung, 2, 0), None);
    for (measure, all) in
        [("start-up: first answer, ms", &answered), ("start-up: alarm that is due, ms", &rung)]
    {
        let milliseconds = all[2].iter().map(|micros| micros / 1000.0).collect();
        report.claim_each(measure, "nothing: all rooms", milliseconds, None);
    }
    let measure = "start-up: bytes read, all rooms";
    report.claim_each(measure, "nothing: bytes", read[2].clone(), None);
    report.claim_each(measure, none, ratios(&read, 2, 0), None);
    let ratios = ratios(&read, 2, 1);
    report.claim_each(measure, "a start with a tenth of them", ratios, Some(Goal::AtMost(3.0)));
    Ok(())
}

/// Alarms that wait for a day that is far away.
fn pending(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut found = Vec::new();
    for count in [sizes.pending / 1000, sizes.pending] {
        let home = home()?;
        let mut server = start(home.path(), Allocator::Jemalloc)?;
        server.count(&format!("pend {count}"))?;
        settle(home.path())?;
        server.ask("stop")?;
        drop(server);
        let mut server = start(home.path(), Allocator::Jemalloc)?;
        forget_all(&mut server)?;
        settle(home.path())?;
        // Threads that Tokio keeps for what blocks end after 10 s.
        thread::sleep(Allocator::Jemalloc.rest());
        found.push((server.count("tasks")?, server.count("threads")?, server.process().memory()?));
    }
    let [few, many] = found[..] else { return Err("two counts".into()) };
    let beside = "a thousandth of them";
    let more = |many: u64, few: u64| many as f64 - few as f64;
    report.claim("pending alarms: more tasks", beside, more(many.0, few.0), Goal::AtMost(0.0));
    report.claim("pending alarms: more threads", beside, more(many.1, few.1), Goal::AtMost(0.0));
    let memory = more(many.2, few.2) / 1e6;
    report.claim_each("pending alarms: more memory, MB", beside, vec![memory], None);
    Ok(())
}

/// A directory on the disk that the server was built on: others may be in memory.
pub(super) fn home() -> Result<TempDir> {
    let binary = std::env::current_exe()?;
    let beside = binary.parent().ok_or("a binary without a directory")?;
    Ok(tempfile::Builder::new().prefix("rooms-").tempdir_in(beside)?)
}

fn start(home: &Path, allocator: Allocator) -> Result<Server> {
    let data = home.join("data");
    let data = data.to_str().ok_or("a directory whose name is no text")?;
    Server::start_with(&["serve", "rooms", data], allocator)
}

/// Ends a server in good order, and not before the alarm is due that the next one finds.
fn stop_before_it_is_due(mut server: Server) -> Result<()> {
    let begin = Instant::now();
    let expect_ok = |answer: String| match answer.as_str() {
        "ok" | "stopped" => Ok(()),
        _ => Err(answer),
    };
    expect_ok(server.ask(&format!("due {}", DUE.as_millis()))?)?;
    expect_ok(server.ask("stop")?)?;
    drop(server);
    let left = DUE.checked_sub(begin.elapsed()).ok_or("a server took too long to stop")?;
    thread::sleep(left + Duration::from_millis(10));
    Ok(())
}

/// Waits until the server has nothing in memory of any room.
fn forget_all(server: &mut Server) -> Result<()> {
    let begin = Instant::now();
    loop {
        let left = server.ask("left")?;
        if left.starts_with("0 rooms") && left.contains("claims: 0,") {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("rooms that sleep are in memory: {left}").into());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn rest(sizes: &Sizes, allocator: Allocator) {
    thread::sleep(allocator.rest().min(sizes.rest));
}

/// Waits until a directory does not change any more, and says what it takes of the disk.
fn settle(path: &Path) -> Result<u64> {
    let begin = Instant::now();
    let mut last = usage(path)?;
    let mut since = Instant::now();
    while since.elapsed() < STILL {
        if begin.elapsed() > PATIENCE {
            return Err("the store does not come to rest".into());
        }
        thread::sleep(Duration::from_millis(100));
        let now = usage(path)?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last.disk)
}

/// Does something, and says what a directory took of the disk at the worst moment of it.
fn watch<T>(path: &Path, act: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let (is_over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                // A file may go while it is looked at.
                let now = usage(path).unwrap_or_default();
                most.fetch_max(now.disk, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(10));
            }
        });
        let result = act();
        is_over.store(true, Ordering::SeqCst);
        result
    });
    Ok((result?, most.load(Ordering::SeqCst)))
}

/// What files there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    files: u64,
    /// As long as they say they are.
    length: u64,
    /// What the disk has given them, in bytes.
    disk: u64,
}

/// Of all files below a directory; nothing if it is not there.
fn usage(path: &Path) -> Result<Usage> {
    let mut sum = Usage::default();
    let Ok(entries) = fs::read_dir(path) else { return Ok(sum) };
    for entry in entries {
        let entry = entry?;
        let Ok(facts) = entry.metadata() else { continue };
        sum.disk += facts.blocks() * 512;
        if facts.is_dir() {
            let below = usage(&entry.path())?;
            sum.files += below.files;
            sum.length += below.length;
            sum.disk += below.disk;
        } else {
            sum.files += 1;
            sum.length += facts.len();
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_all_that_is_below_it() {
        let home = home().unwrap();
        assert_eq!(usage(&home.path().join("none")).unwrap(), Usage::default());
        fs::create_dir(home.path().join("a")).unwrap();
        fs::write(home.path().join("a/b"), [7; 10_000]).unwrap();
        fs::write(home.path().join("c"), [7; 5]).unwrap();
        let used = usage(home.path()).unwrap();
        assert_eq!((used.files, used.length), (2, 10_005));
    }
}
