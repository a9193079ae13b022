use std::{fmt, panic::resume_unwind, sync::Arc};

use tokio::{net::ToSocketAddrs, task::JoinSet};
use tracing::{error, info};
#[cfg(unix)]
use {
    crate::{handover, tcp::Door},
    tracing::debug,
};

use crate::{
    Builder, Handle, Listener, RuntimeService, ServeError, bind,
    front::{self, Accepting, Front},
    shutdown::Stage,
    signals,
};

/// A server for rooms on one machine. It listens for clients and runs the parties that it was built with.
///
/// ```no_run
/// use partykit_core::{Connection, Message, Options, Result, Room, Server};
/// use partykit_runtime_tokio::Runtime;
///
/// #[derive(Default)]
/// struct Relay;
///
/// impl Server for Relay {
///     fn options() -> Options {
///         Options::new().hibernate(true)
///     }
///
///     async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
///         room.broadcast(message).except(sender).send();
///         Ok(())
///     }
/// }
///
/// #[tokio::main]
/// async fn main() -> Result {
///     Runtime::builder().party::<Relay>("main").serve("127.0.0.1:1999").await
/// }
/// ```
#[derive(Clone)]
pub struct Runtime {
    front: Arc<Front>,
}

impl Runtime {
    /// Begins to build a runtime. Add at least one party.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(front: Front) -> Self {
        Self { front: Arc::new(front) }
    }

    /// A handle that reaches the rooms from outside of them. It may be kept as long as needed.
    pub fn handle(&self) -> Handle {
        Handle::new(self.front.host.clone(), self.front.shutdown.clone())
    }

    /// Listens on this address and serves until the process gets SIGTERM or SIGINT. Then it [shuts
    /// down](Handle::shutdown). A second signal ends the process at once, with the exit code 130 or 143.
    ///
    /// If systemd has opened a socket with this port for the process, it serves on that one: see [`bind`].
    ///
    /// If a shutdown by a signal takes [too long](Builder::shutdown_grace) because handlers block threads,
    /// the process ends with the exit code 1.
    ///
    /// Returns a [`partykit_core::Result`], so that it can be the last expression of a `main` that returns
    /// one.
    ///
    /// # Errors
    ///
    /// A [`ServeError`], in a box.
    pub async fn serve(&self, addr: impl ToSocketAddrs + fmt::Debug) -> partykit_core::Result {
        let listener = bind(addr).await?;
        self.serve_until_told(listener).await
    }

    /// The same on a Unix socket, for a proxy on the same machine. See [`bind_unix`](crate::bind_unix).
    ///
    /// # Errors
    ///
    /// A [`ServeError`], in a box.
    #[cfg(unix)]
    pub async fn serve_unix(&self, path: impl AsRef<std::path::Path>) -> partykit_core::Result {
        let listener = crate::bind_unix(path)?;
        self.serve_until_told(listener).await
    }

    /// The same with TLS, see [`TlsListener`](crate::TlsListener).
    ///
    /// # Errors
    ///
    /// A [`ServeError`], in a box.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub async fn serve_tls(
        &self,
        addr: impl ToSocketAddrs + fmt::Debug,
        config: impl Into<Arc<crate::rustls::ServerConfig>>,
    ) -> partykit_core::Result {
        let listener = bind(addr).await?;
        self.serve_until_told(crate::TlsListener::new(listener, config)).await
    }

    /// The runtime as a part of another server, for example axum: see [`RuntimeService`].
    pub fn service(&self) -> RuntimeService {
        RuntimeService::new(self.front.clone())
    }

    /// Serves on a [listener](Listener) until [`Handle::shutdown`] is called. The listener may be TCP, a Unix
    /// socket, TLS, or your own. This does not handle signals. It may be called several times, for several
    /// listeners. Dropping the future only stops accepting.
    ///
    /// ```
    /// use partykit_core::{Body, Request, Response, Result, Room, Server};
    /// use partykit_runtime_tokio::Runtime;
    ///
    /// #[derive(Default)]
    /// struct Hello;
    ///
    /// impl Server for Hello {
    ///     async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
    ///         Ok(Response::new(format!("this is {}", room.id()).into()))
    ///     }
    /// }
    ///
    /// #[tokio::main]
    /// async fn main() -> Result {
    ///     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    ///     let runtime = Runtime::builder().party::<Hello>("main").in_memory().build()?;
    ///     let handle = runtime.handle();
    ///     let serving = tokio::spawn(async move { runtime.serve_on(listener).await });
    ///     let answer = handle.request("main", "lobby", Request::new(Body::empty())).await?;
    ///     assert_eq!(answer.into_body().bytes().unwrap(), "this is lobby");
    ///     handle.shutdown().await;
    ///     serving.await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn serve_on(&self, listener: impl Listener) {
        match self.begin(listener).await {
            Ok((listener, noted)) => self.accept(listener, noted).await,
            Err(error) => error!("{error}"),
        }
    }

    /// Takes over from the process before, if there is one, and notes the listener for the next one.
    async fn begin<L: Listener>(&self, listener: L) -> Result<(L, Noted), ServeError> {
        // No hand-over to the next process before both is done.
        let _turn = self.front.shutdown.hand_over.lock().await;
        self.front.take_over().await.map_err(ServeError::TakeOver)?;
        #[cfg(unix)]
        let noted = listener.listening().and_then(|it| self.front.shutdown.listens_on(it));
        #[cfg(not(unix))]
        let noted = ();
        if let Some(address) = listener.address() {
            info!("listening on {address}");
        }
        Ok((listener, noted))
    }

    async fn accept(&self, listener: impl Listener, noted: Noted) {
        // In a task of its own: the future of `main` runs on no worker, and everything that is spawned from
        // there has to wake another thread. The set ends the task when this future is dropped.
        let mut accepting = JoinSet::new();
        let front = self.front.clone();
        #[cfg(unix)]
        match Door::of(listener) {
            Ok(door) => accepting.spawn(front::accept(front, door, Accepting::Serves)),
            Err(listener) => accepting.spawn(front::accept(front, listener, Accepting::Spawns)),
        };
        #[cfg(not(unix))]
        accepting.spawn(front::accept(front, listener, Accepting::Spawns));
        if let Some(Err(error)) = accepting.join_next().await
            && let Ok(payload) = error.try_into_panic()
        {
            resume_unwind(payload);
        }
        #[cfg(unix)]
        drop(noted);
        #[cfg(not(unix))]
        let () = noted;
        self.front.shutdown.reached(Stage::Stopped).await;
    }

    async fn serve_until_told(&self, listener: impl Listener) -> partykit_core::Result {
        let (host, shutdown) = (self.front.host.clone(), self.front.shutdown.clone());
        let listening = signals::listen(host.clone(), shutdown.clone());
        let _listening = listening.await.map_err(ServeError::Signals)?;
        let (listener, noted) = self.begin(listener).await?;
        #[cfg(unix)]
        let _rendezvous = handover::Rendezvous::open(&host, &shutdown).unwrap_or_else(|error| {
            debug!("no other process can take over by itself: {error}");
            None
        });
        #[cfg(unix)]
        handover::notify::ready();
        self.accept(listener, noted).await;
        Ok(())
    }
}

/// A listener that the next process can have, while this is held.
#[cfg(unix)]
type Noted = Option<Arc<std::os::fd::OwnedFd>>;
#[cfg(not(unix))]
type Noted = ();

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("front", &self.front).finish()
    }
}
