//! How much later a message is answered by a room that has to wake for it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use bench_party::{ANSWER, ECHO};
use partykit::Result;

use super::Sizes;
use crate::{
    child::{Allocator, Server},
    protocol::{CLOSE, SERVER_FRAME, client_close, client_frame, handshake},
    report::{Goal, Report, percentile},
    server::Kind,
};

/// The pause before a message.
const REST: Duration = Duration::from_millis(2);

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Server::start(Kind::PartyKit, Allocator::Jemalloc)?;
    let mut rooms = Vec::new();
    for room in 0..sizes.wake_rooms {
        let name = format!("room-{room}");
        let caller = Caller::connect(server.address(), &name)?;
        let silent = Caller::connect(server.address(), &name)?;
        rooms.push((name, caller, silent));
    }
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..sizes.wakes {
        for (room, caller, _) in &mut rooms {
            cold.push(sample(&mut server, caller, room, true)?);
            // Not counted: it finds caches as the wake has left them.
            caller.ask()?;
            warm.push(sample(&mut server, caller, room, false)?);
        }
    }
    let cold_median = percentile(&mut cold, 50);
    let warm_median = percentile(&mut warm, 50);
    let kind = Kind::PartyKit;
    report.record("wake: answer of a sleeping room, p50, µs", kind, cold_median);
    report.record("wake: answer of a sleeping room, p99, µs", kind, percentile(&mut cold, 99));
    report.record("wake: answer of an awake room, p50, µs", kind, warm_median);
    report.record("wake: answer of an awake room, p99, µs", kind, percentile(&mut warm, 99));
    let added = (cold_median - warm_median) / warm_median;
    report.claim("wake: latency added, p50", "an awake room's echo", added, Goal::Below(3.0));
    Ok(())
}

/// Asks a room that sleeps, or one that does not, and sees to it that it was so. In microseconds.
fn sample(server: &mut Server, caller: &mut Caller, room: &str, sleeps: bool) -> Result<f64> {
    let expected = if sleeps { "asleep" } else { "awake" };
    let question = if sleeps { "evict" } else { "phase" };
    let phase = server.ask(&format!("{question} {room}"))?;
    if phase != expected {
        return Err(format!("{room} should be {expected} and is {phase}").into());
    }
    let before = server.count("starts")?;
    // Whichever question came last, the server's threads have gone to rest again.
    thread::sleep(REST);
    let (took, _) = caller.ask()?;
    let started = server.count("starts")? - before;
    if started != u64::from(sleeps) {
        return Err(format!("{room} was {expected}, and on_start ran {started} times").into());
    }
    Ok(took.as_secs_f64() * 1e6)
}

/// A client that waits for its answers.
pub(super) struct Caller(TcpStream);

impl Caller {
    pub(super) fn connect(address: SocketAddr, room: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(handshake(room).as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        match head.starts_with(b"HTTP/1.1 101 ") {
            true => Ok(Self(stream)),
            false => Err(String::from_utf8_lossy(&head).into()),
        }
    }

    /// How long the answer took, and which instance of the room gave it: `FIRST` or `LATER`.
    pub(super) fn ask(&mut self) -> Result<(Duration, u8)> {
        let (question, mut answer) = (client_frame(ECHO), [0; SERVER_FRAME]);
        let begun = Instant::now();
        self.0.write_all(&question)?;
        self.0.read_exact(&mut answer)?;
        let took = begun.elapsed();
        match answer[2] {
            ANSWER => Ok((took, answer[3])),
            other => Err(format!("an answer of the kind {other:#x}").into()),
        }
    }

    /// Closes, and waits until the server has answered that.
    pub(super) fn leave(mut self) -> Result<()> {
        self.0.write_all(&client_close())?;
        let mut answer = [0; 2];
        self.0.read_exact(&mut answer)?;
        match answer[0] {
            CLOSE => Ok(()),
            other => Err(format!("a frame that begins with {other:#x}").into()),
        }
    }
}
