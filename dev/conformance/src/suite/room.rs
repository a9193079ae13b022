use std::fmt;

use partykit::http::{Method, header};
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::{Answer, Client, RoomView, Target};
use crate::{ANNEX, ANNEX_PREFIX, Command, IN_MEMORY, PROBE};

/// Whether the probe hibernates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "it does or does not")]
pub enum Mode {
    /// It does, and cases put it to sleep.
    Hibernating,
    /// It does not.
    InMemory,
}

impl Mode {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Hibernating, Self::InMemory];

    /// The name of the party.
    pub fn party(self) -> &'static str {
        match self {
            Self::Hibernating => PROBE,
            Self::InMemory => IN_MEMORY,
        }
    }
}

/// One room of a target, as a case uses it.
#[derive(Clone)]
pub struct Room<'a> {
    target: &'a Target,
    party: &'static str,
    id: String,
}

impl<'a> Room<'a> {
    /// A room by its id, which is written into addresses as it is.
    pub fn new(target: &'a Target, party: &'static str, id: String) -> Self {
        Self { target, party, id }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its party.
    pub fn party(&self) -> &'static str {
        self.party
    }

    /// Its path, with what follows: empty, or with a `/` or `?` first.
    pub fn path(&self, rest: &str) -> String {
        let prefix = if self.party == ANNEX { ANNEX_PREFIX } else { "parties" };
        format!("/{prefix}/{}/{}{rest}", self.party, self.id)
    }

    /// Connects under an id.
    ///
    /// # Panics
    ///
    /// When the handshake fails.
    pub async fn connect(&self, id: &str) -> Client {
        self.connect_with(id, "").await
    }

    /// The same with more in the query: `greet=3&tags=a`.
    ///
    /// # Panics
    ///
    /// When the handshake fails.
    pub async fn connect_with(&self, id: &str, query: &str) -> Client {
        let connected = self.try_connect(&format!("?_pk={id}&{query}"), &[]).await;
        connected.unwrap_or_else(|answer| panic!("{id} gets no 101: {answer:?}"))
    }

    /// Connects with any rest of the path and any headers.
    ///
    /// # Errors
    ///
    /// The answer when it is no 101.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn try_connect(
        &self,
        rest: &str,
        headers: &[(&str, &str)],
    ) -> Result<Client, Answer> {
        let authority = self.target.authority();
        let url = format!("ws://{authority}{}", self.path(rest));
        let mut request = url.into_client_request().expect("an address");
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().expect("a header's name");
            request.headers_mut().insert(name, value.parse().expect("a header's value"));
        }
        Client::connect(self.target, request).await
    }

    /// A GET of the room, with what follows its path.
    pub async fn get(&self, rest: &str) -> Answer {
        self.target.send(Method::GET, &self.path(rest), "").await
    }

    /// Has the room do something, by a request.
    pub async fn post(&self, command: &Command) -> Answer {
        let body = serde_json::to_string(command).expect("a command is JSON");
        self.target.send(Method::POST, &self.path("/do"), &body).await
    }

    /// The same, and the answer as JSON.
    ///
    /// # Panics
    ///
    /// When the status is not 200.
    pub async fn perform(&self, command: Command) -> Value {
        let answer = self.post(&command).await;
        assert_eq!(answer.status(), 200, "{command:?} of {self:?}: {}", answer.text());
        answer.json()
    }

    /// The name of the instance that is in memory, or is made by this question.
    pub async fn instance(&self) -> String {
        let who = self.perform(Command::Who).await;
        who["instance"].as_str().expect("an instance has a name").to_owned()
    }

    /// Puts the room to sleep, if its party hibernates.
    pub async fn sleep(&self) {
        if self.party != IN_MEMORY {
            self.target.control().put_to_sleep(self.party, &self.id).await;
        }
    }

    /// How the room is, if the runtime can say.
    pub async fn stats(&self) -> Option<RoomView> {
        self.target.control().stats(self.party, &self.id).await
    }
}

impl fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({}/{})", self.party, self.id)
    }
}
