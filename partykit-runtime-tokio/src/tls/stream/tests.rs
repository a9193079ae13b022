use std::{sync::LazyLock, time::Duration};

use proptest::prelude::*;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client};

use super::*;

type Client = client::TlsStream<DuplexStream>;

/// Both ends of TLS, with a certificate that was made just now.
static ENDS: LazyLock<(ServerConfig, ClientConfig)> = LazyLock::new(|| ends(&[&TLS13, &TLS12], 0));

/// `chain` is how many certificates the client shows.
fn ends(
    versions: &[&'static SupportedProtocolVersion],
    chain: usize,
) -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = || PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder_with_protocol_versions(versions);
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots.clone())).build().unwrap();
    let server = match chain {
        0 => server.with_no_client_auth(),
        _ => server.with_client_cert_verifier(verifier),
    };
    let server = server.with_single_cert(vec![certificate.clone()], key()).unwrap();
    let client =
        ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
    let client = match chain {
        0 => client.with_no_client_auth(),
        _ => client.with_client_auth_cert(vec![certificate; chain], key()).unwrap(),
    };
    (server, client)
}

/// Both ends of a connection that holds `space` bytes each way, after the handshake.
async fn pair(
    (server, client): (ServerConfig, ClientConfig),
    space: usize,
) -> (TlsStream<DuplexStream>, Client) {
    let (ours, theirs) = duplex(space);
    let mut stream = TlsStream::new(ours, Arc::new(server));
    let connector = TlsConnector::from(Arc::new(client));
    let client = async {
        let mut client = connector.connect("localhost".try_into().unwrap(), theirs).await.unwrap();
        client.write_all(b"!").await.unwrap();
        client.flush().await.unwrap();
        client
    };
    let (client, said) = tokio::join!(client, stream.read_u8());
    assert_eq!(said.unwrap(), b'!');
    (stream, client)
}

/// The bytes of its buffers.
fn held(stream: &TlsStream<DuplexStream>) -> usize {
    let Inner { session, unsent, .. } = &*stream.0;
    unsent.capacity() + session.partial.capacity() + session.unread.capacity()
}

/// Sends `sent` to the client in these pieces, while the client sends it too. Each end reads at most `most` bytes
/// at a time.
async fn exchange(
    stream: &mut TlsStream<DuplexStream>,
    client: &mut Client,
    sent: &[u8],
    piece: usize,
    most: usize,
) {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        stream: &mut S,
        sent: &[u8],
        piece: usize,
        most: usize,
    ) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let write = async {
            for piece in sent.chunks(piece) {
                writer.write_all(piece).await.unwrap();
                writer.flush().await.unwrap();
            }
        };
        let read = async {
            let (mut heard, mut buffer) = (Vec::new(), vec![0; most]);
            while heard.len() < sent.len() {
                let length = reader.read(&mut buffer).await.unwrap();
                assert!(length > 0);
                heard.extend_from_slice(&buffer[..length]);
            }
            assert!(heard == sent);
        };
        tokio::join!(write, read);
    }
    tokio::join!(run(stream, sent, piece, most), run(client, sent, piece, most));
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 % 251) as u8).collect()
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut tokio = tokio::runtime::Builder::new_current_thread();
    tokio.enable_time().start_paused(true).build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn all_bytes_arrive_in_any_pieces_and_then_nothing_is_held(
        space in prop_oneof![1..100usize, 100..40_000usize],
        length in prop_oneof![1..100usize, 1..60_000usize],
        piece in prop_oneof![1..64usize, 64..40_000usize],
        most in prop_oneof![1..64usize, 64..70_000usize],
    ) {
        // Not more than some thousand steps.
        let length = length.min(50 * space);
        let (piece, most) = (piece.max(length / 200), most.max(length / 200));
        block_on(async {
            let (mut stream, mut client) = pair(ENDS.clone(), space).await;
            exchange(&mut stream, &mut client, &bytes(length), piece, most).await;
            assert_eq!(held(&stream), 0);
            let mut byte = [0];
            let (shut, end) = tokio::join!(stream.shutdown(), client.read(&mut byte));
            assert_eq!((shut.unwrap(), end.unwrap()), ((), 0), "a goodbye");
            let (shut, end) = tokio::join!(client.shutdown(), stream.read(&mut byte));
            assert_eq!((shut.unwrap(), end.unwrap()), ((), 0));
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        });
    }

    /// A bit is turned over somewhere on the way to the server.
    #[test]
    fn bytes_that_are_changed_on_the_way_end_the_session(at in 0..3000usize, bit in 0..8u8) {
        block_on(async {
            let (ours, mut middle) = duplex(100_000);
            let (mut theirs, theirs_end) = duplex(100_000);
            let mut stream = TlsStream::new(ours, Arc::new(ENDS.0.clone()));
            let connector = TlsConnector::from(Arc::new(ENDS.1.clone()));
            let talk = async {
                let name = "localhost".try_into().unwrap();
                let Ok(mut client) = connector.connect(name, theirs_end).await else { return };
                for _ in 0..20 {
                    let _ = client.write_all(&[7; 100]).await;
                    let _ = client.flush().await;
                }
                let _ = client.shutdown().await;
            };
            // If the length of something was changed, both ends wait.
            let talk = timeout(Duration::from_secs(1), talk);
            let change = async move {
                let mut passed = 0;
                let (mut up, mut down) = (vec![0; 50_000], vec![0; 50_000]);
                loop {
                    tokio::select! {
                        read = theirs.read(&mut up) => match read {
                            Ok(length @ 1..) => {
                                if (passed..passed + length).contains(&at) {
                                    up[at - passed] ^= 1 << bit;
                                }
                                passed += length;
                                if middle.write_all(&up[..length]).await.is_err() { return }
                            }
                            _ => return,
                        },
                        read = middle.read(&mut down) => match read {
                            Ok(length @ 1..) => {
                                if theirs.write_all(&down[..length]).await.is_err() { return }
                            }
                            _ => return,
                        },
                    }
                }
            };
            let hear = async {
                let mut heard = Vec::new();
                let ended = stream.read_to_end(&mut heard).await;
                assert!(heard.iter().all(|byte| *byte == 7));
                // Most often an error. A changed version number, for example, does no harm.
                if ended.is_err() {
                    assert!(stream.read(&mut [0]).await.is_err());
                    assert!(stream.write_all(b"x").await.is_err());
                }
                let _ = stream.shutdown().await;
                drop(stream);
            };
            let _ = tokio::join!(talk, hear, change);
        });
    }
}

