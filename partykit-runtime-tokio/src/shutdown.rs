use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use partykit_core::{Close, CloseCode, Connection, runtime::RoomCell};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use crate::host::TokioHost;

/// How long running handlers may take to end, and open responses. A handler's own limit, unless
/// changed.
const HANDLERS: Duration = Duration::from_secs(30);

/// How long clients may take to answer their Close, and responses on their way to arrive.
const CLIENTS: Duration = Duration::from_secs(10);

/// Brings a runtime down in good order, once.
#[derive(Debug)]
pub(crate) struct Shutdown {
    stage: watch::Sender<Stage>,
    /// Nothing is sent on these. Whoever holds a receiver is waited for.
    http: watch::Sender<()>,
    sockets: watch::Sender<()>,
    spread: Duration,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    Stopping,
    Stopped,
}

/// Something that a shutdown waits for, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alive(#[allow(dead_code, reason = "held, not read")] watch::Receiver<()>);

impl Shutdown {
    pub(crate) fn new(spread: Duration) -> Self {
        Self {
            stage: watch::Sender::new(Stage::Serving),
            http: watch::Sender::new(()),
            sockets: watch::Sender::new(()),
            spread,
        }
    }

    /// An HTTP connection.
    pub(crate) fn http(&self) -> Alive {
        Alive(self.http.subscribe())
    }

    /// A WebSocket.
    pub(crate) fn socket(&self) -> Alive {
        Alive(self.sockets.subscribe())
    }

    /// Whether it has begun.
    pub(crate) fn is_under_way(&self) -> bool {
        *self.stage.borrow() >= Stage::Stopping
    }

    /// Ends when the shutdown is at this stage.
    pub(crate) fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + use<'_> {
        let mut stages = self.stage.subscribe();
        async move {
            // The sender is `self`, so it lives.
            let _ = stages.wait_for(|now| *now >= stage).await;
        }
    }

    /// Shuts down, or waits for somebody else's shutdown to end. Goes on when this future is dropped.
    pub(crate) async fn run(self: &Arc<Self>, host: &Arc<TokioHost>) {
        let begins = self.stage.send_if_modified(|stage| {
            let begins = *stage == Stage::Serving;
            if begins {
                *stage = Stage::Stopping;
            }
            begins
        });
        if begins {
            let (shutdown, registry) = (self.clone(), host.clone());
            host.tokio().spawn(async move { shutdown.bring_down(&registry).await });
        }
        self.reached(Stage::Stopped).await;
    }

    async fn bring_down(&self, host: &TokioHost) {
        info!("shutting down");
        host.alarms().stop();
        let rooms = host.registry().close();
        let drained = join_all(rooms.iter().map(RoomCell::drain));
        if timeout(HANDLERS, drained).await.is_err() {
            warn!("handlers still run after {HANDLERS:?}; going down nevertheless");
        }
        self.close_sockets(&rooms).await;
        if timeout(CLIENTS, async { tokio::join!(self.http.closed(), self.sockets.closed()) })
            .await
            .is_err()
        {
            let (http, sockets) = (self.http.receiver_count(), self.sockets.receiver_count());
            warn!(http, sockets, "connections are still open after {CLIENTS:?}");
        }
        host.registry().clear();
        host.parties().for_each(|party| party.meter().stopped());
        self.stage.send_replace(Stage::Stopped);
        debug!("shut down");
    }

    /// Closes all sockets, one after another over the spread, so that not all clients come back at once.
    async fn close_sockets(&self, rooms: &[Arc<RoomCell>]) {
        let connections: Vec<Connection> =
            rooms.iter().flat_map(|room| room.connections().to_vec()).collect();
        let count = u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1);
        let (begin, step) = (Instant::now(), self.spread / count);
        let Ok(close) = Close::new(CloseCode::RESTART, "the server restarts") else { return };
        for (n, connection) in (0..).zip(&connections) {
            sleep_until(begin + step * n).await;
            connection.socket().close(close.clone());
            connection.socket().flush();
        }
    }
}
