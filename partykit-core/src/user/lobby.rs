use std::{any::TypeId, fmt, sync::Arc};

use serde::Serialize;

use crate::{
    Body, JsonError, NoState, Reject, Request, Response, Result, RoomAddress,
    value::{app_state::AppState, http::Props},
};

/// Looks up a named value of the runtime: an environment variable or a secret.
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::Vars;
///
/// let vars: Vars = Arc::new(|name| std::env::var(name).ok());
/// # let _ = vars;
/// ```
pub type Vars = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a before-hook sees: the name of the room, and the values of the runtime. The room is not started for
/// it.
///
/// ```
/// use partykit_core::{Lobby, RoomAddress, RoomId};
///
/// let address = RoomAddress::new("chat", RoomId::new("lobby")?);
/// let lobby = Lobby::new(address, |name| (name == "TOKEN").then(|| "s3cret".to_owned()));
/// assert_eq!(lobby.party(), "chat");
/// assert_eq!(lobby.var("TOKEN").as_deref(), Some("s3cret"));
/// # Ok::<(), partykit_core::InvalidRoomId>(())
/// ```
#[derive(Clone)]
pub struct Lobby {
    address: RoomAddress,
    vars: Vars,
    state: AppState,
}

impl Lobby {
    /// A lobby for the room at `address`. For runtimes and tests.
    pub fn new(
        address: RoomAddress,
        vars: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::with_vars(address, Arc::new(vars))
    }

    /// Like [`Lobby::new`], with vars that are already shared. For runtimes.
    pub fn with_vars(address: RoomAddress, vars: Vars) -> Self {
        Self { address, vars, state: AppState::default() }
    }

    /// Adds the application's values. For runtimes and tests.
    #[must_use]
    pub fn with_state(self, state: AppState) -> Self {
        Self { state, ..self }
    }

    /// The name of the party that is asked for.
    pub fn party(&self) -> &str {
        self.address.party()
    }

    /// The id of the room that is asked for.
    pub fn id(&self) -> &str {
        self.address.room()
    }

    /// A named value of the runtime, such as an environment variable or a secret.
    pub fn var(&self, name: &str) -> Option<String> {
        (self.vars)(name)
    }

    /// A value that the application gave to the runtime with `Builder::state`, for example a pool of database
    /// connections.
    ///
    /// ```
    /// use std::{collections::HashMap, sync::RwLock};
    /// use partykit_core::{Admission, Admit, Lobby, OrReject, Reject, Request, RequestExt, Result, Server};
    ///
    /// type Tokens = RwLock<HashMap<String, String>>;
    ///
    /// struct Chat;
    ///
    /// impl Server for Chat {
    ///     async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
    ///         let token = request.query("token").unwrap_or_default();
    ///         let user = lobby.state::<Tokens>()?.read().ok().and_then(|all| all.get(&token).cloned());
    ///         let user = user.or_reject(Reject::unauthorized("log in"))?;
    ///         Ok(Admission::new(request).props(&user)?.into())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When the application gave no value of this type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, NoState> {
        self.state.get()
    }
}

impl fmt::Debug for Lobby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lobby").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The result of a before-hook: let the request through to the room, or answer it.
///
/// ```
/// use partykit_core::{Admission, Admit, Lobby, Request, RequestExt, Result};
///
/// async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
///     match request.query("token") {
///         Some(token) if lobby.var("TOKEN") == Some(token.clone()) => {
///             Ok(Admission::new(request).props(&"admin")?.into())
///         }
///         _ => Ok(Admit::refuse(http::StatusCode::UNAUTHORIZED)),
///     }
/// }
/// # let _ = on_before_connect;
/// ```
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, clippy::large_enum_variant, reason = "through, or not")]
pub enum Admit {
    /// Passes this request to the room.
    Continue(Admission),
    /// Refuses. A request gets the status and the text. A WebSocket is opened and closed at once with the
    /// close code and the text, because a page cannot see the status of a refused WebSocket. A hook can also
    /// return a [`Reject`] as its `Err`.
    Reject(Reject),
    /// Answers with this response, also a WebSocket request.
    Respond(Response),
}

impl Admit {
    /// Answers with this status and an empty body. With a body, a [`Response`] is an answer: `response.into()`.
    pub fn refuse(status: http::StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Self::Respond(response)
    }
}

impl Admit {
    /// Whether the default hook of this server gave this answer.
    pub(crate) fn is_by_default_of<S: 'static>(&self) -> bool {
        matches!(self, Self::Continue(it) if it.by_default_of == Some(TypeId::of::<S>()))
    }
}

impl From<Request> for Admit {
    fn from(request: Request) -> Self {
        Self::Continue(Admission::new(request))
    }
}

impl From<Reject> for Admit {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

/// The answer of a before-hook. A [`Reject`] as its error counts as an answer.
pub(crate) fn hook_answer(result: Result<Admit>) -> Result<Admit> {
    result.or_else(|error| Reject::find(&*error).map(Admit::Reject).ok_or(error))
}

impl From<Admission> for Admit {
    fn from(admission: Admission) -> Self {
        Self::Continue(admission)
    }
}

impl From<Response> for Admit {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

/// A request for a room, with what the before-hook adds to it.
///
/// ```
/// use partykit_core::{Admission, Body, Request, RequestExt};
///
/// let admission = Admission::new(Request::new(Body::empty())).props(&42)?.protocol("chat.v2");
/// assert_eq!(admission.chosen_protocol(), Some("chat.v2"));
/// assert_eq!(admission.into_request().props::<u32>()?, Some(42));
/// # Ok::<(), partykit_core::JsonError>(())
/// ```
#[derive(Debug)]
pub struct Admission {
    request: Request,
    protocol: Option<String>,
    /// The server whose default hook made this. A hook of its own may ask another server's.
    by_default_of: Option<TypeId>,
}

impl Admission {
    /// Lets `request` through. The hook may change the request, but not the room that it goes to.
    pub fn new(request: Request) -> Self {
        Self { request, protocol: None, by_default_of: None }
    }

    /// What the default hook of this server answers, always.
    pub(crate) fn by_default_of<S: 'static>(request: Request) -> Self {
        Self { by_default_of: Some(TypeId::of::<S>()), ..Self::new(request) }
    }

    /// Props for the room: it reads them with [`RequestExt::props`](crate::RequestExt::props).
    ///
    /// # Errors
    ///
    /// When `props` have no JSON form.
    pub fn props<T: Serialize + ?Sized>(mut self, props: &T) -> Result<Self, JsonError> {
        let json = serde_json::to_vec(props).map_err(JsonError::new)?;
        self.request.extensions_mut().insert(Props(json.into()));
        Ok(self)
    }

    /// Chooses one of the WebSocket sub-protocols that the client offered. A protocol that was not offered is
    /// a server error, because browsers would refuse the answer.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// The sub-protocol chosen with [`Admission::protocol`].
    pub fn chosen_protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The request, with the props inside.
    pub fn into_request(self) -> Request {
        self.request
    }
}
