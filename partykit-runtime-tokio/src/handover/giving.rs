use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    pin::pin,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use partykit_core::runtime::CloseReason;
use tokio::{io::AsyncWriteExt, sync::oneshot, task::spawn_blocking, time::timeout};
use tracing::{debug, error, info, warn};

use super::{
    error::HandOverError,
    message::{Given, Hello, Ready, Welcome, receive, send},
    notify,
    quiet::{Lefts, Quiet},
    rendezvous::Connected,
    successor::Successor,
    transfer::transfer,
    wire::Wire,
};
use crate::{
    farewell,
    host::TokioHost,
    shutdown::{Shutdown, Stage},
};

/// How long the next process may take to start.
const START: Duration = Duration::from_secs(30);

/// How long it may take to end when it is told to.
const END: Duration = Duration::from_secs(1);

/// How long this process tries to open its store again.
const REOPEN: Duration = Duration::from_secs(30);

/// How long clients whose connection cannot be handed over may take to read that.
const CLIENTS: Duration = Duration::from_secs(3);

/// Starts the next process and gives it everything. When this returns `Ok`, the runtime has stopped.
pub(crate) async fn hand_over(
    host: &Arc<TokioHost>,
    shutdown: &Arc<Shutdown>,
) -> Result<(), HandOverError> {
    hand_over_to(host, shutdown, None).await
}

/// Gives everything to a process that has connected and said hello, or to one that is started.
pub(super) async fn hand_over_to(
    host: &Arc<TokioHost>,
    shutdown: &Arc<Shutdown>,
    connected: Option<Connected>,
) -> Result<(), HandOverError> {
    // Goes on when the caller's future is dropped: half a hand-over would be worse than either.
    let (tokio, host, shutdown) = (host.tokio().clone(), host.clone(), shutdown.clone());
    let giving = tokio.spawn(async move {
        let Ok(turn) = shutdown.hand_over.try_lock() else {
            return Err(HandOverError::UnderWay);
        };
        if shutdown.is_under_way() {
            return Err(HandOverError::ShuttingDown);
        }
        if shutdown.listeners().is_empty() {
            return Err(HandOverError::NotServing);
        }
        if process::id() == 1 {
            return Err(HandOverError::FirstProcess);
        }
        let (mut successor, wire) = match connected {
            Some(Connected { successor, wire }) => (successor, Ok(wire)),
            None => {
                let (successor, stream) = Successor::start().map_err(HandOverError::Start)?;
                (successor, Err(stream))
            }
        };
        info!(process = successor.id(), "a hand-over to the next process begins");
        notify::reloading();
        let given = give(&host, &shutdown, &mut successor, wire).await;
        match &given {
            Ok(()) => {
                info!(process = successor.id(), "handed everything over to the next process");
                notify::handed_to(successor.id());
                // The last thing: the process may end at once.
                shutdown.handed_over();
            }
            Err(error) => {
                // Before the log: it may make an operator try again.
                drop(turn);
                warn!("the hand-over was given up, and this process goes on: {error}");
                notify::ready();
            }
        }
        given
    });
    giving.await.unwrap_or_else(|error| Err(HandOverError::Failed(io::Error::other(error))))
}

async fn give(
    host: &Arc<TokioHost>,
    shutdown: &Arc<Shutdown>,
    successor: &mut Successor,
    stream: Result<Wire, UnixStream>,
) -> Result<(), HandOverError> {
    // A process that has connected by itself sees that this one hangs up. It was given nothing yet.
    let give_up = |error, successor: &mut Successor| {
        successor.kill_child();
        match shutdown.is_under_way() {
            true => HandOverError::ShuttingDown,
            false => error,
        }
    };
    let wire = match stream {
        Ok(wire) => Ok(wire),
        Err(stream) => hello(shutdown, stream, START).await,
    };
    let wire = match wire {
        Ok(wire) => prepare(host, shutdown, wire).await,
        Err(error) => Err(error),
    };
    let wire = wire.map_err(|error| give_up(error, successor))?;
    debug!("the next process is ready: stopping everything");
    let quiet = match Quiet::begin(host, shutdown).await {
        Ok(quiet) => Arc::new(quiet),
        Err(busy) => {
            let error = HandOverError::Busy(busy);
            // It has nothing yet, so it can say why it ends.
            refuse(wire, error.to_string()).await;
            return Err(give_up(error, successor));
        }
    };
    let begin = Instant::now();
    let given = match shutdown.is_under_way() {
        true => Err(io::Error::other("the runtime shuts down")),
        false => {
            let (host, (closed, is_closed)) = (host.clone(), oneshot::channel());
            let closing = tokio::spawn(async move {
                host.close_store().await;
                // It fails if the transfer has failed before.
                let _ = closed.send(());
            });
            let given = transfer(&quiet, is_closed, wire, shutdown, successor).await;
            // Before it is opened again.
            closing.await.map_err(io::Error::other).and(given)
        }
    };
    let quiet = Arc::into_inner(quiet).expect("the thread that sent it has ended");
    match given {
        Ok(given) => {
            debug!(took = ?begin.elapsed(), given, "the next process has all sockets");
            send_away(quiet.into_sockets()).await;
            Ok(())
        }
        Err(error) => {
            // Invariant: the next process is gone before a socket is read or the store is opened here.
            successor.kill_child();
            reopen(host).await;
            quiet.take_back(host, shutdown);
            match shutdown.is_under_way() {
                true => Err(HandOverError::ShuttingDown),
                false => Err(HandOverError::Failed(error)),
            }
        }
    }
}

