use std::{
    io, mem,
    os::fd::OwnedFd,
    process,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use partykit_core::{
    RoomAddress, RoomId,
    runtime::{Attachment, CloseReason, Resumed, Socket},
};
use tokio::net::UnixStream;
use tracing::{debug, error, info, warn};

use super::{
    message::{Given, Hello, Ready, Record, Taken, Welcome, receive, send},
    quiet::{Sockets, place, revive},
    successor,
    wire::Wire,
};
use crate::{
    Listener,
    admitted::Admitted,
    front::Front,
    ingress::{Transport, carry},
    limits::Place,
    party::Party,
    socket::Arrived,
    tcp::{Door, Tcp},
};

/// How long the old process may take to answer, and to stop everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The exit code of a process that was to take over and cannot: `EX_CONFIG` of `sysexits.h`.
const CANNOT: i32 = 78;

/// What the old process gave before it stopped: a connection to it, and its listeners.
struct Predecessor {
    wire: Option<Wire>,
    listeners: Vec<OwnedFd>,
}

/// The process before this one. Found when it is first asked for.
fn predecessor() -> Option<MutexGuard<'static, Predecessor>> {
    static FOUND: OnceLock<Option<Mutex<Predecessor>>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let stream = successor::given().unwrap_or_else(|error| cannot(&error.to_string()))?;
        let (wire, listeners) = greet(stream).unwrap_or_else(|error| cannot(&error.to_string()));
        Some(Mutex::new(Predecessor { wire: Some(wire), listeners }))
    });
    found.as_ref().map(|found| found.lock().unwrap_or_else(PoisonError::into_inner))
}

fn greet(stream: std::os::unix::net::UnixStream) -> io::Result<(Wire, Vec<OwnedFd>)> {
    let mut wire = Wire::new(stream)?;
    wire.patience(PATIENCE)?;
    Hello { release: env!("CARGO_PKG_VERSION").to_owned() }.send(&mut wire)?;
    match receive(&mut wire)? {
        (Welcome::Come, listeners) => Ok((wire, listeners)),
        (Welcome::Go(why), _) => cannot(&why),
    }
}

/// Ends this process: it was started to take over, so it has nothing else to do. The old one goes on.
fn cannot(why: &str) -> ! {
    error!("this process was to take over from another one, and cannot: {why}");
    process::exit(CANNOT)
}

/// A listener of the process before this one.
pub(crate) fn inherited(is_it: &dyn Fn(&OwnedFd) -> bool) -> Option<OwnedFd> {
    let mut predecessor = predecessor()?;
    let at = predecessor.listeners.iter().position(is_it)?;
    Some(predecessor.listeners.remove(at))
}

/// The old process, which still serves.
pub(crate) struct Held {
    wire: Wire,
    ready: Ready,
    /// The rooms whose alarms are parked then.
    park: Vec<RoomAddress>,
}

impl Held {
    /// `None` if this process takes nothing over.
    pub(crate) fn find(parties: Vec<String>, store: Option<String>) -> Option<Self> {
        let wire = predecessor()?.wire.take()?;
        Some(Self { wire, ready: Ready { parties, store }, park: Vec::new() })
    }

    pub(crate) fn and_park(self, park: Vec<RoomAddress>) -> Self {
        Self { park, ..self }
    }

    /// Has the old process stop everything and give it to this one, and lets it go on. The store is opened in
    /// between. Call this when nothing else can fail: clients wait.
    ///
    /// # Errors
    ///
    /// When that is not possible. The old process goes on.
    pub(crate) async fn take(mut self, front: &Arc<Front>) -> io::Result<()> {
        let (making, park) = (Making::new(front.clone()), mem::take(&mut self.park));
        // It waits for the old process most of the time.
        let taking = tokio::task::spawn_blocking(move || self.take_all(making));
        let Making { rooms, sockets, .. } = taking.await.map_err(io::Error::other)??;
        if let Some(mut predecessor) = predecessor() {
            predecessor.listeners.clear();
        }
        let (count, begin) = (sockets.len(), Instant::now());
        info!(connections = count, rooms = rooms.len(), "took over from the process before");
        revive(&front.host, &front.shutdown, (rooms, sockets), park);
        debug!(took = ?begin.elapsed(), "all rooms and sockets go on");
        Ok(())
    }

