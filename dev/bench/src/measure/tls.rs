//! What an idle connection with TLS costs beside one without, and what it cannot do without.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use bench_party::ECHO;
use partykit::{Result, server::rustls};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore, ServerConfig,
    ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

use super::{
    Sizes, hall,
    memory::echo,
    weight::{FIRST, Scales, Weight},
};
use crate::{
    child::{Allocator, Server},
    crowd::Crowd,
    heap::Heap,
    protocol::{Heard, SERVER_FRAME, Tally, client_frame, client_pong, handshake, with_id},
    report::{Goal, Report},
    server::Kind,
};

const TLS: &str = "bytes of an idle connection with TLS";
const TLS_HEAP: &str = "bytes of an idle connection with TLS, on the heap";
const PLAIN: &str = "bytes of an idle connection without TLS, of as many";
const ALONE: &str = "bytes of rustls's connection alone, on the heap";
const KEYS: &str = "bytes of the keys of a connection with TLS";

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let kind = Kind::PartyKit;
    for _ in 0..sizes.memory_turns {
        let weight = encrypted(sizes)?;
        report.record(TLS, kind, weight.share);
        report.record(TLS_HEAP, kind, weight.heap.unwrap_or(f64::NAN));
        report.record(PLAIN, kind, plain(sizes)?.share);
    }
    let (alone, keys) = alone(sizes.idle_tls)?;
    report.record(ALONE, kind, alone);
    report.record(KEYS, kind, keys as f64);
    report.limit(TLS, "nothing: bytes", Some(Goal::AtMost(5000.0)));
    report.limit(TLS_HEAP, "nothing: bytes", None);
    report.limit(PLAIN, "nothing: bytes", None);
    Ok(())
}

/// The name in the certificate.
const NAME: &str = "localhost";

fn encrypted(sizes: &Sizes) -> Result<Weight> {
    let mut server = Server::start(Kind::PartyKit, Allocator::Jemalloc)?;
    let answer = server.ask("tls")?;
    let (address, certificate) = answer.split_once(' ').ok_or("no TLS")?;
    let (address, config) = (address.parse()?, trusting(unhex(certificate)?.into())?);
    weigh(sizes, &mut server, |count, clients: &mut Vec<_>| {
        for _ in 0..count {
            clients.push(connect(address, config.clone(), clients.len())?);
        }
        clients.iter_mut().try_for_each(ask)
    })
}

fn plain(sizes: &Sizes) -> Result<Weight> {
    let mut server = Server::start(Kind::PartyKit, Allocator::Jemalloc)?;
    let address = server.address();
    let mut crowd = Crowd::new()?;
    weigh(sizes, &mut server, |count, _: &mut Vec<()>| {
        crowd.connect(address, count, hall)?;
        echo(&mut crowd, ..)
    })
}

/// Weighs a connection. `more` makes this many more, and has all of them ask.
fn weigh<C>(
    sizes: &Sizes,
    server: &mut Server,
    mut more: impl FnMut(usize, &mut Vec<C>) -> Result<()>,
) -> Result<Weight> {
    let scales = Scales::new(Kind::PartyKit, Allocator::Jemalloc, sizes);
    let room = || std::iter::once(hall(0));
    let mut clients = Vec::new();
    more(FIRST, &mut clients)?;
    let before = scales.settled(server, room())?;
    more(sizes.idle_tls, &mut clients)?;
    let after = scales.settled(server, room())?;
    let (is, should) = (server.count("count hall")?, (FIRST + sizes.idle_tls) as u64);
    if is != should {
        return Err(format!("{is} of {should} connections are left").into());
    }
    Ok(after.of_one(before, sizes.idle_tls))
}

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A client that is in the room.
fn connect(address: SocketAddr, config: Arc<ClientConfig>, id: usize) -> Result<Client> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let tls = ClientConnection::new(config, ServerName::try_from(NAME)?)?;
    let mut client = StreamOwned::new(tls, stream);
    client.write_all(handshake(&with_id(&hall(0), id)).as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(client),
        false => Err(String::from_utf8_lossy(&head).into()),
    }
}

/// Has an answer come. A ping that has waited is answered first.
fn ask(client: &mut Client) -> Result<()> {
    client.write_all(&client_frame(ECHO))?;
    let (mut tally, mut heard) = (Tally::default(), Heard::default());
    while heard.answers == 0 {
        // More than a ping and an answer: nothing is left for the next time.
        let mut input = [0; 4 * SERVER_FRAME];
        let length = client.read(&mut input)?;
        if length == 0 {
            return Err("the server closed a WebSocket".into());
        }
        heard = tally.read(&input[..length])?;
        if heard.pings > 0 {
            client.write_all(&client_pong())?;
        }
    }
    Ok(())
}

fn trusting(certificate: CertificateDer<'static>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

/// What the server's side of a connection keeps in rustls after its handshake, in this process and without
/// sockets; and how long the keys are, with what counts the records.
fn alone(count: usize) -> Result<(f64, usize)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let chain = vec![made.cert.der().clone()];
    let client = trusting(chain[0].clone())?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    let pair = || -> Result<ServerConnection> {
        let mut client = ClientConnection::new(client.clone(), ServerName::try_from(NAME)?)?;
        let mut server = ServerConnection::new(config.clone())?;
        while client.wants_write() || server.wants_write() {
            for to_client in [false, true] {
                let mut sent = Vec::new();
                if to_client {
                    server.write_tls(&mut sent)?;
                    client.read_tls(&mut &*sent)?;
                    client.process_new_packets()?;
                } else {
                    client.write_tls(&mut sent)?;
                    server.read_tls(&mut &*sent)?;
                    server.process_new_packets()?;
                }
            }
        }
        match client.is_handshaking() || server.is_handshaking() {
            true => Err("rustls does not come to an end".into()),
            false => Ok(server),
        }
    };
    let mut servers = Vec::with_capacity(count);
    for _ in 0..FIRST {
        pair()?;
    }
    let before = Heap::now()?.allocated;
    for _ in 0..count {
        servers.push(pair()?);
    }
    let after = Heap::now()?.allocated;
    // What is in the list itself is part of it.
    let inside = size_of::<ServerConnection>() as f64;
    let alone = (after - before) as f64 / count as f64 + inside;
    let secrets = pair()?.dangerous_extract_secrets()?;
    Ok((alone, [secrets.rx, secrets.tx].iter().map(length).sum()))
}

/// A key, its nonce, and the number of the next record.
fn length((sequence, secrets): &(u64, ConnectionTrafficSecrets)) -> usize {
    let keys = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            key.as_ref().len() + iv.as_ref().len()
        }
        _ => 0,
    };
    size_of_val(sequence) + keys
}
