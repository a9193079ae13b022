use std::{
    future::{pending, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use partykit_core::Response;
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::yield_now,
    time::timeout,
};
use tracing::debug;

use super::{
    Answer, Front, Now, Waits,
    arrival::{Arrival, no_body},
    head::{First, Head, Reading},
    http1::Http,
    young::{grown_up, in_own_task, own_task},
};
use crate::{
    Listener,
    admitted::Admitted,
    ingress::{Ingress, carry},
    limits::Place,
    shutdown::{Alive, Stage},
    socket::scratch,
};

/// How long a hand-over waits for a request that has begun.
const BEGUN: Duration = Duration::from_millis(300);

/// How many bytes a client may send behind its handshake before it is answered. It has to wait for the 101, so
/// nearly no client sends any.
const EARLY: usize = 8 << 10;

/// What is left to do for a client. `None` if nothing is.
pub(super) type Rest = Option<BoxFuture<'static, ()>>;

/// Serves a connection until it ends or becomes a WebSocket. Does at once what needs no waiting.
///
/// This is a plain function, and no future, because most of what it uses is used up when it returns: a future would
/// be large, and moved several times.
pub(super) fn serve<L: Listener>(
    front: &Arc<Front>,
    io: L::Io,
    ingress: Ingress,
    alive: Alive,
    cx: &mut Context<'_>,
) -> Rest {
    let peer = ingress.peer.map(|peer| peer.ip());
    // A trusted proxy names its client only in the request, so its own address does not count.
    let address = peer.filter(|_| !front.proxies.trusts(peer));
    let front = front.clone();
    match front.clients.admit(io, address) {
        Ok((io, place)) => {
            let io = io.resets(L::reset);
            Client::<L> { front, io, place, ingress, alive }.begin(cx)
        }
        Err(io) => {
            front.refusals.log_crowded();
            let refusing = async move {
                front.clients.refuse(io).await;
                drop(alive);
            };
            Some(Box::pin(in_own_task(true, refusing)))
        }
    }
}

/// A client that has a place, and no answer yet.
struct Client<L: Listener> {
    front: Arc<Front>,
    io: Admitted<L::Io>,
    place: Arc<Place>,
    ingress: Ingress,
    alive: Alive,
}

impl<L: Listener> Client<L> {
    fn begin(mut self, cx: &mut Context<'_>) -> Rest {
        let mut reading = Reading::default();
        match reading.poll(&mut self.io, cx) {
            Poll::Ready(first) => self.heard(first),
            Poll::Pending => Some(Box::pin(async move {
                own_task().await;
                if let Some(first) = self.hear(reading).await
                    && let Some(rest) = self.heard(first)
                {
                    rest.await;
                }
            })),
        }
    }

    /// Waits for the rest of the head. `None` if the connection has to end.
    async fn hear(&mut self, mut reading: Reading) -> Option<io::Result<First>> {
        // Until the head is whole, other clients may need the place.
        let (_listening, evicted) = self.place.listen();
        let whole = poll_fn(|cx| reading.poll(&mut self.io, cx));
        tokio::select! {
            biased;
            first = timeout(self.front.clients.patience(), whole) => {
                Some(first.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
            }
            () = evicted.wait() => {
                debug!("closed the oldest client that has sent no request, to make space for another");
                None
            }
            () = wants_no_head(&self.front) => Some(Ok(reading.give_up())),
        }
    }

    fn heard(self, first: io::Result<First>) -> Rest {
        match first {
            Ok(First::Handshake(head)) => Some(self.handshake(head)),
            Ok(First::Other(read)) => Some(Box::pin(self.speak_http(read, None))),
            Err(error) => {
                debug!("an HTTP connection failed: {error}");
                None
            }
        }
    }

    fn handshake(self, head: Head) -> BoxFuture<'static, ()> {
        let Head { parts, bytes, rest } = head;
        let (place, front) = (Some(self.place.clone()), self.front.clone());
        let arrival = Arrival::new(parts, no_body(), place, self.ingress, &front.proxies);
        let early = Early { head: bytes, read: rest };
        match front.answer_now(arrival) {
            Now::Answered(answer) => Box::pin(self.finish(early, answer)),
            Now::Asked(waits) => Box::pin(self.wait_for_room(early, waits)),
            Now::Decided(decision, arrival, visit) => Box::pin(async move {
                let answer = front.act(decision, *arrival, visit);
                self.wait(early, answer).await;
            }),
        }
    }

    /// Waits for the room of a handshake.
    async fn wait_for_room(mut self, mut early: Early, waits: Waits) {
        let verdict = tokio::select! {
            biased;
            verdict = poll_fn(|cx| waits.asked.poll(cx)) => verdict,
            () = early.wait_for_end_later(&mut self.io) => {
                return debug!("the client left before the upgrade");
            }
        };
        let answer = self.front.answer_asked(waits, &verdict);
        self.finish(early, answer).await;
    }

    /// Waits for the answer to a handshake.
    async fn wait(mut self, mut early: Early, answer: impl Future<Output = Answer>) {
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = early.wait_for_end_later(&mut self.io) => {
                return debug!("the client left before the upgrade");
            }
        };
        self.finish(early, answer).await;
    }

    async fn finish(mut self, early: Early, answer: Answer) {
        match answer {
            Answer::WebSocket(switch) => match switch.send(&mut self.io).await {
                Ok(()) => switch.start(carry::<L>(self.io), early.read),
                Err(error) => debug!("the client left before the upgrade: {error}"),
            },
            Answer::Http(response) => {
                let read = [early.head, early.read].concat().into();
                self.speak_http(read, Some(*response)).await;
            }
        }
    }

    /// Has hyper go on. `read` is read again, and `answer` is the answer to the first request, if it is known.
    fn speak_http(
        self,
        read: Bytes,
        answer: Option<Response>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Self { front, io, place, ingress, alive } = self;
        let serving = Http::<L> { io, read, place, ingress, answer }.serve(front);
        in_own_task(true, async move {
            serving.await;
            drop(alive);
        })
    }
}

/// Waits until the runtime is to wait for a head no longer.
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
    /// The head of the handshake.
    head: Bytes,
    /// What came behind it.
    read: Bytes,
}

impl Early {
    /// Waits until the client has hung up, but not before the tasks that are ready now have run: most rooms answer at
    /// once, and then nothing has to watch the connection.
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
