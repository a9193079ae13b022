use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use partykit_core::{Request, Response, RoutePrefix, runtime::front::Routes};

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
        self.routes.prefix = RoutePrefix::new(prefix);
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
        for origin in origins {
            if let Err(error) = self.routes.origins.allow(origin.as_ref()) {
                tracing::error!("{error}");
            }
        }
        self
    }

    /// Lets every page talk to rooms, with the cookies that its visitors have here.
    #[must_use]
    pub fn allow_any_origin(mut self) -> Self {
        self.routes.origins.allow_any();
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
        f.debug_struct("Settings").field("prefix", &self.routes.prefix).finish_non_exhaustive()
    }
}
