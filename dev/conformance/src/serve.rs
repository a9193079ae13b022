use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use partykit::{
    Request, RequestExt, Response, Runtime, Server as Party,
    http::StatusCode,
    server::{Builder, Handle},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    ANNEX, ANNEX_PAGE, ANNEX_PREFIX, IN_MEMORY, Motto, PROBE, Probe, SMALL, STARTER, SWITCHBOARD,
    Small, Starter, Switchboard, suite::RoomView,
};

/// A Tokio runtime that serves, and lets its rooms be controlled over HTTP, outside of `/parties`:
///
/// | request | does |
/// |---|---|
/// | `POST /control/evict?party=..&room=..` | puts the room to sleep; 409 with the reasons if it does not |
/// | `GET /control/stats?party=..&room=..` | [`RoomView`] as JSON, or `null` |
/// | `POST /control/broadcast?party=..&room=..` | sends the body, as text, to the room's connections |
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    handle: Handle,
    serving: JoinHandle<()>,
}

impl Server {
    /// All parties of this crate, each under its name; they store in memory.
    pub fn parties() -> Builder {
        Self::parties_with::<Probe<true>, Probe<false>>()
    }

    /// The same with others in the place of the probes.
    pub fn parties_with<P: Party + Default, Q: Party + Default>() -> Builder {
        Runtime::builder()
            .party::<P>(PROBE)
            .party::<Q>(IN_MEMORY)
            .party::<Starter>(STARTER)
            .party::<Small>(SMALL)
            .party::<Switchboard>(SWITCHBOARD)
            .party::<Switchboard>(ANNEX)
            .party_prefix(ANNEX, ANNEX_PREFIX)
            .party_allow_origins(ANNEX, [ANNEX_PAGE])
            .state(Motto(Motto::DEFAULT.to_owned()))
            // As in a release build.
            .allow_localhost(false)
            .in_memory()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The way to its rooms.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Serves until [`Handle::shutdown`].
    pub async fn until_shut_down(mut self) {
        // A panic of the accept loop would be the runtime's; there is nothing to add to its message.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves `parties`, with control, on a task.
///
/// # Errors
///
/// When the listener has no address, or the parties' data cannot be opened.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub fn serve(parties: Builder, listener: TcpListener) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let handle = Arc::new(OnceLock::new());
    let controls = handle.clone();
    let runtime = parties
        .fallback(move |request| {
            let handle: Option<Handle> = controls.get().cloned();
            async move {
                match handle {
                    Some(handle) => control(&handle, &request).await,
                    None => answer(StatusCode::SERVICE_UNAVAILABLE, &json!("not yet")),
                }
            }
        })
        .build()
        .map_err(io::Error::other)?;
    let handle = handle.get_or_init(|| runtime.handle()).clone();
    let serving = tokio::spawn(async move { runtime.serve_on(listener).await });
    Ok(Server { address, handle, serving })
}

async fn control(handle: &Handle, request: &Request) -> Response {
    let (Some(party), Some(room)) = (request.query("party"), request.query("room")) else {
        return answer(StatusCode::NOT_FOUND, &json!("no party and room in the query"));
    };
    match (request.method().as_str(), request.uri().path()) {
        ("POST", "/control/evict") => match handle.evict(&party, &room).await {
            Ok(()) => answer(StatusCode::OK, &json!("asleep")),
            Err(reasons) => answer(StatusCode::CONFLICT, &json!(format!("{reasons:?}"))),
        },
        ("GET", "/control/stats") => {
            let stats = handle.room_stats(&party, &room);
            answer(StatusCode::OK, &json!(stats.as_ref().map(RoomView::of)))
        }
        ("POST", "/control/broadcast") => {
            let text = request.body().bytes().map_or(&b""[..], |bytes| bytes);
            let text = String::from_utf8_lossy(text).into_owned();
            match handle.broadcast(&party, &room, text) {
                Ok(()) => answer(StatusCode::OK, &json!("sent")),
                Err(error) => answer(StatusCode::NOT_FOUND, &json!(error.to_string())),
            }
        }
        _ => answer(StatusCode::NOT_FOUND, &json!("no such control")),
    }
}

fn answer(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(value.to_string().into());
    *response.status_mut() = status;
    response
}
