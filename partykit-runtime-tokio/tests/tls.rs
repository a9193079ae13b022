//! TLS as its operator sees it: protocols, certificates and names.
#![cfg(feature = "tls")]

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use partykit_runtime_tokio::{
    Builder, Runtime, TlsListener, bind,
    rustls::{
        self, ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

fn certified(name: &str) -> (CertificateDer<'static>, CertifiedKey) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let key = ring::sign::any_supported_type(&key).unwrap();
    let certificate = made.cert.der().clone();
    (certificate.clone(), CertifiedKey::new(vec![certificate], key))
}

/// Has one key for each name, which can be exchanged.
#[derive(Debug, Default)]
struct Keys(Mutex<Vec<(&'static str, Arc<CertifiedKey>)>>);

impl Keys {
    /// A new certificate for this name, from the next handshake on.
    fn renew(&self, name: &'static str) -> CertificateDer<'static> {
        let (certificate, key) = certified(name);
        let mut keys = self.0.lock().unwrap();
        keys.retain(|(known, _)| *known != name);
        keys.push((name, Arc::new(key)));
        certificate
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.0.lock().unwrap();
        let named = keys.iter().find(|(name, _)| Some(*name) == hello.server_name());
        named.map(|(_, key)| key.clone())
    }
}

async fn serve(config: ServerConfig) -> SocketAddr {
    serve_as(Runtime::builder(), config).await
}

async fn serve_as(builder: Builder, config: ServerConfig) -> SocketAddr {
    let runtime = builder.in_memory().build().unwrap();
    let listener = bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { runtime.serve_on(TlsListener::new(listener, config)).await });
    addr
}

/// A connection to this name, for a client that trusts this certificate alone.
async fn connect(
    addr: SocketAddr,
    name: &'static str,
    trusted: &CertificateDer<'static>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    timeout(NEVER, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

#[tokio::test]
async fn certificates_are_exchanged_without_a_restart_and_chosen_by_name() {
    let keys = Arc::new(Keys::default());
    let (old, other) = (keys.renew("a.example"), keys.renew("b.example"));
    let config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(keys.clone());
    let addr = serve(config).await;
    let open = connect(addr, "a.example", &old, &[]).await.unwrap();
    connect(addr, "b.example", &other, &[]).await.unwrap();
    assert!(connect(addr, "b.example", &old, &[]).await.is_err());

    let new = keys.renew("a.example");
    connect(addr, "a.example", &new, &[]).await.unwrap();
    assert!(connect(addr, "a.example", &old, &[]).await.is_err());
    assert!(connect(addr, "c.example", &new, &[]).await.is_err());
    assert_eq!(open.get_ref().1.peer_certificates().unwrap(), [old], "it stays as it was");
}

#[tokio::test]
async fn nobody_is_offered_a_protocol_that_is_not_spoken() {
    for offered in [&["h2", "http/1.1"][..], &["h2"], &["h3"], &["http/1.1"], &[]] {
        let (certificate, key) = certified("a.example");
        let resolver = rustls::sign::SingleCertAndKey::from(key);
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = offered.iter().map(|it| it.as_bytes().to_vec()).collect();
        let addr = serve(config).await;
        let stream = connect(addr, "a.example", &certificate, &["h2", "http/1.1"]).await.unwrap();
        let chosen = stream.get_ref().1.alpn_protocol();
        assert!(chosen.is_none_or(|chosen| chosen == b"http/1.1"), "{offered:?}: {chosen:?}");
        assert_eq!(chosen.is_none(), offered.is_empty());
    }
}

/// The beginning of a ClientHello that says 512 bytes follow.
const HALF_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

/// They count as half requests do: three times as many as there are places, and all others are let in.
#[tokio::test]
async fn half_handshakes_of_tls_make_nobody_wait() {
    outlast_half_handshakes(Runtime::builder().max_connections(40)).await;
}

/// The same where half handshakes may have all places: the oldest one goes because all places are taken.
#[tokio::test]
async fn half_handshakes_of_tls_in_all_places_make_nobody_wait() {
    outlast_half_handshakes(Runtime::builder().max_connections(40).max_handshakes(40, 40)).await;
}

async fn outlast_half_handshakes(builder: Builder) {
    let (certificate, key) = certified("a.example");
    let resolver = rustls::sign::SingleCertAndKey::from(key);
    let config =
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    let builder = builder.handshake_timeout(Duration::from_secs(3600));
    let addr = serve_as(builder, config).await;
    let mut slow = Vec::new();
    for n in 0..120 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // Every third one says nothing at all. Who came before may have been hung up on.
        let said = if n % 3 == 0 { &[][..] } else { &HALF_HELLO };
        let _ = stream.write_all(said).await;
        slow.push(stream);
    }
    for _ in 0..10 {
        let mut good = connect(addr, "a.example", &certificate, &[]).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
        good.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        timeout(NEVER, good.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    }
    // 80 had to make space, and ten more may have. A client that is left hears nothing.
    for stream in &mut slow[..80] {
        let mut rest = Vec::new();
        let _ = timeout(NEVER, stream.read_to_end(&mut rest)).await.expect("hung up on");
    }
    let mut byte = [0];
    let last = slow.last().unwrap();
    assert!(last.try_read(&mut byte).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
}

/// One byte at a time, for ever: the time for the first request is for the handshake too.
#[tokio::test]
async fn a_slow_handshake_of_tls_is_hung_up_on() {
    let (_, key) = certified("a.example");
    let resolver = rustls::sign::SingleCertAndKey::from(key);
    let config =
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    let builder = Runtime::builder().handshake_timeout(Duration::from_millis(500));
    let addr = serve_as(builder, config).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        for byte in HALF_HELLO.iter().chain(std::iter::repeat(&0)) {
            pace.tick().await;
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let mut heard = Vec::new();
    let hung_up = async {
        tokio::select! {
            () = drip => {}
            _ = reader.read_to_end(&mut heard) => {}
        }
    };
    timeout(NEVER, hung_up).await.expect("hung up on");
}
