//! Shuts down on signals. They are awaited on a thread of their own, because handlers may block all threads
//! of Tokio.

use std::{io, process, sync::Arc, thread, time::Duration};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    host::TokioHost,
    shutdown::{Shutdown, Stage},
    watch,
};

/// How long the program may take to end after a shutdown while a thread is blocked. Without this limit, Tokio
/// would wait for that thread for ever.
const LAST: Duration = Duration::from_secs(1);

/// Listens for signals until it is dropped. After the first signal, it listens until the process ends.
pub(crate) struct Listening(#[allow(dead_code, reason = "held, not used")] oneshot::Sender<()>);

/// From now on, the first SIGINT, SIGTERM or Ctrl-C shuts the runtime down, and the second one ends the
/// process at once.
pub(crate) async fn listen(host: Arc<TokioHost>, shutdown: Arc<Shutdown>) -> io::Result<Listening> {
    let (listening, dropped) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = move || {
        runtime.block_on(async move {
            let signals = Signals::new();
            match signals {
                Ok(signals) => {
                    let _ = ready.send(Ok(()));
                    obey(signals, dropped, &host, &shutdown).await;
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        });
    };
    thread::Builder::new().name("partykit-signals".into()).spawn(wait)?;
    is_ready.await.unwrap_or_else(|_| Err(io::Error::other("the thread for signals ended")))?;
    Ok(Listening(listening))
}

async fn obey(
    mut signals: Signals,
    dropped: oneshot::Receiver<()>,
    host: &Arc<TokioHost>,
    shutdown: &Arc<Shutdown>,
) {
    let mut dropped = dropped;
    let signal = loop {
        let told = tokio::select! {
            told = signals.next_or_replace() => told,
            _ = &mut dropped => return,
        };
        match told {
            Some(signal) => break signal,
            None => {
                info!("received SIGUSR2: handing over to the next process");
                replace(host, shutdown);
            }
        }
    };
    info!("received {}: shutting down; a second signal ends the process at once", signal.name);
    shutdown.begin(host);
    tokio::select! {
        () = shutdown.reached(Stage::Stopped) => {}
        signal = signals.next() => signal.end_at_once(),
        () = sleep(shutdown.limit()) => {
            let blocking = watch::blocking().join(", ");
            error!(blocking, "the shutdown did not finish in time: ending the process");
            process::exit(1);
        }
    }
    if let Ok(signal) = timeout(LAST, signals.next()).await {
        signal.end_at_once();
    }
    let blocking = watch::blocking().join(", ");
    if !blocking.is_empty() {
        error!(blocking, "handlers still block threads after the shutdown: ending the process");
        process::exit(1);
    }
    signals.next().await.end_at_once();
}

/// Hands over to the next process. What comes of it is in the log.
fn replace(host: &Arc<TokioHost>, shutdown: &Arc<Shutdown>) {
    #[cfg(unix)]
    {
        let (host, shutdown) = (host.clone(), shutdown.clone());
        host.tokio().clone().spawn(async move {
            if let Err(error) = crate::handover::hand_over(&host, &shutdown).await {
                warn!("not handed over: {error}");
            }
        });
    }
    #[cfg(not(unix))]
    let _ = (host, shutdown);
}

/// A signal that has come.
struct Signal {
    name: &'static str,
    number: i32,
}

impl Signal {
    fn end_at_once(self) -> ! {
        warn!("received a second signal, {}: ending the process at once", self.name);
        // The exit code that shells use for a process that a signal has ended.
        process::exit(128 + self.number)
    }
}

const INTERRUPT: Signal = Signal { name: "SIGINT", number: 2 };
#[cfg(unix)]
const TERMINATE: Signal = Signal { name: "SIGTERM", number: 15 };

/// The signals that ask a process to end.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    replace: tokio::signal::unix::Signal,
}

impl Signals {
    /// Catches the signals. From now on they do nothing by themselves.
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            replace: signal(SignalKind::user_defined2())?,
        })
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// The next signal. `None` if it is the one to hand over.
    #[cfg(unix)]
    async fn next_or_replace(&mut self) -> Option<Signal> {
        let Self { interrupt, terminate, replace } = self;
        tokio::select! {
            _ = interrupt.recv() => Some(INTERRUPT),
            _ = terminate.recv() => Some(TERMINATE),
            _ = replace.recv() => None,
        }
    }

    #[cfg(not(unix))]
    async fn next_or_replace(&mut self) -> Option<Signal> {
        Some(self.next().await)
    }

    /// The next signal to end.
    #[cfg(unix)]
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPT,
            _ = self.terminate.recv() => TERMINATE,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        INTERRUPT
    }
}
