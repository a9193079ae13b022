//! The runtime from outside, over TLS: the same tests as over TCP.
#![cfg(feature = "tls")]

#[path = "runtime/connects.rs"]
mod connects;
#[path = "runtime/handles.rs"]
mod handles;
#[path = "runtime/hooks.rs"]
mod hooks;
#[path = "runtime/origins.rs"]
mod origins;
#[path = "runtime/requests.rs"]
mod requests;
#[path = "runtime/shutdown.rs"]
mod shutdown;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "runtime/support.rs"]
mod support;
#[path = "runtime/transport.rs"]
mod transport;
#[path = "runtime/wire.rs"]
mod wire;

const TRANSPORT: transport::Transport = transport::Transport::Tls;

/// A client that has not said hello in ten seconds is gone; a client that comes after it does not wait for it.
#[tokio::test]
async fn a_client_that_never_shakes_hands_holds_nobody_up() {
    use tokio::{io::AsyncReadExt, net::TcpStream};

    let site = support::serve(partykit_runtime_tokio::Runtime::builder()).await;
    let mut silent = TcpStream::connect(site.addr).await.unwrap();
    let mut rude = TcpStream::connect(site.addr).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut rude, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(site.get("/").await.status(), 404);
    let mut alert = Vec::new();
    support::within(rude.read_to_end(&mut alert)).await.unwrap();
    assert_eq!(alert.first(), Some(&21), "the answer is an alert of TLS: {alert:?}");

    tokio::time::pause();
    let mut nothing = Vec::new();
    assert_eq!(support::within(silent.read_to_end(&mut nothing)).await.unwrap_or(0), 0);
}
