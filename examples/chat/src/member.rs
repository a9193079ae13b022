use partykit::{List, Reject, Result, Room, Timestamp, http::StatusCode};
use serde::{Deserialize, Serialize};

/// How many messages a member may say in how many milliseconds.
const BURST: usize = 5;
const WINDOW: u64 = 10_000;
/// How many ids of a member's last messages are kept.
const REMEMBERED: usize = 32;
/// The longest id of a message, in bytes.
const MAX_ID: usize = 64;

/// The longest name, in characters, and how many members a room has at most: each is a row.
const MAX_NAME: usize = 40;
const MAX_MEMBERS: usize = 1_000;

/// What a member shows to be who they are: 32 hexadecimal digits that no one can guess.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(String);

impl Token {
    /// A token, if the text is one.
    pub fn new(text: &str) -> Option<Self> {
        let is_token = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_token.then(|| Self(text.to_owned()))
    }

    fn key(&self) -> String {
        format!("member:{}", self.0)
    }
}

/// One who may speak in a room: a row under their token.
#[derive(Debug, Serialize, Deserialize)]
pub struct Member {
    /// No other member of the room has it.
    pub name: String,
    /// The ids of their last messages, and when these came, from all of their connections. So no message is
    /// sent twice, and none too soon.
    said: Vec<(String, u64)>,
}

impl Member {
    /// Makes a member.
    ///
    /// # Errors
    ///
    /// A [`Reject`] when the name cannot be one, or is taken, or the room is full.
    pub async fn join(room: &Room, name: &str) -> Result<Token> {
        let name = name.trim();
        let is_name = !name.is_empty() && name.chars().count() <= MAX_NAME;
        if !is_name || name.chars().any(char::is_control) {
            return Err(
                Reject::bad_request(format!("a name has 1 to {MAX_NAME} characters")).into()
            );
        }
        let storage = room.storage();
        let taken = format!("name:{}", name.to_lowercase());
        if storage.get::<bool>(&taken).await?.is_some() {
            return Err(Reject::conflict("this name is taken").into());
        }
        let names = storage.list_bytes(List::new().prefix("name:").limit(MAX_MEMBERS)).await?;
        if names.len() >= MAX_MEMBERS {
            return Err(Reject::new(StatusCode::INSUFFICIENT_STORAGE, "this room is full").into());
        }
        let token = Token(format!("{:032x}", u128::from_le_bytes(room.random())));
        storage.put(&taken, &true)?;
        Self { name: name.to_owned(), said: Vec::new() }.store(room, &token)?;
        Ok(token)
    }

    /// The member with this token, or `None`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn of(room: &Room, token: &Token) -> Result<Option<Self>> {
        Ok(room.storage().get(&token.key()).await?)
    }

    /// Whether a message with this id has been said.
    pub fn has_said(&self, id: &str) -> bool {
        self.said.iter().any(|(said, _)| said == id)
    }

    /// Says a message with this id, unless it is too soon.
    ///
    /// # Errors
    ///
    /// A text for the member.
    pub fn says(&mut self, id: &str, now: Timestamp) -> Result<(), &'static str> {
        if id.is_empty() || id.len() > MAX_ID {
            return Err("the message has no id, or too long a one");
        }
        let now = now.as_millis();
        let lately = self.said.iter().filter(|(_, at)| now.saturating_sub(*at) < WINDOW).count();
        if lately >= BURST {
            return Err("slow down: five messages in ten seconds are enough");
        }
        let surplus = (self.said.len() + 1).saturating_sub(REMEMBERED);
        self.said.drain(..surplus);
        self.said.push((id.to_owned(), now));
        Ok(())
    }

    /// Stores what is known of the member.
    ///
    /// # Errors
    ///
    /// When the handler has written too much.
    pub fn store(&self, room: &Room, token: &Token) -> Result {
        Ok(room.storage().put(&token.key(), self)?)
    }
}
