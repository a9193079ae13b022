//! What an idle connection costs in the server's process, and that it is really one: the room counts
//! them, speaks to them, sleeps under them and wakes.

use std::slice::SliceIndex;

use bench_party::{BROADCAST, ECHO};
use partykit::Result;

use super::{
    Sizes, hall,
    weight::{Scales, WARM},
};
use crate::{
    child::{Allocator, Server},
    crowd::Crowd,
    report::{Goal, Report},
    server::Kind,
};

const FRESH: [&str; 2] =
    ["bytes of a connection just made, jemalloc", "bytes of a connection just made, glibc"];
const USED: [&str; 2] =
    ["bytes of an idle connection, jemalloc", "bytes of an idle connection, glibc"];
const USED_HEAP: &str = "bytes of an idle connection, on the heap";
const MOST: &str = "bytes of an idle connection, as many as a process can have";
const MILLION: &str = "MB of 1,000,000 idle connections, on paper";

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    for _ in 0..sizes.memory_turns {
        for kind in Kind::WITH_ROOMS {
            turn(kind, Allocator::Jemalloc, sizes, report)?;
        }
    }
    for (kind, allocator) in [
        (Kind::Tungstenite, Allocator::Jemalloc),
        (Kind::PartyKit, Allocator::Glibc),
        (Kind::Raw, Allocator::Glibc),
        (Kind::Tungstenite, Allocator::Glibc),
    ] {
        turn(kind, allocator, sizes, report)?;
    }
    report.limit(USED[0], "nothing: bytes", Some(Goal::AtMost(256.0)));
    report.limit(USED_HEAP, "nothing: bytes", None);
    report.compare(USED[0], Kind::Bun, None);
    for measure in USED {
        report.compare(measure, Kind::Tungstenite, None);
    }
    report.limit(MOST, "nothing: bytes", None);
    report.limit(MILLION, "nothing: MB, from the last 9,000", None);
    report.compare(MILLION, Kind::Bun, None);
    Ok(())
}

/// Of connections that were only made, and of those that have spoken, heard and lived through a sleep.
fn turn(kind: Kind, allocator: Allocator, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let (count, scales) = (sizes.idle, Scales::new(kind, allocator, sizes));
    let rooms = || ["lobby", "hall"].map(str::to_owned).into_iter();
    let mut crowd = Crowd::new()?;
    let mut server = Server::start_to_weigh(kind, allocator)?;
    crowd.connect(server.address(), WARM, |_| "lobby".to_owned())?;
    echo(&mut crowd, ..)?;
    let before = scales.settled(&mut server, rooms())?;

    crowd.connect(server.address(), count, hall)?;
    echo(&mut crowd, ..WARM)?;
    let fresh = scales.settled(&mut server, rooms())?;
    if kind == Kind::PartyKit {
        live(&mut crowd, &mut server, count as u64)?;
    }
    echo(&mut crowd, ..)?;
    let used = scales.settled(&mut server, rooms())?;
    let at = usize::from(allocator == Allocator::Glibc);
    report.record(FRESH[at], kind, fresh.of_one(before, count).share);
    let of_one = used.of_one(before, count);
    report.record(USED[at], kind, of_one.share);
    if let Some(heap) = of_one.heap {
        report.record(USED_HEAP, kind, heap);
    }
    if allocator == Allocator::Jemalloc && kind != Kind::Tungstenite {
        let more = sizes.most - count;
        crowd.connect(server.address(), more, hall)?;
        echo(&mut crowd, ..)?;
        let most = scales.settled(&mut server, rooms())?;
        if kind == Kind::PartyKit {
            expect("the room's count", &server.ask("count hall")?, &sizes.most.to_string())?;
        }
        report.record(MOST, kind, most.of_one(before, sizes.most).share);
        let slope = most.of_one(used, more).share;
        let all = slope * (1_000_000 - sizes.most) as f64 + most.share - before.share;
        report.record(MILLION, kind, all / 1e6);
    }
    Ok(())
}

/// A day in the life of a room with this many connections.
fn live(crowd: &mut Crowd, server: &mut Server, count: u64) -> Result<()> {
    expect("the sleeping room's count", &server.ask("count hall")?, &count.to_string())?;
    crowd.say(WARM, BROADCAST)?;
    crowd.expect(0, count - 1)?;

    expect("the room after its eviction", &server.ask("evict hall")?, "asleep")?;
    expect("the sleeping room's count", &server.ask("count hall")?, &count.to_string())?;
    let starts = server.count("starts")?;
    crowd.say(WARM, ECHO)?;
    crowd.expect(1, 0)?;
    expect("the room after a message", &server.ask("phase hall")?, "awake")?;
    expect("the starts by it", &(server.count("starts")? - starts).to_string(), "1")?;

    crowd.say(WARM, BROADCAST)?;
    crowd.expect(0, count - 1)?;
    Ok(())
}

fn expect(what: &str, is: &str, should: &str) -> Result<()> {
    match is == should {
        true => Ok(()),
        false => Err(format!("{what} should be {should} and is {is}").into()),
    }
}

/// One echo on each of these connections, a hundred at a time.
pub(super) fn echo(
    crowd: &mut Crowd,
    clients: impl SliceIndex<[usize], Output = [usize]>,
) -> Result<()> {
    let all = (0..crowd.len()).collect::<Vec<_>>();
    for some in all[clients].chunks(100) {
        for client in some {
            crowd.say(*client, ECHO)?;
        }
        crowd.expect(some.len() as u64, 0)?;
    }
    Ok(())
}