#[tokio::test]
async fn both_versions_work() {
    for version in [&TLS12, &TLS13] {
        let (mut stream, mut client) = pair(ends(&[version], 0), 1000).await;
        assert_eq!(client.get_ref().1.protocol_version(), Some(version.version));
        exchange(&mut stream, &mut client, &bytes(50_000), 5000, 64 << 10).await;
        assert_eq!(held(&stream), 0);
    }
}

/// Certificates that fill several records, and that arrive in pieces.
#[tokio::test]
async fn a_client_may_show_long_certificates() {
    for space in [37, 1000, 100_000] {
        let (mut stream, mut client) = pair(ends(&[&TLS13], 60), space).await;
        exchange(&mut stream, &mut client, &bytes(1000), 1000, 1000).await;
        assert_eq!(held(&stream), 0);
    }
}

#[tokio::test]
async fn a_client_may_change_its_keys() {
    let (mut stream, mut client) = pair(ENDS.clone(), 1000).await;
    for _ in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        exchange(&mut stream, &mut client, &bytes(3000), 1000, 1000).await;
    }
    assert_eq!(held(&stream), 0);
}

#[tokio::test]
async fn records_of_any_length_can_be_configured() {
    let mut ends = ENDS.clone();
    ends.0.max_fragment_size = Some(100);
    let (mut stream, mut client) = pair(ends, 100_000).await;
    exchange(&mut stream, &mut client, &bytes(40_000), 40_000, 40_000).await;
}

#[tokio::test]
async fn a_client_that_does_not_speak_tls_is_told_so() {
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 0, 5, 9, 0, 0, 1, 0]] {
        let (ours, mut client) = duplex(1000);
        let mut stream = TlsStream::new(ours, Arc::new(ENDS.0.clone()));
        client.write_all(said).await.unwrap();
        for _ in 0..2 {
            assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert!(stream.write(b"x").await.is_err());
        }
        drop(stream);
        let mut alert = Vec::new();
        client.read_to_end(&mut alert).await.unwrap();
        assert_eq!((alert.first(), alert.len()), (Some(&21), 7), "one alert: {alert:?}");
    }
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_an_error() {
    let (mut stream, client) = pair(ENDS.clone(), 1000).await;
    drop(client);
    let ended = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
}

/// At most a record and its overhead waits for a client that reads nothing.
#[tokio::test]
async fn a_deaf_client_takes_one_record() {
    let (mut stream, client) = pair(ENDS.clone(), 1000).await;
    let more = [0; 100_000];
    let mut taken = 0;
    while let Some(length) = futures_util::FutureExt::now_or_never(stream.write(&more)) {
        taken += length.unwrap();
        assert!(taken <= RECORD);
    }
    assert!(held(&stream) <= RECORD + OVERHEAD, "{}", held(&stream));
    drop(client);
}
