use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    Body, JsonError, NoState, Reject, Request, Response, Result, RoomAddress,
    value::{app_state::AppState, http::Props},
};

/// Looks up a named value of the surroundings: an environment variable, a secret.
///
/// ```
/// use std::sync::Arc;
/// use partykit_core::Vars;
///
/// let vars: Vars = Arc::new(|name| std::env::var(name).ok());
/// # let _ = vars;
/// ```
pub type Vars = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a before-hook sees: which room is asked for, and the runtime's named values. No room exists
/// yet, and asking does not wake one.
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
    /// A lobby in front of the room at `address`. For runtimes and tests.
    pub fn new(
        address: RoomAddress,
        vars: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::with_vars(address, Arc::new(vars))
    }

    /// The same, with vars that are already shared. For runtimes.
    pub fn with_vars(address: RoomAddress, vars: Vars) -> Self {
        Self { address, vars, state: AppState::default() }
    }

    /// The same, with what the application has given the runtime. For runtimes and tests.
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

    /// A value that the application has given the runtime with `Builder::state`: a pool of database
    /// connections, for example.
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
    /// When the application has given none of this type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, NoState> {
        self.state.get()
    }
}

impl fmt::Debug for Lobby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lobby").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A before-hook's answer: let the request through to the room, or respond in its place.
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
    /// To the room, with this request.
    Continue(Admission),
    /// Not to the room: a request gets the status and the text. A WebSocket is opened, and closed at once
    /// with the close code and the text: a page cannot see the status of a WebSocket that is refused. A
    /// hook that returns a [`Reject`] as its `Err` says the same.
    Reject(Reject),
    /// Not to the room: this is the answer, also to a WebSocket's request.
    Respond(Response),
}

impl Admit {
    /// An answer with this status and an empty body. For one with a body, see [`Admit::Respond`].
    pub fn refuse(status: http::StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Self::Respond(response)
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

/// What a before-hook answers: an error that is a [`Reject`] is an answer like any other.
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

/// A request on its way to a room, with what the before-hook adds to it.
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
}

impl Admission {
    /// Lets `request` through, changed or not. The room it goes to stays the one that was asked for.
    pub fn new(request: Request) -> Self {
        Self { request, protocol: None }
    }

    /// Props for the room: it reads them with [`RequestExt::props`](crate::RequestExt::props).
    ///
    /// # Errors
    ///
    /// When `props` cannot be represented as JSON.
    pub fn props<T: Serialize + ?Sized>(mut self, props: &T) -> Result<Self, JsonError> {
        let json = serde_json::to_vec(props).map_err(JsonError::new)?;
        self.request.extensions_mut().insert(Props(json.into()));
        Ok(self)
    }

    /// Chooses one of the WebSocket sub-protocols that the client offered. The handshake's answer
    /// names it. A protocol that was not offered is a server error: browsers refuse such an answer.
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