/// Waits for the first message of a new process.
pub(super) async fn hello(
    shutdown: &Shutdown,
    stream: UnixStream,
    patience: Duration,
) -> Result<Wire, HandOverError> {
    let talk = move |mut wire: Wire| {
        wire.patience(patience)?;
        match Hello::receive(&mut wire)? {
            Ok(Hello { release }) => {
                debug!(release, "the next process has started");
                Ok(Ok(wire))
            }
            Err(why) => {
                // It may not wait for the reason, which the log here has too.
                let _ = send(&mut wire, &Welcome::Go(why.clone()), &[]);
                Ok(Err(why))
            }
        }
    };
    let wire = Wire::new(stream).map_err(HandOverError::Failed)?;
    until_shutdown(shutdown, wire, talk).await
}

/// Everything that can fail while this process still serves.
async fn prepare(host: &TokioHost, shutdown: &Shutdown, wire: Wire) -> Result<Wire, HandOverError> {
    let listeners = shutdown.listeners();
    let known: Vec<String> = host.parties().map(|party| party.name().to_string()).collect();
    let used: Vec<String> = host
        .parties()
        .filter(|party| {
            let is_of = |room: &Arc<_>| is_in(room, party.name());
            host.registry().all().iter().any(is_of)
        })
        .map(|party| party.name().to_string())
        .collect();
    let store = host.store().map(|store| store.path().display().to_string());
    let talk = move |mut wire: Wire| {
        wire.patience(START)?;
        let descriptors: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        send(&mut wire, &Welcome::Come, &descriptors)?;
        let (ready, _) = receive::<Ready>(&mut wire)?;
        let missing = used.iter().find(|name| !ready.parties.contains(name));
        let why = match missing {
            Some(name) => format!("it has no party {name:?}, which has rooms here ({known:?})"),
            None if ready.store != store => {
                format!("its store is {:?}, and the one here is {store:?}", ready.store)
            }
            None => return Ok(Ok(wire)),
        };
        // The same.
        let _ = send(&mut wire, &Given::Never(why.clone()), &[]);
        Ok(Err(why))
    };
    until_shutdown(shutdown, wire, talk).await
}

/// Talks to the next process, and hangs up when a shutdown begins. The inner error is a mismatch.
async fn until_shutdown(
    shutdown: &Shutdown,
    wire: Wire,
    talk: impl FnOnce(Wire) -> io::Result<Result<Wire, String>> + Send + 'static,
) -> Result<Wire, HandOverError> {
    let hang_up = wire.hang_up().map_err(HandOverError::Failed)?;
    let mut talk = pin!(blocking(move || talk(wire)));
    let talked = tokio::select! {
        talked = &mut talk => talked,
        () = shutdown.reached(Stage::Stopping) => {
            hang_up.now();
            talk.await
        }
    };
    match talked {
        Ok(Ok(wire)) => Ok(wire),
        Ok(Err(why)) => Err(HandOverError::Mismatch(why)),
        Err(error) => Err(HandOverError::Failed(error)),
    }
}

fn is_in(room: &partykit_core::runtime::RoomCell, party: &str) -> bool {
    room.address().party() == party
}

/// Tells the next process that it has to end, and waits until it does.
async fn refuse(mut wire: Wire, why: String) {
    // If this fails, the next process is gone already.
    let _ = blocking(move || {
        send(&mut wire, &Given::Never(why), &[])?;
        wire.patience(END)?;
        wire.receive().map(drop)
    })
    .await;
}

/// Opens the store again, which the next process may have had open until a moment ago.
async fn reopen(host: &Arc<TokioHost>) {
    let begin = Instant::now();
    while let Some(store) = host.store().cloned() {
        match blocking(move || Ok(store.reopen())).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) if begin.elapsed() < REOPEN => {
                debug!("the store cannot be opened again yet: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(Err(error)) => {
                return error!(
                    "after a hand-over that was given up, the store stays closed: {error}"
                );
            }
            Err(error) => return error!("the store could not be opened again: {error}"),
        }
    }
}

/// Closes the connections that only this process can go on with, such as those with TLS. Their clients come
/// back to the next process. All other sockets are dropped without a word: they are not ours any more.
async fn send_away(sockets: Lefts) {
    let close = CloseReason::Restart.close();
    let last_words = sockets.into_values().filter_map(|left| {
        if left.with_descriptor(|_| ()).is_some() {
            return None;
        }
        let (mut io, unsent) = left.give_up()?;
        let close = &close;
        Some(async move {
            if io.write_all(&unsent).await.is_ok() {
                farewell::say(io, close).await;
            }
        })
    });
    if timeout(CLIENTS, join_all(last_words)).await.is_err() {
        debug!("some clients were told to come back and did not hang up in {CLIENTS:?}");
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(act).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
