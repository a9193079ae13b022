//! Serves the echo example over each transport that the runtime has for a WebSocket:
//! `cargo run -p partykit-conformance --bin transports`.
//!
//! Each line that it prints is the name of a transport and its URL:
//!
//! * `loop`: plain TCP, watched by a loop of the runtime's own.
//! * `task`: a Tokio task a connection, as for each stream that the runtime does not know.
//! * `tls`: the same with TLS, and a certificate of its own.

use std::{error::Error, io, net::SocketAddr};

use echo::Echo;
use partykit::{
    Runtime,
    server::{
        Listener, TlsListener,
        rustls::{ServerConfig, pki_types::PrivateKeyDer},
    },
};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let runtime = Runtime::builder().party::<Echo>("echo").in_memory().build()?;
    let (plain, unknown, encrypted) = (listener().await?, listener().await?, listener().await?);
    for (name, scheme, listener) in
        [("loop", "ws", &plain), ("task", "ws", &unknown), ("tls", "wss", &encrypted)]
    {
        println!("{name} {scheme}://{}/parties/echo/room", listener.local_addr()?);
    }
    let encrypted = TlsListener::new(encrypted, certified()?);
    let served = runtime.serve_on(plain);
    tokio::join!(served, runtime.serve_on(Unknown(unknown)), runtime.serve_on(encrypted));
    Ok(())
}

async fn listener() -> io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await
}

/// With a certificate that this process has made for itself.
fn certified() -> Result<ServerConfig, Box<dyn Error + Send + Sync>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let chain = vec![made.cert.der().clone()];
    Ok(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?)
}

/// TCP of which the runtime does not know that it is.
struct Unknown(TcpListener);

impl Listener for Unknown {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        Listener::accept(&mut self.0).await
    }
}
