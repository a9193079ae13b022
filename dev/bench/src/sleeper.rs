//! A server with rooms that sleep when told: on Tokio, or in `workerd`.

use std::{net::SocketAddr, path::Path};

use partykit::Result;
use partykit_workerd::{Project, Workerd};

use crate::{
    child::{Allocator, Process, Server},
    server::Kind,
};

/// A server that runs. Ends when dropped.
#[derive(Debug)]
pub(crate) enum Sleeper {
    Tokio(Server),
    Workerd(Workerd),
}

impl Sleeper {
    /// Starts one of [`Kind::SLEEPING`] and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not: the Worker has not been built, for example.
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        Self::start_as(kind, |project| project)
    }

    /// The same with a `workerd` whose garbage can be [collected](Sleeper::collect_garbage).
    pub(crate) fn start_collectable(kind: Kind) -> Result<Self> {
        Self::start_as(kind, Project::collectable)
    }

    /// The same with a `workerd` that runs code compiled for speed as soon as it is hot.
    ///
    /// By default V8 compiles it in another thread, and asks the first to take it over. That request is lost when no
    /// JavaScript is running at the moment. Then the function is never compiled for speed. So it would be chance
    /// which functions are, and on a busy machine none.
    pub(crate) fn start_compiling(kind: Kind) -> Result<Self> {
        Self::start_as(kind, |project| project.v8_flag("--no-concurrent-recompilation"))
    }

    fn start_as(kind: Kind, adapt: impl FnOnce(Project) -> Project) -> Result<Self> {
        let (directory, class) = match kind {
            Kind::Worker => ("party", "Talk"),
            Kind::PartyServer => ("partyserver", "Main"),
            Kind::Object => ("object", "Bare"),
            Kind::Floor => ("floor", "Floor"),
            kind => return Ok(Self::Tokio(Server::start(kind, Allocator::Jemalloc)?)),
        };
        let project = Project::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory))?;
        Ok(Self::Workerd(Workerd::start(&adapt(project.party("main", class)))?))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Tokio(server) => server.address(),
            Self::Workerd(workerd) => workerd.address(),
        }
    }

    pub(crate) fn process(&self) -> Process {
        match self {
            Self::Tokio(server) => server.process(),
            Self::Workerd(workerd) => Process(workerd.process_id()),
        }
    }

    /// Collects the garbage of JavaScript. Does nothing on Tokio.
    pub(crate) fn collect_garbage(&self) -> Result<()> {
        match self {
            Self::Tokio(_) => Ok(()),
            Self::Workerd(workerd) => Ok(workerd.collect_garbage()?),
        }
    }

    /// Puts a room to sleep that is awake.
    ///
    /// # Errors
    ///
    /// When it was not awake, or does not sleep then.
    pub(crate) fn put_to_sleep(&mut self, room: &str) -> Result<()> {
        let slept = match self {
            Self::Tokio(server) => {
                server.ask(&format!("phase {room}"))? == "awake"
                    && server.ask(&format!("evict {room}"))? == "asleep"
            }
            Self::Workerd(workerd) => workerd.evict("main", room)?,
        };
        if slept { Ok(()) } else { Err(format!("{room} was not awake, or does not sleep").into()) }
    }
}
