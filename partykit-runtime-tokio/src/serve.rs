use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use crate::{
    front::Front,
    shutdown::{Alive, Stage},
};

/// How many headers a request may have.
const MAX_HEADERS: usize = 100;

/// How many bytes the head of a request may have.
const MAX_HEAD: usize = 16 * 1024;

/// How long to wait when no connection can be accepted, because there are no descriptors left for
/// example. The ones there are may end meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes connections in until the runtime shuts down.
pub(crate) async fn accept(front: &Arc<Front>, listener: TcpListener) {
    let mut stopping = pin!(front.shutdown.reached(Stage::Stopping));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let alive = front.shutdown.http();
                tokio::spawn(serve(front.clone(), stream, peer, alive));
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!("a connection was gone before it was accepted: {error}");
            }
            Err(error) => {
                warn!("no connection can be accepted, pausing for {PAUSE:?}: {error}");
                tokio::select! {
                    () = &mut stopping => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// One connection, until it ends or becomes a WebSocket.
async fn serve(front: Arc<Front>, stream: TcpStream, peer: SocketAddr, _alive: Alive) {
    // Without it small frames would wait for the acknowledgement of those before.
    if let Err(error) = stream.set_nodelay(true) {
        debug!("TCP_NODELAY cannot be set: {error}");
    }
    let stream = match front.admission.admit(stream) {
        Ok(stream) => stream,
        Err(stream) => {
            debug!("a client too many is refused");
            return front.admission.refuse(stream).await;
        }
    };
    let deadline = Instant::now() + front.admission.patience();
    let Ok(beginning) = timeout_at(deadline, front.admission.begin(Some(peer.ip()))).await else {
        return debug!("a client's turn did not come in time");
    };
    let beginning = Mutex::new(Some(beginning));
    let shutdown = front.shutdown.clone();
    let service = service_fn(move |request| {
        drop(beginning.lock().unwrap_or_else(PoisonError::into_inner).take());
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadline - Instant::now())
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();

    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.reached(Stage::Stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("an HTTP connection ended badly: {error}");
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
