//! What hostile clients cost the others: half handshakes, sockets that take all places, busy rooms.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use partykit::Result;

use super::Sizes;
use crate::{
    child::{Allocator, Server},
    client::{dial, enter, frame, is_well, open},
    report::{Goal, Report, percentile},
};

/// How long a good client may have to wait, in milliseconds.
const CONNECT: f64 = 100.0;
const ECHO: f64 = 10.0;

/// One address has 200 half handshakes, the others share the rest.
const CROWDED: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 9);

const NEWCOMERS: usize = 200;

/// Rooms in which nobody else talks.
const QUIET: usize = 20;

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    half_handshakes(sizes, report)?;
    places(sizes, report)?;
    flooded_room(sizes, report)?;
    for (rooms, measure) in [
        (0, "p99 of an echo beside no busy room, ms"),
        (2, "p99 of an echo beside 2 busy rooms, ms"),
        (16, "p99 of an echo beside 16 busy rooms, ms"),
    ] {
        let p99 = busy_rooms(sizes, rooms)?;
        report.claim(measure, "limit", p99, Goal::AtMost(ECHO));
    }
    Ok(())
}

fn start(sizes: &Sizes) -> Result<Server> {
    Server::start_with(&["serve", "hostile", &sizes.places.to_string()], Allocator::Jemalloc)
}

/// Clients that never say what they want, as many as they can be, and those that do.
fn half_handshakes(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = start(sizes)?;
    let (to, is_over) = (server.address(), AtomicBool::new(false));
    let (elsewhere, crowded) = thread::scope(|scope| {
        let attack = scope.spawn(|| drip(sizes, to, &is_over));
        // They are all there after a moment.
        let ready = Instant::now() + sizes.window;
        while Instant::now() < ready {
            connect(ELSEWHERE, "hall", to)?;
        }
        let good =
            [ELSEWHERE, CROWDED].map(|from| scope.spawn(move || probe(from, to, 4 * sizes.window)));
        let [elsewhere, crowded] = good.map(|probe| probe.join().expect("no panic"));
        is_over.store(true, Ordering::Relaxed);
        attack.join().expect("no panic")?;
        Ok::<_, partykit::BoxError>((elsewhere?, crowded?))
    })?;
    let measure = "half handshakes: p99 of a connect elsewhere, ms";
    report.claim(measure, "limit", elsewhere, Goal::AtMost(CONNECT));
    let measure = "half handshakes: p99 of a connect at the same address, ms";
    report.claim(measure, "limit", crowded, Goal::AtMost(CONNECT));
    Ok(())
}

