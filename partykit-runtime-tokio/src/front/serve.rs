use std::{
    future::{pending, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::yield_now,
    time::timeout,
};
use tracing::{debug, warn};

use super::{
    Answer, Front,
    arrival::{Arrival, no_body},
    head::{First, Head, Reading},
    http1::Http,
    young::{Young, grown_up, in_own_task, own_task},
};
use crate::{
    Listener,
    admitted::Admitted,
    ingress::{Ingress, carry, release},
    limits::Place,
    shutdown::{Alive, Stage},
    socket::scratch,
};

/// The pause when no connection can be accepted, for example because no descriptors are left. Other
/// connections may end meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a hand-over waits for a request that has begun.
const BEGUN: Duration = Duration::from_millis(300);

/// How many bytes a client may send behind its handshake before it is answered. It has to wait for the 101, so
/// nearly no client sends any.
const EARLY: usize = 8 << 10;

/// How connections are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// The accepting task itself reads what a client has sent, and goes on with a handshake.
    #[cfg(unix)]
    Serves,
    /// Each connection has a task from its beginning, because the first read may take long.
    Spawns,
}

/// Accepts connections until the runtime shuts down.
pub(crate) async fn accept<L: Listener>(front: Arc<Front>, mut listener: L, accepting: Accepting) {
    let is_encrypted = listener.is_encrypted();
    let mut young = Young::new();
    let mut wants_none = pin!(front.shutdown.wants_none());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut wants_none => {
                wants_none.set(front.shutdown.wants_none());
                young.let_go();
                // A shutdown closes the listener, so that clients which come back are refused at once and try again.
                // A listener of systemd, or of the next process, stays open with them.
                tokio::select! {
                    biased;
                    () = front.shutdown.reached(Stage::Stopping) => return,
                    () = front.shutdown.goes_on() => continue,
                }
            }
            accepted = listener.accept() => accepted,
            () = poll_fn(|cx| young.poll(cx)) => continue,
        };
        match accepted {
            Ok((io, peer)) => {
                let alive = front.shutdown.http();
                let release = release::<L>;
                let ingress = Ingress { peer, is_encrypted, keeps_extensions: false, release };
                let serving = serve::<L>(front.clone(), io, ingress, alive);
                match accepting {
                    #[cfg(unix)]
                    Accepting::Serves => young.begin(serving).await,
                    Accepting::Spawns => drop(tokio::spawn(serving)),
                }
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!("a connection was gone before it was accepted: {error}");
            }
            Err(error) => {
                warn!("cannot accept connections: {error}; trying again in {PAUSE:?}");
                tokio::select! {
                    () = front.shutdown.wants_none() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Serves one connection until it ends or becomes a WebSocket.
async fn serve<L: Listener>(front: Arc<Front>, io: L::Io, ingress: Ingress, _alive: Alive) {
    let peer = ingress.peer.map(|peer| peer.ip());
    // A trusted proxy names its client only in the request, so its own address does not count.
    let address = peer.filter(|_| !front.proxies.trusts(peer));
    let (mut io, place) = match front.clients.admit(io, address) {
        Ok((io, place)) => (io.resets(L::reset), place),
        Err(io) => {
            front.refusals.log_crowded();
            return in_own_task(true, front.clients.refuse(io)).await;
        }
    };
    let Some(first) = begin(&front, &mut io, &place).await else { return };
    let (read, answer) = match first {
        First::Other(read) => (read, None),
        First::Handshake(head) => {
            let Head { parts, host, bytes, rest } = head;
            let place = Some(place.clone());
            let arrival = Arrival::new(parts, host, no_body(), place, ingress, &front.proxies);
            let mut early = Early { read: rest };
            let answer = tokio::select! {
                biased;
                answer = front.answer(arrival) => answer,
                () = early.wait_for_end_later(&mut io) => {
                    return debug!("the client left before the upgrade");
                }
            };
            match answer {
                Answer::WebSocket(switch) => {
                    return match switch.send(&mut io).await {
                        Ok(()) => switch.start(carry::<L>(io), early.read),
                        Err(error) => debug!("the client left before the upgrade: {error}"),
                    };
                }
                Answer::Http(response) => ([bytes, early.read].concat().into(), Some(*response)),
            }
        }
    };
    in_own_task(true, Http::<L> { io, read, place, ingress, answer }.serve(front)).await;
}

/// Reads the first head. `None` if the connection has to end.
async fn begin<I: AsyncRead + Unpin>(
    front: &Front,
    io: &mut Admitted<I>,
    place: &Arc<Place>,
) -> Option<First> {
    let mut reading = Reading::default();
    let arrived = poll_fn(|cx| Poll::Ready(reading.poll(io, cx)));
    let read = match arrived.await {
        Poll::Ready(read) => read,
        Poll::Pending => {
            own_task().await;
            // Until the head is whole, other clients may need the place.
            let (_listening, evicted) = place.listen();
            let whole = poll_fn(|cx| reading.poll(io, cx));
            tokio::select! {
                biased;
                read = timeout(front.clients.patience(), whole) => {
                    read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                }
                () = evicted.wait() => {
                    debug!("closed the oldest client that has sent no request, to make space for another");
                    return None;
                }
                () = wants_no_head(front) => Ok(reading.give_up()),
            }
        }
    };
    read.inspect_err(|error| debug!("an HTTP connection failed: {error}")).ok()
}

/// Waits until the runtime is to wait for this head no longer.
async fn wants_no_head(front: &Front) {
    front.shutdown.wants_none().await;
    if !front.shutdown.is_under_way() {
        // A hand-over: the client may have connected just now.
        tokio::select! {
            () = front.shutdown.reached(Stage::Stopping) => {}
            () = tokio::time::sleep(BEGUN) => {}
        }
    }
}

/// What a client sends before its handshake is answered.
struct Early {
    read: Bytes,
}

impl Early {
    /// The same, once the tasks that are ready now have run: most rooms answer at once, and then nothing has to
    /// watch the connection.
    async fn wait_for_end_later(&mut self, io: &mut (impl AsyncRead + Unpin)) {
        grown_up().await;
        yield_now().await;
        self.wait_for_end(io).await;
    }

    /// Waits until the client has hung up. Looks no further than a client may read ahead.
    async fn wait_for_end(&mut self, io: &mut (impl AsyncRead + Unpin)) {
        if self.read.is_empty() {
            let read = poll_fn(|cx| {
                scratch::with(|buffer| {
                    let mut buffer = ReadBuf::new(&mut buffer[..EARLY]);
                    ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
                    Poll::Ready(Ok::<_, io::Error>(Bytes::copy_from_slice(buffer.filled())))
                })
            });
            match read.await {
                Ok(read) if !read.is_empty() => self.read = read,
                _ => return,
            }
        }
        pending::<()>().await;
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
