use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use partykit_core::Response;
use tracing::debug;

use super::{
    Front,
    arrival::boxed,
    head::{MAX_HEAD, MAX_HEADERS},
    unread::Unread,
};
use crate::{Listener, admitted::Admitted, ingress::Ingress, limits::Place, rewind::Rewind};

/// A connection that does not begin with an accepted handshake.
pub(super) struct Http<L: Listener> {
    pub(super) io: Admitted<L::Io>,
    /// What was read from it, to be read again.
    pub(super) read: Bytes,
    pub(super) place: Arc<Place>,
    pub(super) ingress: Ingress,
    /// The answer to the first request, if it was made already.
    pub(super) answer: Option<Response>,
}

impl<L: Listener> Http<L> {
    /// Serves it with hyper until it ends or becomes a WebSocket. The future is boxed: most connections are
    /// WebSockets from the beginning, and need no space for it.
    pub(super) fn serve(self, front: Arc<Front>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { io, read, place, ingress, answer } = self;
            let first = Mutex::new(answer);
            let unread = Arc::new(Unread::default());
            let (server, answers, client) = (front.clone(), unread.clone(), place.clone());
            let service = service_fn(move |request: http::Request<Incoming>| {
                let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (front, answers, client) = (server.clone(), answers.clone(), client.clone());
                async move {
                    let response = match first {
                        Some(response) => response,
                        None => {
                            let place = Some(client.clone());
                            front.clone().answer_http(boxed(request), ingress, place).await
                        }
                    };
                    Ok::<_, Infallible>(answers.count(response, &front.answers, client.address()))
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(front.clients.patience())
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(Rewind::new(read, io)), service)
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
                () = front.shutdown.wants_none() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                debug!("an HTTP connection failed: {error}");
            }
        })
    }
}
