//! Clients that keep reading, at whatever pace, get all that one handler says to them.

use std::{net::Ipv4Addr, net::SocketAddr, thread};

use partykit::Result;

use super::Sizes;
use crate::{
    child::{Allocator, Server},
    client::{Reader, dial_with, enter},
    report::{Goal, Report},
    server::numbered,
};

/// How many messages a handler says, and of how many bytes.
const BURSTS: [(usize, usize); 4] = [(2_000, 1_000), (20, 100_000), (8, 1_000_000), (3, 8_000_000)];

/// Bytes a second.
const PACES: [(&str, Option<f64>); 4] = [
    ("closes of a client that reads 0.5 MB/s", Some(0.5e6)),
    ("closes of a client that reads 5 MB/s", Some(5e6)),
    ("closes of a client that reads 50 MB/s", Some(50e6)),
    ("closes of a client that reads at full speed", None),
];

/// What the kernel keeps for a client that has not read it: little, so that the server sees how it reads.
const BUFFER: usize = 64 * 1024;

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start_with(&["serve", "hostile", "1000"], Allocator::Jemalloc)?;
    let (to, bursts) = (server.address(), &BURSTS[..sizes.bursts]);
    let closes = thread::scope(|scope| {
        let clients = PACES.map(|(name, pace)| {
            scope.spawn(move || {
                bursts.iter().filter(|burst| !is_whole(to, pace, **burst, name)).count()
            })
        });
        clients.map(|client| client.join().expect("no panic"))
    });
    for ((measure, _), closes) in PACES.into_iter().zip(closes) {
        report.claim(measure, "limit", closes as f64, Goal::AtMost(0.0));
    }
    Ok(())
}

/// Whether a client gets all of a burst, in order.
fn is_whole(to: SocketAddr, pace: Option<f64>, burst: (usize, usize), name: &str) -> bool {
    let heard = hear(to, pace, burst);
    if let Err(error) = &heard {
        eprintln!("{name}, {} of {} bytes: {error}", burst.0, burst.1);
    }
    heard.is_ok()
}

fn hear(to: SocketAddr, pace: Option<f64>, (count, bytes): (usize, usize)) -> Result<()> {
    let mut stream = dial_with(Ipv4Addr::LOCALHOST, to, Some(BUFFER))?;
    if !enter(&mut stream, &format!("{pace:?}-{bytes}"))? {
        return Err("it is not let in".into());
    }
    let mut reader = Reader::new(stream, pace);
    reader.tell(&format!("{count} {bytes}"))?;
    for n in 0..count {
        let message = reader.next().map_err(|error| format!("after {n} messages: {error}"))?;
        if message != numbered(n, bytes).as_bytes() {
            return Err(format!("message {n} is another one").into());
        }
    }
    Ok(())
}
