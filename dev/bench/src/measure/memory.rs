//! What an idle connection costs in the server's process, and that it is really one: the room counts
//! them, speaks to them, sleeps under them and wakes.

use std::thread;

use bench_party::{BROADCAST, ECHO};
use partykit::Result;

use super::{Sizes, hall};
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

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    for kind in Kind::SERVED {
        for allocator in [Allocator::Jemalloc, Allocator::Glibc] {
            let (fresh, used) = bytes(kind, allocator, sizes)?;
            let at = usize::from(allocator == Allocator::Glibc);
            report.record(FRESH[at], kind, fresh);
            report.record(USED[at], kind, used);
            if (kind, allocator) == (Kind::PartyKit, Allocator::Jemalloc) {
                report.claim(USED[at], "nothing: bytes", used, Goal::AtMost(1300.0));
            }
        }
    }
    for measure in USED {
        report.compare(measure, Kind::Tungstenite, None);
    }
    Ok(())
}

/// Of a connection that was only made, and of one that has spoken, heard and lived through a sleep.
fn bytes(kind: Kind, allocator: Allocator, sizes: &Sizes) -> Result<(f64, f64)> {
    let (count, rest) = (sizes.idle, allocator.rest().min(sizes.rest));
    let settled = |server: &Server| {
        thread::sleep(rest);
        server.process().memory()
    };
    let mut crowd = Crowd::new()?;
    let mut server = Server::start(kind, allocator)?;
    // What the first clients cost is the server's code and its threads' buffers.
    let first = 16;
    crowd.connect(server.address(), first, |_| "lobby".to_owned())?;
    echo(&mut crowd, 0)?;
    let before = settled(&server)?;

    crowd.connect(server.address(), count, hall)?;
    let fresh = settled(&server)?;
    if kind == Kind::PartyKit {
        live(&mut crowd, &mut server, first, count as u64)?;
    }
    echo(&mut crowd, first)?;
    let used = settled(&server)?;
    let of_one = |after: u64| (after as f64 - before as f64) / count as f64;
    Ok((of_one(fresh), of_one(used)))
}

/// A day in the life of a room with so many connections, `first` being the first of them.
fn live(crowd: &mut Crowd, server: &mut Server, first: usize, count: u64) -> Result<()> {
    let expect = |what: &str, is: &str, should: &str| match is == should {
        true => Ok(()),
        false => Err(format!("{what} should be {should} and is {is}")),
    };
    expect("the room's count", &server.ask("count hall")?, &count.to_string())?;
    crowd.say(first, BROADCAST)?;
    crowd.expect(0, count - 1)?;

    expect("the room after its eviction", &server.ask("evict hall")?, "asleep")?;
    expect("the sleeping room's count", &server.ask("count hall")?, &count.to_string())?;
    let starts = server.count("starts")?;
    crowd.say(first, ECHO)?;
    crowd.expect(1, 0)?;
    expect("the room after a message", &server.ask("phase hall")?, "awake")?;
    expect("the starts by it", &(server.count("starts")? - starts).to_string(), "1")?;

    crowd.say(first, BROADCAST)?;
    crowd.expect(0, count - 1)?;
    Ok(())
}

/// One echo on each connection from the one called `first` on, a hundred at a time.
fn echo(crowd: &mut Crowd, first: usize) -> Result<()> {
    let all = (first..crowd.len()).collect::<Vec<_>>();
    for some in all.chunks(100) {
        for client in some {
            crowd.say(*client, ECHO)?;
        }
        crowd.expect(some.len() as u64, 0)?;
    }
    Ok(())
}