    fn take_all(self, mut making: Making) -> io::Result<Making> {
        let Self { mut wire, ready, .. } = self;
        send(&mut wire, &ready, &[])?;
        loop {
            match receive(&mut wire).unwrap_or_else(|error| cannot(&error.to_string())) {
                (Given::Batch(records), descriptors) if records.len() == descriptors.len() => {
                    for (record, descriptor) in records.into_iter().zip(descriptors) {
                        making.add(&record, descriptor)?;
                    }
                }
                (Given::End, _) => break,
                (Given::Never(why), _) => cannot(&why),
                _ => return Err(io::Error::other("a message of another kind")),
            }
        }
        debug!("all sockets have come");
        if let Some(store) = making.front.host.store() {
            store.reopen().map_err(io::Error::other)?;
        }
        debug!("all sockets are here: telling the process before");
        match send(&mut wire, &Taken, &[]).and_then(|()| receive(&mut wire)) {
            // Invariant: an old process that gives up kills this one before it closes the connection. So
            // here it has died, and no other process has the sockets.
            Err(error) if is_end(&error) => Ok(making),
            Err(error) => Err(error),
            Ok((Given::Yours, _)) => Ok(making),
            Ok((Given::Never(why), _)) => Err(io::Error::other(why)),
            Ok(_) => Err(io::Error::other("an answer of another kind")),
        }
    }
}

/// Whether the other end is gone.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Rooms and sockets that are made of records, and do nothing yet.
struct Making {
    front: Arc<Front>,
    rooms: Vec<(RoomAddress, Vec<Resumed>)>,
    sockets: Sockets,
}

impl Making {
    fn new(front: Arc<Front>) -> Self {
        Self { front, rooms: Vec::new(), sockets: Sockets::new() }
    }

    fn add(&mut self, record: &Record, descriptor: OwnedFd) -> io::Result<()> {
        let party = self.front.host.party(&record.party);
        let party = party.ok_or_else(|| io::Error::other("a room of an unknown party"))?;
        let room = RoomId::new(record.room.as_str()).map_err(io::Error::other)?;
        let address = RoomAddress::new(party.name().clone(), room);
        let attachment = Attachment::decode(&record.attachment).map_err(io::Error::other)?;
        let arrived = match open(&self.front, party, descriptor, record)? {
            Ok(arrived) => arrived,
            Err(reason) => {
                let (party, room) = (address.party(), address.room().as_str());
                warn!(
                    party,
                    room,
                    "dropped a client whose message is over a limit of this process: {reason:?}"
                );
                return Ok(());
            }
        };
        let socket: Arc<dyn Socket> = arrived.link().clone();
        self.sockets.insert(place(&socket), arrived);
        let closing = record.socket.closing.is_some();
        let resumed = Resumed { attachment, socket, closing };
        // The sockets of a room come one after another.
        match self.rooms.last_mut().filter(|(last, _)| *last == address) {
            Some((_, records)) => records.push(resumed),
            None => self.rooms.push((address, vec![resumed])),
        }
        Ok(())
    }
}

/// Counts the client, and makes a socket of its descriptor. The inner error is about its unfinished message.
fn open(
    front: &Arc<Front>,
    party: &Party,
    descriptor: OwnedFd,
    record: &Record,
) -> io::Result<Result<Arrived, CloseReason>> {
    let (settings, socket) = (party.link(), &record.socket);
    if record.is_unix {
        let stream = std::os::unix::net::UnixStream::from(descriptor);
        let io = carried::<tokio::net::UnixListener>(front, UnixStream::from_std(stream)?, record)?;
        return Ok(Arrived::new(io, socket, settings));
    }
    let stream = std::net::TcpStream::from(descriptor);
    if settings.reactor.is_some() {
        // Tokio never has it.
        let (_, place) = admit(front, (), record)?;
        return Ok(Arrived::plain(stream, place, socket, settings));
    }
    let io = carried::<Door>(front, Tcp::new(stream), record)?;
    Ok(Arrived::new(io, socket, settings))
}

/// Makes a stream what a listener of this kind would have made of it.
fn carried<L: Listener>(
    front: &Arc<Front>,
    stream: L::Io,
    record: &Record,
) -> io::Result<Transport> {
    let (io, _) = admit(front, stream, record)?;
    Ok(carry::<L>(io.resets(L::reset)))
}

/// Counts the client.
fn admit<I>(front: &Arc<Front>, io: I, record: &Record) -> io::Result<(Admitted<I>, Arc<Place>)> {
    let admitted = front.clients.admit(io, record.socket.address);
    admitted.map_err(|_| io::Error::other("there are more clients than places"))
}
