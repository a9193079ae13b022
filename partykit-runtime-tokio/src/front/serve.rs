use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tracing::{debug, warn};

use super::{Front, client::serve, young::Young};
use crate::{
    Listener,
    ingress::{Ingress, release},
    shutdown::Stage,
};

/// The pause when no connection can be accepted, for example because no descriptors are left. Other
/// connections may end meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// How many clients are accepted at most before anything else is looked at.
const BATCH: usize = 64;

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
    // Polled only when it is woken, and not for each client.
    let mut wants_none = FuturesUnordered::from_iter([front.shutdown.wants_none()]);
    loop {
        let mut accepted = tokio::select! {
            biased;
            _ = wants_none.next() => {
                wants_none.push(front.shutdown.wants_none());
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
        for left in (0..BATCH).rev() {
            match accepted {
                Ok((io, peer)) => {
                    let (front, alive) = (front.clone(), front.shutdown.http());
                    let release = release::<L>;
                    let ingress = Ingress { peer, is_encrypted, keeps_extensions: false, release };
                    match accepting {
                        #[cfg(unix)]
                        Accepting::Serves => {
                            young.begin(|cx| serve::<L>(&front, io, ingress, alive, cx)).await;
                        }
                        Accepting::Spawns => drop(tokio::spawn(async move {
                            let mut arrived = Some((io, alive));
                            let begin = poll_fn(|cx| {
                                let arrived = arrived.take();
                                let begin =
                                    |(io, alive)| serve::<L>(&front, io, ingress, alive, cx);
                                Poll::Ready(arrived.and_then(begin))
                            });
                            if let Some(rest) = begin.await {
                                rest.await;
                            }
                        })),
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
                    break;
                }
            }
            if left == 0 {
                break;
            }
            let mut next = pin!(listener.accept());
            match poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
                Poll::Ready(next) => accepted = next,
                Poll::Pending => break,
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