/// Holds half handshakes: 200 at one address, and the others at 35.
fn drip(sizes: &Sizes, to: SocketAddr, is_over: &AtomicBool) -> Result<()> {
    let address = |n: usize| match n {
        0..200 => CROWDED,
        _ => Ipv4Addr::new(127, 0, 2, 1 + (n % 35) as u8),
    };
    let begin = |n: usize| -> Result<TcpStream> {
        let mut stream = dial(address(n), to)?;
        stream.write_all(b"GET /parties/main/slow HTTP/1.1\r\nx: ")?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let mut held = (0..sizes.half_handshakes).map(begin).collect::<Result<Vec<_>>>()?;
    while !is_over.load(Ordering::Relaxed) {
        for (n, stream) in held.iter_mut().enumerate() {
            if stream.write(b"x").is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                *stream = begin(n)?;
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// The 99th percentile of a connect, in milliseconds.
fn probe(from: Ipv4Addr, to: SocketAddr, window: Duration) -> Result<f64> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < window {
        let connecting = Instant::now();
        if !connect(from, "hall", to)?.1 {
            return Err("a good client is refused".into());
        }
        took.push(connecting.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(percentile(&mut took, 99))
}

/// Sockets of one address, more than there are places.
fn places(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = start(sizes)?;
    let to = server.address();
    let mut held = Vec::new();
    for _ in 0..sizes.places + sizes.places / 100 {
        let (stream, is_open) = connect(CROWDED, "hall", to)?;
        held.extend(is_open.then_some(stream));
    }
    let count = |is: &dyn Fn() -> Result<bool>| -> Result<f64> {
        let mut refused = 0;
        for _ in 0..50 {
            refused += usize::from(!is()?);
        }
        Ok(refused as f64)
    };
    let share = held.len() as f64 / sizes.places as f64;
    // They are lent: who comes from elsewhere calls them back.
    report.claim(
        "places that one address gets while no other asks, a part of all",
        "limit",
        share,
        Goal::AtMost(1.0),
    );
    let refused = count(&|| Ok(connect(ELSEWHERE, "hall", to)?.1))?;
    report.claim("refused of 50 that connect elsewhere", "limit", refused, Goal::AtMost(0.0));
    let refused = count(&|| is_well(CROWDED, to))?;
    report.claim(
        "refused of 50 health checks at that address",
        "limit",
        refused,
        Goal::AtMost(0.0),
    );
    Ok(())
}

/// Newcomers of a room that one client floods.
fn flooded_room(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = start(sizes)?;
    let (to, is_over) = (server.address(), AtomicBool::new(false));
    let (refused, mut took) = thread::scope(|scope| {
        let flooder = scope.spawn(|| keep_busy("flooded", to, &is_over));
        let newcomers = || -> Result<(usize, Vec<f64>)> {
            thread::sleep(sizes.window);
            let (mut refused, mut took) = (0, Vec::new());
            for _ in 0..NEWCOMERS {
                let begun = Instant::now();
                refused += usize::from(!connect(ELSEWHERE, "flooded", to)?.1);
                took.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            Ok((refused, took))
        };
        let seen = newcomers();
        is_over.store(true, Ordering::Relaxed);
        flooder.join().expect("no panic")?;
        seen
    })?;
    let measure = "flooder: refused of 200 newcomers of its room";
    report.claim(measure, "limit", refused as f64, Goal::AtMost(0.0));
    let p99 = vec![percentile(&mut took, 99)];
    report.claim_each("flooder: p99 of a newcomer's connect, ms", "limit", p99, None);
    Ok(())
}

/// Says what costs the room its time, as fast as it is taken.
fn keep_busy(room: &str, to: SocketAddr, is_over: &AtomicBool) -> Result<()> {
    let mut stream = open(room, to)?;
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    let flood = frame(0x82, b"x").repeat(1000);
    let mut rest = &flood[..];
    while !is_over.load(Ordering::Relaxed) {
        // A frame that was begun has to be finished.
        match stream.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if rest.is_empty() {
            rest = &flood;
        }
    }
    Ok(())
}

/// The 99th percentile of an echo in a quiet room, in milliseconds.
fn busy_rooms(sizes: &Sizes, rooms: usize) -> Result<f64> {
    let server = start(sizes)?;
    let (to, is_over) = (server.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        for room in 0..rooms {
            let is_over = &is_over;
            scope.spawn(move || keep_busy(&format!("busy{room}"), to, is_over));
        }
        let echo = || -> Result<f64> {
            let quiet = |n| open(&format!("quiet{n}"), to);
            let mut quiet = (0..QUIET).map(quiet).collect::<Result<Vec<_>>>()?;
            let (begun, mut took) = (Instant::now(), Vec::new());
            for n in (0..QUIET).cycle() {
                if begun.elapsed() > 4 * sizes.window {
                    break;
                }
                let asked = Instant::now();
                quiet[n].write_all(&frame(0x81, b"?"))?;
                quiet[n].read_exact(&mut [0; 3])?;
                took.push(asked.elapsed().as_secs_f64() * 1e3);
                thread::sleep(Duration::from_millis(5));
            }
            Ok(percentile(&mut took, 99))
        };
        let p99 = echo();
        is_over.store(true, Ordering::Relaxed);
        p99
    })
}

/// A handshake; whether it was answered with 101.
fn connect(from: Ipv4Addr, room: &str, to: SocketAddr) -> Result<(TcpStream, bool)> {
    let mut stream = dial(from, to)?;
    let is_open = enter(&mut stream, room)?;
    Ok((stream, is_open))
}
