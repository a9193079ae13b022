//! The servers: each alone in its process, told what to do over standard input.

mod handover;
mod hostile;
mod partykit;
mod raw;
mod rooms;
mod tungstenite;

use std::{
    io::{BufRead, Write, stdin, stdout},
    net::SocketAddr,
};

use ::partykit::Result;

pub(crate) use self::{
    handover::run as serve_handover,
    hostile::{numbered, run as serve_hostile},
    rooms::{AT_ONCE, run as serve_rooms},
};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    PartyKit,
    /// The same of another revision.
    Former,
    Raw,
    /// Bun's own WebSockets.
    Bun,
    Tungstenite,
    /// The party of [`Kind::PartyKit`] as a Worker.
    Worker,
    /// The same with PartyServer, in JavaScript.
    PartyServer,
    /// The same without a library, in JavaScript.
    Object,
    /// The same with wasm that does nothing but what the party decides.
    Floor,
}

impl Kind {
    /// Those that are this program.
    pub(crate) const SERVED: [Self; 3] = [Self::PartyKit, Self::Raw, Self::Tungstenite];

    /// Those whose sockets are measured.
    pub(crate) const SOCKETS: [Self; 4] = [Self::PartyKit, Self::Raw, Self::Bun, Self::Tungstenite];

    /// Those of them that have rooms.
    pub(crate) const WITH_ROOMS: [Self; 3] = [Self::PartyKit, Self::Raw, Self::Bun];

    /// Those that have rooms which sleep, all but the first of them in `workerd`.
    pub(crate) const SLEEPING: [Self; 4] =
        [Self::PartyKit, Self::Worker, Self::PartyServer, Self::Object];

    /// Those whose events' processor time is measured in `workerd`.
    pub(crate) const WORKERS: [Self; 4] =
        [Self::Worker, Self::PartyServer, Self::Object, Self::Floor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PartyKit => "partykit",
            Self::Former => "the other revision",
            Self::Raw => "raw",
            Self::Bun => "Bun",
            Self::Tungstenite => "tungstenite",
            Self::Worker => "partykit on workerd",
            Self::PartyServer => "partyserver on workerd",
            Self::Object => "bare object on workerd",
            Self::Floor => "least wasm on workerd",
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
        Kind::Former => Err("the other revision serves that".into()),
        Kind::Bun => Err("Bun serves that".into()),
        Kind::Worker | Kind::PartyServer | Kind::Object | Kind::Floor => {
            Err("workerd serves that".into())
        }
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
