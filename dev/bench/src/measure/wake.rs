//! How much later a message is answered by a room that has to wake for it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use bench_party::{ANSWER, BROADCAST, ECHO};
use partykit::Result;

use super::{Sizes, hall, own_room};
use crate::{
    child::{Allocator, Server},
    crowd::Crowd,
    protocol::{CLOSE, SERVER_FRAME, client_close, client_frame, handshake},
    report::{Goal, Report, percentile},
    server::Kind,
};

/// The pause before a message.
const REST: Duration = Duration::from_millis(2);

/// The two that are compared.
pub(super) const COLD: &str = OF_ONE.0[0];
pub(super) const WARM: &str = OF_ONE.0[2];

/// Half of the answers of a room that sleeps come sooner than that, and nearly all of them; then the same of
/// one that is awake.
struct Names([&'static str; 4]);

const OF_ONE: Names = Names([
    "wake: answer of a sleeping room, p50, µs",
    "wake: answer of a sleeping room, p99, µs",
    "wake: answer of an awake room, p50, µs",
    "wake: answer of an awake room, p99, µs",
]);

const OF_MANY: Names = Names([
    "wake: answer of a sleeping room of many connections, p50, µs",
    "wake: answer of a sleeping room of many connections, p99, µs",
    "wake: answer of an awake room of many connections, p50, µs",
    "wake: answer of an awake room of many connections, p99, µs",
]);

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let ratio = turn(Kind::PartyKit, sizes, report)?;
    let measure = "wake: answer of a sleeping room with one connection, p50";
    report.claim(measure, "an awake room's answer", ratio, Goal::AtMost(1.25));
    of_many(sizes, report)
}

/// Rooms of one, with a server that is started for it. By how much the first answer takes longer.
pub(super) fn turn(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<f64> {
    let mut server = Server::start(kind, Allocator::Jemalloc)?;
    let mut rooms = Vec::new();
    for room in 0..sizes.wake_rooms {
        let name = own_room(room);
        let caller = Caller::connect(server.address(), &name)?;
        rooms.push((name, caller));
    }
    wake(kind, &mut server, &mut rooms, sizes.wakes, &OF_ONE, report)
}

fn of_many(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let kind = Kind::PartyKit;
    let mut server = Server::start(kind, Allocator::Jemalloc)?;
    let mut crowd = Crowd::new()?;
    crowd.connect(server.address(), sizes.crowd - 1, hall)?;
    let mut room = [(hall(0), Caller::connect(server.address(), &hall(0))?)];
    let ratio = wake(kind, &mut server, &mut room, sizes.wakes_of_many, &OF_MANY, report)?;
    let measure = "wake: answer of a sleeping room with many connections, p50";
    report.claim(measure, "an awake room's answer", ratio, Goal::AtMost(2.0));
    // All of them are still there.
    crowd.say(0, BROADCAST)?;
    crowd.expect(0, crowd.len() as u64 - 1)?;
    Ok(())
}

/// How much longer the first answer takes.
fn wake(
    kind: Kind,
    server: &mut Server,
    rooms: &mut [(String, Caller)],
    wakes: usize,
    names: &Names,
    report: &mut Report,
) -> Result<f64> {
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..wakes {
        for (room, caller) in &mut *rooms {
            cold.push(sample(server, caller, room, true)?);
            // Not counted: it finds caches as the wake has left them.
            caller.ask()?;
            warm.push(sample(server, caller, room, false)?);
        }
    }
    let late = [&mut cold, &mut warm].map(|samples| percentile(samples, 99));
    let [cold, warm] = [&mut cold, &mut warm].map(|samples| percentile(samples, 50));
    for (measure, value) in names.0.into_iter().zip([cold, late[0], warm, late[1]]) {
        report.record(measure, kind, value);
    }
    Ok(cold / warm)
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
