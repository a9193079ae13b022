//! What a server is asked beside its rooms, and how it is asked.

use std::{
    future::Future,
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use partykit::{
    Body, BoxError, Request, Response, Result,
    http::StatusCode,
    server::{Builder, Handle},
    storage::{Backend, DiskBackend, Durability},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpListener;

use crate::{
    crowd::ask,
    server::{Fault, Faulty},
};

/// How many rooms are asked at a time.
const AT_ONCE: usize = 64;

/// This many rooms stand in one question.
const PAGE: usize = 250;

/// The store in a directory. `fault` is what it gets wrong.
///
/// # Errors
///
/// When it cannot be opened, or there is no such fault.
pub(crate) fn open(directory: &str, fault: Option<&String>) -> Result<Arc<dyn Backend>> {
    let store = Arc::new(DiskBackend::open(directory, Durability::Durable)?);
    Ok(match fault {
        None => store,
        Some(fault) => Arc::new(Faulty::new(store, fault.parse::<Fault>()?)),
    })
}

/// Serves until the process is killed. The first line that it prints is the address. `answer` answers what is asked
/// at paths that are no room's.
///
/// # Errors
///
/// When it cannot listen.
pub(crate) async fn serve<F, A>(builder: Builder, answer: F) -> Result
where
    F: Fn(Question) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<String>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let fallback = move |request: Request| {
        let answer = answer.clone();
        async move {
            let said = match Question::of(&request) {
                Some(question) => answer(question).await,
                None => Err("no handle comes with the request".into()),
            };
            said.map_or_else(
                |error| {
                    let mut response = Response::new(error.to_string().into());
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    response
                },
                |said| Response::new(said.into()),
            )
        }
    };
    let runtime = builder.fallback(fallback).build()?;
    let mut out = io::stdout();
    writeln!(out, "{address}")?;
    out.flush()?;
    runtime.serve_on(listener).await;
    Ok(())
}

/// What a server is asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) handle: Handle,
    pub(crate) path: String,
    body: Vec<u8>,
}

impl Question {
    fn of(request: &Request) -> Option<Self> {
        let handle = request.extensions().get::<Handle>()?.clone();
        let body = request.body().bytes().map_or_else(Vec::new, |bytes| bytes.to_vec());
        Some(Self { handle, path: request.uri().path().to_owned(), body })
    }

    /// What it is about.
    pub(crate) fn about<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Asks rooms, each with a body, and answers with what they say.
    pub(crate) async fn ask_rooms<T: DeserializeOwned + Serialize>(
        &self,
        party: &str,
        rooms: impl IntoIterator<Item = (String, String)>,
    ) -> Result<String> {
        let all = stream::iter(rooms).map(async |(room, body)| {
            let answer = self.handle.request(party, &room, Request::new(Body::from(body))).await?;
            let body = answer.body().bytes().map_or(&[][..], |bytes| bytes);
            Ok::<T, BoxError>(serde_json::from_slice(body)?)
        });
        let said: Vec<T> = all.buffered(AT_ONCE).try_collect().await?;
        Ok(serde_json::to_string(&said)?)
    }

    /// The error about a path that nobody has.
    pub(crate) fn unknown(&self) -> BoxError {
        format!("nothing is at {}", self.path).into()
    }
}

/// Asks a server.
///
/// # Errors
///
/// When it does not answer, or answers something else.
pub(crate) async fn told<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    about: &(impl Serialize + ?Sized),
) -> Result<T, BoxError> {
    let answer = ask(address, path, serde_json::to_string(about)?).await?;
    let told = serde_json::from_slice(&answer);
    told.map_err(|error| format!("{path}: {error}: {}", String::from_utf8_lossy(&answer)).into())
}

/// The same about many: a page of them in each question.
///
/// # Errors
///
/// As [`told`].
pub(crate) async fn told_of_each<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    about: &[impl Serialize],
) -> Result<Vec<T>, BoxError> {
    let mut all = Vec::new();
    for page in about.chunks(PAGE) {
        all.extend(told::<Vec<T>>(address, path, page).await?);
    }
    Ok(all)
}
