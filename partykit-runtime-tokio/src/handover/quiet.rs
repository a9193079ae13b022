use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use partykit_core::{
    Handler, RoomAddress,
    runtime::{CloseReason, Resumed, RoomCell, Socket},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, warn};

use crate::{
    host::TokioHost,
    ringer,
    shutdown::{Shutdown, Stage},
    socket::{Arrived, Left, Link, Out},
};

/// How long rooms without a running handler may take to go to sleep, and sockets to end their tasks.
const SHORT: Duration = Duration::from_secs(2);

/// The rooms and sockets of a runtime as data. Nothing of them runs.
pub(super) struct Quiet {
    rooms: Vec<(RoomAddress, Vec<Resumed>)>,
    sockets: Lefts,
}

/// By the address in memory of their links.
pub(super) type Lefts = HashMap<usize, Left>;
/// The same.
pub(super) type Sockets = HashMap<usize, Arrived>;

/// Rooms that did not come to rest, and what runs in them.
pub(super) type Busy = Vec<(RoomAddress, Option<Handler>)>;

impl Quiet {
    /// Stops everything: lets no client in, reads no socket, lets handlers end, and puts all rooms to sleep.
    ///
    /// # Errors
    ///
    /// When handlers do not end in time, or a shutdown begins. Then everything goes on as before.
    pub(super) async fn begin(
        host: &Arc<TokioHost>,
        shutdown: &Arc<Shutdown>,
    ) -> Result<Self, Busy> {
        let grace = shutdown.times().grace;
        // Sockets are served while requests end: a slow download holds up no socket.
        shutdown.pause(true);
        tokio::select! {
            ended = timeout(grace, shutdown.http_ended()) => if ended.is_err() {
                debug!("some HTTP connections did not end in {grace:?}");
            },
            () = shutdown.reached(Stage::Stopping) => {}
        }
        host.alarms().stop();
        let begin = Instant::now();
        let settling = async {
            match pause_sockets(host, begin + grace).await {
                Ok(()) => {
                    debug!(took = ?begin.elapsed(), "no socket is read any more");
                    settle(host, begin + grace).await
                }
                Err(()) => Err(Vec::new()),
            }
        };
        let settled = tokio::select! {
            biased;
            () = shutdown.reached(Stage::Stopping) => Err(Vec::new()),
            settled = settling => settled,
        };
        if let Err(busy) = settled {
            Self::go_on(host, shutdown);
            return Err(busy);
        }
        debug!(took = ?begin.elapsed(), "all handlers have ended");
        let rooms = host.registry().close();
        let drained = join_all(rooms.iter().map(|room| room.drain(Duration::ZERO)));
        if timeout(SHORT, drained).await.is_err() {
            warn!("a room did not go to sleep in {SHORT:?}");
        }
        debug!(took = ?begin.elapsed(), "all rooms sleep");
        let sockets = take_sockets(host).await;
        host.registry().clear();
        let rooms = rooms.into_iter().map(|room| {
            if let Some(party) = host.party(room.address().party()) {
                party.past().add(room.address().room(), &room.stats().account);
            }
            (room.address().clone(), room.records())
        });
        let rooms = rooms.collect();
        debug!(took = ?begin.elapsed(), sockets = sockets.len(), "everything is data");
        Ok(Self { rooms, sockets })
    }

    /// The connections that have a socket, with it.
    pub(super) fn connections(&self) -> impl Iterator<Item = (&RoomAddress, &Resumed, &Left)> {
        self.rooms.iter().flat_map(move |(address, records)| {
            records.iter().filter_map(move |record| {
                let left = self.sockets.get(&place(&record.socket))?;
                Some((address, record, left))
            })
        })
    }

    /// All sockets, without their rooms.
    pub(super) fn into_sockets(self) -> Lefts {
        self.sockets
    }

    /// Makes everything as it was.
    pub(super) fn take_back(self, host: &Arc<TokioHost>, shutdown: &Arc<Shutdown>) {
        let Self { mut rooms, mut sockets } = self;
        let mut arrived = Sockets::new();
        for (address, records) in &mut rooms {
            let Some(party) = host.party(address.party()) else { continue };
            for record in records {
                let left = sockets.remove(&place(&record.socket));
                if let Some(socket) = left.and_then(|left| left.come_back(party.link())) {
                    record.socket = socket.link().clone();
                    arrived.insert(place(&record.socket), socket);
                }
            }
        }
        revive(host, shutdown, (rooms, arrived), Vec::new());
        shutdown.pause(false);
    }

