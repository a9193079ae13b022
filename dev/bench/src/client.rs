//! One client at a time, each on a thread that waits for it.

use std::{
    io::{BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    thread,
    time::{Duration, Instant},
};

use partykit::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::protocol::handshake;

/// A client that has waited for so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A TCP connection from an address of this machine.
pub(crate) fn dial(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    dial_with(from, to, None)
}

/// The same. `buffer` is what the kernel keeps of what the client has not read, in bytes.
pub(crate) fn dial_with(
    from: Ipv4Addr,
    to: SocketAddr,
    buffer: Option<usize>,
) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(size) = buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(from, 0)).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks to be in a room. Whether the answer is 101.
pub(crate) fn enter(stream: &mut TcpStream, room: &str) -> Result<bool> {
    stream.write_all(handshake(room).as_bytes())?;
    Ok(head(stream)?.starts_with(b"HTTP/1.1 101"))
}

/// A client in a room.
///
/// # Errors
///
/// When it is not let in.
pub(crate) fn open(room: &str, to: SocketAddr) -> Result<TcpStream> {
    let mut stream = dial(Ipv4Addr::LOCALHOST, to)?;
    match enter(&mut stream, room)? {
        true => Ok(stream),
        false => Err("a client is not let in".into()),
    }
}

/// What is answered to the health check of the hostile server: whether it is 200.
pub(crate) fn is_well(from: Ipv4Addr, to: SocketAddr) -> Result<bool> {
    let mut stream = dial(from, to)?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")?;
    Ok(head(&mut stream)?.starts_with(b"HTTP/1.1 200"))
}

/// A client's frame of at most 125 bytes, masked with zeros.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    [&[opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

fn head(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            break;
        }
        head.push(byte[0]);
    }
    Ok(head)
}

/// A client that takes no more than this many bytes a second.
pub(crate) struct Reader {
    input: BufReader<Paced>,
}

impl Reader {
    /// `pace` is in bytes a second. `None` is as fast as it can.
    pub(crate) fn new(stream: TcpStream, pace: Option<f64>) -> Self {
        let paced = Paced { stream, pace, begun: Instant::now(), taken: 0 };
        Self { input: BufReader::with_capacity(16 * 1024, paced) }
    }

    pub(crate) fn tell(&mut self, text: &str) -> Result<()> {
        Ok(self.input.get_mut().stream.write_all(&frame(TEXT, text.as_bytes()))?)
    }

    /// The next message. Pings are answered.
    ///
    /// # Errors
    ///
    /// When the server closes the connection instead.
    pub(crate) fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            let [opcode, length] = self.array()?;
            let length = match length {
                126 => u16::from_be_bytes(self.array()?).into(),
                127 => u64::from_be_bytes(self.array()?),
                length => length.into(),
            };
            let mut payload = vec![0; usize::try_from(length)?];
            self.input.read_exact(&mut payload)?;
            match opcode {
                TEXT => return Ok(payload),
                PING => self.input.get_mut().stream.write_all(&frame(PONG, &payload))?,
                CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    return Err(format!("the server closed with {code}").into());
                }
                other => return Err(format!("a frame of kind {other:#x}").into()),
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

struct Paced {
    stream: TcpStream,
    pace: Option<f64>,
    begun: Instant,
    taken: u64,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(pace) = self.pace {
            let due = self.begun + Duration::from_secs_f64(self.taken as f64 / pace);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let length = self.stream.read(buffer)?;
        self.taken += length as u64;
        Ok(length)
    }
}
