//! The servers: each alone in its process, told what to do over standard input.

mod partykit;
mod raw;
mod rooms;
mod tungstenite;

use std::{
    io::{BufRead, Write, stdin, stdout},
    net::SocketAddr,
};

use ::partykit::Result;

pub(crate) use self::rooms::run as serve_rooms;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    PartyKit,
    Raw,
    Tungstenite,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::PartyKit, Self::Raw, Self::Tungstenite];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PartyKit => "partykit",
            Self::Raw => "raw",
            Self::Tungstenite => "tungstenite",
        }
    }
}

/// Runs a server until standard input ends.
///
/// The first line on standard output is its address. Each line on standard input is a question and
/// gets a line in answer; see [`partykit`] for those that it knows, the others know none.
pub(crate) fn run(kind: Kind) -> Result<()> {
    match kind {
        Kind::PartyKit => partykit::run(),
        Kind::Raw => raw::run(),
        Kind::Tungstenite => tungstenite::run(),
    }
}

/// Says where the server listens, then answers questions until there are no more.
fn talk(address: SocketAddr, mut answer: impl FnMut(&str) -> String) -> Result<()> {
    say(&address.to_string())?;
    for question in stdin().lock().lines() {
        say(&answer(&question?))?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
