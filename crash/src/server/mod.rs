//! The process that is killed: a room server with its data in a directory.

mod faults;
mod ledger;
mod stream;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use hyper::body::Bytes;
use partykit::{
    Backend, Request, Response, Result, Runtime,
    http::StatusCode,
    runtime::tokio::{DiskBackend, Durability, rig},
};
use tokio::net::TcpListener;
use tracing_subscriber::filter::LevelFilter;

pub use faults::Fault;

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
}

/// Serves until it is killed. The first line that it prints is the address.
///
/// `GET /wake-ups` says which rooms are to be woken when, without waking one: `[[milliseconds, room], ..]`.
///
/// # Errors
///
/// When it cannot listen, or the store cannot be opened.
pub async fn serve(storing: &Storing) -> Result {
    tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_writer(io::stderr).init();
    let backend = storing.open()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let store = backend.clone();
    let runtime = Runtime::builder()
        .party::<ledger::Ledger>(LEDGER)
        .party::<stream::Stream>(STREAM)
        .backend(backend)
        .fallback(move |request| pending(store.clone(), request))
        .build()?;
    let mut out = io::stdout();
    writeln!(out, "{address}")?;
    out.flush()?;
    runtime.serve_on(listener).await;
    Ok(())
}

impl Storing {
    fn open(&self) -> Result<Arc<dyn Backend>> {
        rig::shrink(SMALLER);
        if let Some(Fault::Planted(fault)) = self.fault {
            rig::plant(fault);
        }
        let durability = if self.relaxed { Durability::Relaxed } else { Durability::Durable };
        let backend: Arc<dyn Backend> = Arc::new(DiskBackend::open(&self.data, durability)?);
        Ok(match self.fault {
            None | Some(Fault::Planted(_)) => backend,
            Some(fault) => Arc::new(faults::Faulty::new(backend, fault)),
        })
    }
}

async fn pending(store: Arc<dyn Backend>, request: Request) -> Response {
    let mut response = Response::default();
    if request.uri().path() != "/wake-ups" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    match store.wake_ups(None, 1_000).await {
        Ok(rooms) => {
            let named = rooms.iter().map(|(at, room)| (at.as_millis(), room.room().to_string()));
            let named: Vec<_> = named.collect();
            Response::new(serde_json::json!(named).to_string().into())
        }
        Err(error) => {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            *response.body_mut() = error.to_string().into();
            response
        }
    }
}