    /// Nothing was taken apart yet.
    fn go_on(host: &Arc<TokioHost>, shutdown: &Arc<Shutdown>) {
        host.parties().for_each(|party| party.link().exit.set(None));
        for_each_link(host, |link| link.end_pause());
        host.registry().open([]);
        ringer::start(host, Vec::new());
        shutdown.pause(false);
    }
}

/// Makes rooms of records, and lets their sockets and all alarms go on, but those to park. The registry is closed
/// before, and open after it.
pub(super) fn revive(
    host: &Arc<TokioHost>,
    shutdown: &Arc<Shutdown>,
    (rooms, mut sockets): (Vec<(RoomAddress, Vec<Resumed>)>, Sockets),
    park: Vec<RoomAddress>,
) {
    let mut cells = Vec::with_capacity(rooms.len());
    let mut tasks = Vec::with_capacity(sockets.len());
    for (address, records) in rooms {
        let Some(party) = host.party(address.party()) else { continue };
        let places: Vec<_> = records.iter().map(|record| place(&record.socket)).collect();
        let (cell, connections) = RoomCell::resume(address, party.rooms(host), records);
        for (place, connection) in places.into_iter().zip(connections) {
            match sockets.remove(&place) {
                Some(socket) => tasks.push((socket, cell.clone(), connection)),
                None => cell.closed(connection, CloseReason::Dropped.close()),
            }
        }
        if !cell.is_vacant() {
            party.meter().room_made();
            cells.push(cell);
        }
    }
    // The rooms are in the table before a socket says anything to them.
    host.registry().open(cells);
    let _context = host.tokio().enter();
    for (socket, cell, connection) in tasks {
        socket.run(cell, connection, shutdown.socket());
    }
    ringer::start(host, park);
}

/// Has all sockets read nothing more, and waits until what they have read is in their rooms.
async fn pause_sockets(host: &TokioHost, deadline: Instant) -> Result<(), ()> {
    let mut outs = listen(host);
    let mut asked = 0;
    for_each_link(host, |link| asked += usize::from(link.pause()));
    while asked > 0 {
        match timeout_at(deadline, outs.recv()).await {
            Ok(Some(_)) => asked -= 1,
            _ => return Err(()),
        }
    }
    Ok(())
}

/// Ends the tasks of all sockets.
async fn take_sockets(host: &TokioHost) -> Lefts {
    let mut outs = listen(host);
    let mut asked = 0;
    for_each_link(host, |link| asked += usize::from(link.leave()));
    let mut sockets = Lefts::with_capacity(asked);
    while asked > 0 {
        match timeout(SHORT, outs.recv()).await {
            Ok(Some(Out::Left(left))) => {
                sockets.insert(Arc::as_ptr(left.link()).addr(), left);
            }
            Ok(Some(Out::Paused | Out::Stays)) => {}
            _ => {
                warn!(asked, "some sockets do not end their tasks");
                break;
            }
        }
        asked -= 1;
    }
    host.parties().for_each(|party| party.link().exit.set(None));
    sockets
}

fn listen(host: &TokioHost) -> mpsc::UnboundedReceiver<Out> {
    let (out, outs) = mpsc::unbounded_channel();
    host.parties().for_each(|party| party.link().exit.set(Some(out.clone())));
    outs
}

/// Waits until all rooms have handled everything, and takes no more inputs then.
async fn settle(host: &TokioHost, deadline: Instant) -> Result<(), Busy> {
    let registry = host.registry();
    loop {
        let rooms = registry.all();
        let settled = join_all(rooms.iter().map(|room| room.settled().map(drop)));
        if timeout_at(deadline, settled).await.is_err() {
            let is_busy = |room: &&Arc<RoomCell>| room.settled().now_or_never().is_none();
            let busy = rooms.iter().filter(is_busy);
            return Err(busy.map(|room| (room.address().clone(), room.running())).collect());
        }
        // While one room came to rest, it may have told another one something.
        let is_settled = |room: &Arc<RoomCell>| room.settled().now_or_never().is_some();
        if registry.all().iter().all(is_settled) {
            if registry.close().iter().all(is_settled) {
                return Ok(());
            }
            registry.open([]);
        }
    }
}

fn for_each_link(host: &TokioHost, mut act: impl FnMut(&Link)) {
    for room in host.registry().all() {
        for record in room.records() {
            let socket: Arc<dyn std::any::Any + Send + Sync> = record.socket;
            if let Some(link) = socket.downcast_ref::<Link>() {
                act(link);
            }
        }
    }
}

pub(super) fn place(socket: &Arc<dyn Socket>) -> usize {
    Arc::as_ptr(socket).addr()
}
