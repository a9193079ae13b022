//! The process that is killed: a room server with its data in a directory.

mod faults;
mod ledger;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use hyper::body::Bytes;
use partykit::{
    Backend, Request, Response, Result, Runtime,
    http::StatusCode,
    runtime::tokio::{DiskBackend, Durability},
};
use tokio::net::TcpListener;
use tracing_subscriber::filter::LevelFilter;

pub use faults::Fault;

use crate::protocol::PARTY;

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
/// `GET /wake-ups` says how many rooms are to be woken, without waking one.
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
        .party::<ledger::Ledger>(PARTY)
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
        let durability = if self.relaxed { Durability::Relaxed } else { Durability::Durable };
        let backend: Arc<dyn Backend> = Arc::new(DiskBackend::open(&self.data, durability)?);
        Ok(match self.fault {
            Some(fault) => Arc::new(faults::Faulty::new(backend, fault)),
            None => backend,
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
        Ok(rooms) => Response::new(rooms.len().to_string().into()),
        Err(error) => {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            *response.body_mut() = error.to_string().into();
            response
        }
    }
}
