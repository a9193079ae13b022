use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use partykit_core::{
    Request, Response, RoutePrefix,
    runtime::{AppState, front::Routes},
};

use crate::Env;

/// The settings of a Worker: the last part of [`export!`](crate::export).
///
/// ```
/// use partykit_core::Response;
/// use partykit_runtime_workers::Settings;
///
/// let settings = Settings::new()
///     .allow_origins(["https://example.com", "http://localhost:5173"])
///     .fallback(async |_request, _env| Response::new("no room\n".into()))
///     .jurisdiction("eu");
/// # let _ = settings;
/// ```
#[derive(Default)]
pub struct Settings {
    pub(crate) routes: Routes,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) jurisdiction: Option<String>,
    pub(crate) location_hint: Option<String>,
    pub(crate) state: AppState,
}

/// Answers requests that are not for a room.
pub(crate) type Fallback = Arc<dyn Fn(Request, Env) -> BoxFuture<'static, Response> + Send + Sync>;

impl Settings {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first part of the URLs of rooms: `/<prefix>/<party>/<room>`. Default: `parties`, as PartySocket
    /// uses it.
    #[must_use]
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.routes.set_prefix(None, RoutePrefix::new(prefix));
        self
    }

    /// Where the URLs of one party's rooms begin, in the place of the common prefix.
    #[must_use]
    pub fn party_prefix(mut self, party: impl AsRef<str>, prefix: impl AsRef<str>) -> Self {
        self.routes.set_prefix(Some(party.as_ref()), RoutePrefix::new(prefix));
        self
    }

    /// A value that hooks and handlers share: they read it with
    /// [`Lobby::state`](partykit_core::Lobby::state) and [`Room::state`](partykit_core::Room::state). One of
    /// each type; the last one counts. Each isolate has its own, and makes it at its first event: to share
    /// something between rooms, the value holds a binding ([`Env`]) and not the data.
    ///
    /// ```
    /// # mod worker {
    /// use partykit_core::{Admit, Lobby, OrReject, Reject, Request, RequestExt, Result, Server};
    /// use partykit_runtime_workers::{Env, Settings};
    ///
    /// /// Stands for a client of a database that is bound to the Worker.
    /// struct Users {
    ///     env: Env,
    /// }
    ///
    /// impl Users {
    ///     async fn find(&self, token: &str) -> Option<String> {
    ///         self.env.var("TOKEN").filter(|known| known == token)
    ///     }
    /// }
    ///
    /// #[derive(Default)]
    /// struct Chat;
    ///
    /// impl Server for Chat {
    ///     async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
    ///         let token = request.query("token").unwrap_or_default();
    ///         let user = lobby.state::<Users>()?.find(&token).await;
    ///         user.or_reject(Reject::unauthorized("log in"))?;
    ///         Ok(request.into())
    ///     }
    /// }
    ///
    /// partykit_runtime_workers::export! {
    ///     Chat as "chat";
    ///     |env| Settings::new().state(Users { env: env.clone() })
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state = self.state.with(value);
        self
    }

    /// Lets pages of these origins, such as `https://example.com` or `http://localhost:5173`, talk to rooms:
    /// they may open WebSockets and read the answers to requests (CORS). Pages of the same host, and clients
    /// that send no `Origin`, may always do so. All other pages get 403 when they connect. List pages of
    /// `localhost` for development: a Worker is built as a release.
    ///
    /// An origin is a scheme, a host and perhaps a port. `https://*.example.com` stands for all hosts that
    /// end in `.example.com`. `null` stands for all pages without an origin of their own, including sandboxed
    /// frames of any site. An invalid origin lets no page in, and is logged.
    #[must_use]
    pub fn allow_origins<O: AsRef<str>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        self.allow(None, origins);
        self
    }

    /// The same for the rooms of one party, which then has this list in the place of the common one. An empty
    /// list lets in the pages of the host that is asked, and no others.
    #[must_use]
    pub fn party_allow_origins<O: AsRef<str>>(
        mut self,
        party: impl AsRef<str>,
        origins: impl IntoIterator<Item = O>,
    ) -> Self {
        self.routes.own_origins(party.as_ref());
        self.allow(Some(party.as_ref()), origins);
        self
    }

    /// Lets every page talk to the rooms of one party.
    #[must_use]
    pub fn party_allow_any_origin(mut self, party: impl AsRef<str>) -> Self {
        self.routes.allow_any(Some(party.as_ref()));
        self
    }

    /// Whether a page of `localhost` may talk to a Worker that is asked as `localhost`, as under `wrangler dev`,
    /// on any ports. Default: `true` in debug builds (`cfg!(debug_assertions)`), `false` in others.
    #[must_use]
    pub fn allow_localhost(mut self, allowed: bool) -> Self {
        self.routes.allow_localhost(allowed);
        self
    }

    fn allow<O: AsRef<str>>(&mut self, party: Option<&str>, origins: impl IntoIterator<Item = O>) {
        for origin in origins {
            if let Err(error) = self.routes.allow(party, origin.as_ref()) {
                tracing::error!("{error}");
            }
        }
    }

    /// Lets every page talk to rooms, with the cookies that its visitors have here.
    #[must_use]
    pub fn allow_any_origin(mut self) -> Self {
        self.routes.allow_any(None);
        self
    }

    /// Answers requests that are not for a room. Default: 404. The body is read before, up to 2 MiB. See
    /// [`Settings`] for an example.
    #[must_use]
    pub fn fallback<F>(self, fallback: impl Fn(Request, Env) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let fallback: Fallback = Arc::new(move |request, env| Box::pin(fallback(request, env)));
        Self { fallback: Some(fallback), ..self }
    }

    /// The jurisdiction in which the rooms' data is kept: `eu` or `fedramp`. Default: none. A room in a
    /// jurisdiction is another room than the one with the same name outside of it. So after a change of this
    /// setting, all rooms are empty.
    #[must_use]
    pub fn jurisdiction(self, name: impl Into<String>) -> Self {
        Self { jurisdiction: Some(name.into()), ..self }
    }

    /// The region in which a room is made at its first request, such as `weur` or `apac`. Default: near the
    /// first client.
    #[must_use]
    pub fn location_hint(self, hint: impl Into<String>) -> Self {
        Self { location_hint: Some(hint.into()), ..self }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("routes", &self.routes).finish_non_exhaustive()
    }
}
