//! The process that is killed: a room server with its data in a directory.

mod desk;
mod faults;
mod ledger;
mod stream;

use std::{env, io, path::PathBuf, process, sync::Arc};

use partykit::{
    Response, Result, Runtime,
    storage::{Backend, DiskBackend, Durability, rig},
};
use tracing_subscriber::filter::LevelFilter;

pub use faults::Fault;
pub(crate) use faults::Faulty;

use desk::Desk;

use crate::protocol::{LEDGER, STREAM};

/// By what the files of the log and of the tree are smaller than those of users: so that a life of half a
/// second sees many of them begin, go, and be merged.
pub(crate) const SMALLER: u32 = 256;

/// How a server stores.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the command line makes it")]
pub struct Storing {
    /// The directory with the data.
    pub data: PathBuf,
    /// Without a sync for each commit.
    pub relaxed: bool,
    /// What the store gets wrong.
    pub fault: Option<Fault>,
    /// Where a server listens that hands over to the next process. A fault is that of the next one. Such a server
    /// makes no backups. `None` for any port, and no hand-over.
    pub port: Option<u16>,
}

/// Serves until it is killed. The first line that it prints is the address.
///
///
/// # Errors
///
/// When it cannot listen, or the store cannot be opened.
pub async fn serve(storing: &Storing) -> Result {
    tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_writer(io::stderr).init();
    if let Some(port) = storing.port {
        return storing.serve_in_turn(port).await;
    }
    let (disk, backend) = storing.open()?;
    let is_stale = storing.fault == Some(Fault::StaleCopy);
    let desk = Desk { store: backend.clone(), disk, is_stale };
    let builder = Runtime::builder()
        .party::<ledger::Ledger>(LEDGER)
        .party::<stream::Stream>(STREAM)
        .backend(backend);
    crate::desk::serve(builder, move |asked| desk.clone().answer(asked)).await
}

impl Storing {
    /// Serves until another process takes over.
    async fn serve_in_turn(&self, port: u16) -> Result {
        rig::shrink(SMALLER);
        let is_next = env::var_os("PARTYKIT_HANDOVER").is_some();
        if let Some(Fault::Planted(fault)) = self.fault.filter(|_| is_next) {
            rig::plant(fault);
        }
        Runtime::builder()
            .party::<ledger::Ledger>(LEDGER)
            .party::<stream::Stream>(STREAM)
            .data(&self.data)
            .fallback(async |_| Response::new(process::id().to_string().into()))
            .serve(("127.0.0.1", port))
            .await
    }

    fn open(&self) -> Result<(DiskBackend, Arc<dyn Backend>)> {
        // To begin a file of the log syncs the one before it, which would hide that nothing else does.
        if !self.relaxed {
            rig::shrink(SMALLER);
        }
        if let Some(Fault::Planted(fault)) = self.fault {
            rig::plant(fault);
        }
        let durability = if self.relaxed { Durability::Relaxed } else { Durability::Durable };
        let disk = DiskBackend::open(&self.data, durability)?;
        let backend: Arc<dyn Backend> = Arc::new(disk.clone());
        let backend = match self.fault {
            None | Some(Fault::StaleCopy | Fault::Planted(_)) => backend,
            Some(fault) => Arc::new(Faulty::new(backend, fault)),
        };
        Ok((disk, backend))
    }
}
