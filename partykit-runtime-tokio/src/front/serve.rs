use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, warn};

use super::{Front, arrival::boxed, unread::Unread};
use crate::{
    Listener,
    listen::{Ingress, release},
    shutdown::{Alive, Stage},
};

/// How many headers a request may have.
const MAX_HEADERS: usize = 100;

/// How many bytes the head of a request may have.
const MAX_HEAD: usize = 16 * 1024;

/// The pause when no connection can be accepted, for example because no descriptors are left. Other
/// connections may end meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// Accepts connections until the runtime shuts down.
pub(crate) async fn accept<L: Listener>(front: Arc<Front>, mut listener: L) {
    let is_encrypted = listener.is_encrypted();
    let mut stopping = pin!(front.shutdown.reached(Stage::Stopping));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, peer)) => {
                let alive = front.shutdown.http();
                let release = release::<L>;
                let ingress = Ingress { peer, is_encrypted, keeps_extensions: false, release };
                tokio::spawn(serve(front.clone(), io, L::reset, ingress, alive));
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!("a connection was gone before it was accepted: {error}");
            }
            Err(error) => {
                warn!("cannot accept connections: {error}; trying again in {PAUSE:?}");
                tokio::select! {
                    () = &mut stopping => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Serves one connection until it ends or becomes a WebSocket.
async fn serve<I>(front: Arc<Front>, io: I, reset: fn(&I), ingress: Ingress, _alive: Alive)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = ingress.peer.map(|peer| peer.ip());
    // A trusted proxy names its client only in the request, so its own address does not count.
    let address = peer.filter(|_| !front.proxies.trusts(peer));
    let (io, place) = match front.clients.admit(io, address) {
        Ok((io, place)) => (io.resets(reset), place),
        Err(io) => {
            front.refusals.log_crowded();
            return front.clients.refuse(io).await;
        }
    };
    let patience = front.clients.patience();
    let (listening, evicted) = place.listen();
    let listening = Mutex::new(Some(listening));
    let shutdown = front.shutdown.clone();
    let unread = Arc::new(Unread::default());
    let (answers, client) = (unread.clone(), place.clone());
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        drop(listening.lock().unwrap_or_else(PoisonError::into_inner).take());
        request.extensions_mut().insert(client.clone());
        let (front, answers, client) = (front.clone(), answers.clone(), client.clone());
        async move {
            let response = front.clone().answer(boxed(request), ingress).await;
            Ok::<_, Infallible>(answers.count(response, &front.answers, client.address()))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();

    let mut connection = pin!(connection);
    let ended = tokio::select! {
        // The connection is polled first: it may begin an answer, which `lost` then watches.
        biased;
        ended = connection.as_mut() => ended,
        () = unread.lost() => {
            place.give_up();
            return debug!("a client that had not read its answer made space for others");
        }
        () = evicted.wait() => {
            return debug!("closed the oldest client that has sent no request, to make space for another");
        }
        () = shutdown.reached(Stage::Stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("an HTTP connection failed: {error}");
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
