//! What a handshake and an idle connection take from the allocator. The runtime runs on the test's own thread,
//! whose allocations are counted; the clients are on another thread.
#![cfg(target_os = "linux")]

mod upgraded;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use allocation_counter::{AllocationInfo, measure};
use partykit_core::{Options, Server};
use partykit_runtime_tokio::{Listener, Runtime};
use tokio::{net::TcpListener, runtime, sync::oneshot};

use upgraded::upgraded;

/// How many handshakes are measured. Tables grow now and then, so one alone says little.
const HANDSHAKES: usize = 200;

#[derive(Default)]
struct Quiet;

impl Server for Quiet {
    fn options() -> Options {
        Options::new().hibernate(true)
    }
}

/// How clients come.
trait Way: Copy + Send + 'static {
    type Client: Read + Write + Send + 'static;

    fn open(self, addr: SocketAddr) -> Self::Client;
    fn listen(self, tcp: TcpListener) -> impl Listener;
}

#[derive(Clone, Copy)]
struct Plain;

impl Way for Plain {
    type Client = TcpStream;

    fn open(self, addr: SocketAddr) -> TcpStream {
        TcpStream::connect(addr).unwrap()
    }

    fn listen(self, tcp: TcpListener) -> impl Listener {
        tcp
    }
}

/// One handshake, as a browser sends it.
fn connect<W: Way>(way: W, addr: SocketAddr, room: &str, id: usize) -> W::Client {
    let stream = way.open(addr);
    let request = format!(
        "GET /parties/main/{room}?_pk=1b9d6bcd-bbfd-4b2d-{id} HTTP/1.1\r\nHost: {addr}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://{addr}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
    upgraded(stream, &request)
}

/// What `HANDSHAKES` of them take, one after another, after as many that are not counted. `room` names the room
/// of each.
fn handshakes<W: Way>(way: W, room: fn(usize) -> String) -> AllocationInfo {
    let tokio = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (addr, _serving) = tokio.block_on(async {
        let builder = Runtime::builder().party::<Quiet>("main").allow_any_origin();
        let runtime = builder.in_memory().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (addr, tokio::spawn(async move { runtime.serve_on(way.listen(listener)).await }))
    });
    let mut held = Vec::new();
    let mut round = |from: usize| {
        let (done, is_done) = oneshot::channel();
        let clients = thread::spawn(move || {
            let of = |id| connect(way, addr, &room(id), id);
            let _ = done.send((from..from + HANDSHAKES).map(of).collect::<Vec<_>>());
        });
        let counted = measure(|| held.push(tokio.block_on(is_done).unwrap()));
        clients.join().unwrap();
        counted
    };
    round(0);
    round(HANDSHAKES)
}

fn print(what: &str, counted: AllocationInfo) -> (u64, u64) {
    let handshakes = HANDSHAKES as u64;
    let (count, bytes) = (counted.count_total / handshakes, counted.bytes_total / handshakes);
    let left = counted.bytes_current / HANDSHAKES as i64;
    println!("{what}: {count} allocations, {bytes} bytes; {left} bytes stay");
    (count, bytes)
}

#[test]
fn a_handshake_takes_little() {
    let further = print("a further connection", handshakes(Plain, |_| "lobby".into()));
    let first = print("a new room", handshakes(Plain, |id| format!("room-{id}")));
    assert!(further.0 <= 17 && further.1 < 6_500, "{further:?}");
    assert!(first.0 <= 25 && first.1 < 11_500, "{first:?}");
}

#[cfg(feature = "tls")]
mod tls {
    use std::sync::{Arc, LazyLock};

    use partykit_runtime_tokio::{
        TlsListener,
        rustls::{
            ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
            pki_types::PrivateKeyDer,
        },
    };

    use super::*;

    /// Both ends of TLS, with a certificate that was made just now.
    static ENDS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let chain = vec![made.cert.der().clone()];
        let server =
            ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    });

    #[derive(Clone, Copy)]
    struct Tls;

    impl Way for Tls {
        type Client = StreamOwned<ClientConnection, TcpStream>;

        fn open(self, addr: SocketAddr) -> Self::Client {
            let name = "localhost".try_into().unwrap();
            let client = ClientConnection::new(ENDS.1.clone(), name).unwrap();
            StreamOwned::new(client, TcpStream::connect(addr).unwrap())
        }

        fn listen(self, tcp: TcpListener) -> impl Listener {
            TlsListener::new(tcp, ENDS.0.clone())
        }
    }

    #[test]
    fn an_idle_connection_over_tls_holds_no_buffer() {
        let plain = handshakes(Plain, |_| "lobby".into());
        let encrypted = handshakes(Tls, |_| "lobby".into());
        print("over TCP", plain);
        print("over TLS", encrypted);
        let stays = encrypted.bytes_current / HANDSHAKES as i64;
        assert!(stays < 5000, "{stays} bytes");
    }
}
