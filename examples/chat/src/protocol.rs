use partykit::history::Position;
use serde::{Deserialize, Serialize};

use crate::Token;

/// What a page asks for, to become a member: the body of a `POST` to the room.
#[derive(Debug, Deserialize)]
pub struct Join {
    /// 1 to 40 characters, that no other member has.
    pub name: String,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Joined {
    /// What the page says when it connects, in its query.
    pub token: Token,
}

/// What a page says. It says its token when it connects, and the position of the last message that it has.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Ask {
    /// A message.
    Say {
        /// Its text.
        say: String,
        /// What the page calls it. If it says it twice, it is said once.
        id: String,
    },
    /// Its user types, or does not type any more.
    Typing {
        /// Which of the two.
        typing: bool,
    },
}

/// What a page hears, beside the frames of presence.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event<'a> {
    /// All that the page shows is forgotten: what follows is not what it has missed.
    Begin,
    /// The page has got what it had missed.
    Ready {
        /// Its user's name.
        you: &'a str,
    },
    /// A message, which is on the server's disk.
    Said {
        /// Where it stands. The page says the last one that it has shown when it connects again.
        at: Position,
        /// What its author's page calls it.
        id: &'a str,
        /// Its author.
        from: &'a str,
        /// When it came, in milliseconds since 1970.
        when: u64,
        /// Its text.
        text: &'a str,
    },
    /// A message was not taken.
    Refused {
        /// What its author's page calls it.
        id: &'a str,
        /// A text for its author.
        why: &'a str,
    },
}

/// What a member shows to the others.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shows {
    /// They are typing.
    pub is_typing: bool,
}
