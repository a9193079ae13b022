//! The party on Tokio, with questions for what only the server can see.

use std::net::SocketAddr;

use bench_party::{Talk, starts};
use partykit::{
    Result, Runtime,
    server::{TlsListener, rustls},
    stats::RoomPhase,
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::net::TcpListener;

use super::talk;
use crate::heap::{Allocations, Heap};

/// As many as descriptors allow, few of which are files.
const PLACES: usize = 19_900;

/// Everything as it is by default, except for the sleep, and for the number of places.
///
/// Questions: `starts`, how often `on_start` has run; `count ROOM`, its connections; `phase ROOM`,
/// `asleep` or `awake`; `evict ROOM` puts it to sleep and answers like `phase`; `asleep` and `awake`, how many
/// rooms are; `heap`, the [`Heap`]; `allocations`, the [`Allocations`] so far; `tls` listens with TLS too, and
/// answers where, and the certificate.
pub(super) fn run() -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = tokio.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let builder = Runtime::builder().party::<Talk>("main").in_memory().max_connections(PLACES);
    let runtime = tokio.block_on(async { builder.build() })?;
    let (address, handle) = (listener.local_addr()?, runtime.handle());
    let plain = runtime.clone();
    tokio.spawn(async move { plain.serve_on(listener).await });
    talk(address, |question| {
        let stats = |room| handle.room_stats("main", room);
        let phase = |room| match stats(room).map(|stats| stats.phase) {
            None | Some(RoomPhase::Asleep) => "asleep".to_owned(),
            Some(_) => "awake".to_owned(),
        };
        let or_failed =
            |answer: Result<String>| answer.unwrap_or_else(|error| format!("failed: {error}"));
        match question.split_once(' ') {
            None if question == "starts" => starts().to_string(),
            None if question == "asleep" => handle.stats().parties["main"].asleep.to_string(),
            None if question == "awake" => handle.stats().parties["main"].awake.to_string(),
            None if question == "heap" => or_failed(Heap::now().map(|heap| heap.to_string())),
            None if question == "allocations" => {
                or_failed(Allocations::so_far().map(|all| all.to_string()))
            }
            None if question == "tls" => {
                let runtime = runtime.clone();
                or_failed(tokio.block_on(async {
                    let (listener, address, certificate) = tls().await?;
                    tokio.spawn(async move { runtime.serve_on(listener).await });
                    Ok(format!("{address} {certificate}"))
                }))
            }
            Some(("count", room)) => stats(room).map_or(0, |stats| stats.connections).to_string(),
            Some(("phase", room)) => phase(room),
            Some(("evict", room)) => match tokio.block_on(handle.evict("main", room)) {
                Ok(()) => phase(room),
                Err(reasons) => format!("awake: {reasons:?}"),
            },
            _ => format!("unknown question {question}"),
        }
    })
}

/// TLS with a certificate of its own for `localhost`, which is in hexadecimal here.
async fn tls() -> Result<(TlsListener<TcpListener>, SocketAddr, String)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let chain = vec![made.cert.der().clone()];
    let hex = chain[0].iter().map(|byte| format!("{byte:02x}")).collect();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((TlsListener::new(listener, config), address, hex))
}
