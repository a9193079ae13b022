//! TLS by the server: connections cannot be kept, and the listener is.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use partykit_runtime_tokio::{
    Runtime,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::house::{Site, fragment, frame, handshake};

const CLIENTS: usize = 1000;

/// How long anything may take here before it counts as never: handshakes are slow in tests.
const NEVER: Duration = Duration::from_secs(90);

/// How many come at once at first. Later all do.
const AT_ONCE: usize = 50;

/// Serves with a certificate that the first process makes.
pub(crate) async fn serve(runtime: Runtime, store: &Path) {
    let [certificate, key] = ["certificate", "key"].map(|name| store.with_file_name(name));
    if !key.exists() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.der()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_der()).unwrap();
    }
    let chain = vec![CertificateDer::from(std::fs::read(certificate).unwrap())];
    let key = PrivateKeyDer::Pkcs8(std::fs::read(key).unwrap().into());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    runtime.serve_tls("127.0.0.1:0", config.unwrap()).await.unwrap();
}

#[derive(Clone)]
struct Door {
    addr: SocketAddr,
    connector: TlsConnector,
    room: String,
    id: String,
}

impl Door {
    /// A client whose handshake a busy server has no time for comes again. One that is refused does not.
    async fn enter(&self) -> io::Result<TlsStream<TcpStream>> {
        loop {
            let stream = TcpStream::connect(self.addr).await?;
            if let Ok(stream) = self.shake_hands(stream).await {
                return Ok(stream);
            }
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut stream = self.connector.connect("localhost".try_into().unwrap(), stream).await?;
        stream.write_all(handshake(self.addr, &self.room, &self.id).as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Ok(stream)
    }
}

/// The next frame, which is short.
async fn hear(stream: &mut TlsStream<TcpStream>) -> io::Result<(u8, Vec<u8>)> {
    let (first, length) = (stream.read_u8().await?, stream.read_u8().await?);
    let mut payload = vec![0; length.into()];
    stream.read_exact(&mut payload).await?;
    Ok((first, payload))
}

#[tokio::test]
async fn all_clients_are_told_to_come_back_and_none_is_refused() {
    let mut site = Site::start("tls");
    let mut roots = RootCertStore::empty();
    let certificate = std::fs::read(site.store().with_file_name("certificate")).unwrap();
    roots.add(certificate.into()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let (inside, mut arrivals) = tokio::sync::mpsc::channel(CLIENTS);
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let (connector, room, id) = (connector.clone(), format!("room{}", n % 10), n.to_string());
        let door = Door { addr: site.addr, connector, room, id };
        let (at_once, inside) = (at_once.clone(), inside.clone());
        clients.spawn(async move {
            let turn = at_once.acquire().await.unwrap();
            let mut stream = door.enter().await?;
            drop(turn);
            inside.send(()).await.unwrap();
            let (first, close) = hear(&mut stream).await?;
            assert_eq!((first, &close[..2]), (0x88, &1012_u16.to_be_bytes()[..]));
            // The server may have hung up already.
            let _ = stream.write_all(&fragment(0x88, &close[..2])).await;
            drop(stream);
            // At once.
            let mut stream = door.enter().await?;
            stream.write_all(&frame("back")).await?;
            assert_eq!(hear(&mut stream).await?, (0x81, b"back".to_vec()));
            io::Result::Ok(())
        });
    }
    for _ in 0..CLIENTS {
        timeout(NEVER, arrivals.recv()).await.expect("all come in").unwrap();
    }
    let replaced = tokio::task::spawn_blocking(move || {
        site.replace();
        site
    });
    let (mut back, mut errors) = (0, Vec::new());
    while let Some(client) = timeout(NEVER, clients.join_next()).await.expect("all come back") {
        match client.unwrap() {
            Ok(()) => back += 1,
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert_eq!((back, &errors[..]), (CLIENTS, &[][..]));
    let mut site = replaced.await.unwrap();
    assert_eq!(site.first_ended(), Some(0));
}
