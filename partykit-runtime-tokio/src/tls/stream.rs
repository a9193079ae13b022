use std::{
    cell::Cell,
    fmt, io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    Error, ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
        UnbufferedStatus, WriteTraffic,
    },
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that are encrypted at a time: a record.
const RECORD: usize = 16 << 10;

/// What TLS may add to the bytes that are encrypted at a time. If a configuration has shorter records, this may
/// be too little, and then the buffer grows.
const OVERHEAD: usize = 256;

/// A read takes at least and at most as many encrypted bytes.
const READ: (usize, usize) = (4 << 10, 32 << 10);

/// The most encrypted bytes that can wait for their rest. Rustls refuses records and messages that are longer.
const PARTIAL: usize = 96 << 10;

thread_local! {
    /// What is read goes through this buffer, which all connections of a thread share.
    static READING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The same for what is written.
    static WRITING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connection of a [`TlsListener`](crate::TlsListener): the first read or write does the handshake.
///
/// Between two messages it holds the keys and no buffer. It has a buffer while a record has arrived in part, while
/// the reader has taken only a part of one, or while the client takes no more bytes.
///
/// ```
/// use partykit_runtime_tokio::{Listener, TlsListener, TlsStream};
/// use tokio::net::{TcpListener, TcpStream};
///
/// async fn next(mut listener: TlsListener<TcpListener>) -> std::io::Result<TlsStream<TcpStream>> {
///     let (stream, _peer) = listener.accept().await?;
///     Ok(stream)
/// }
/// ```
pub struct TlsStream<I>(Box<Inner<I>>);

struct Inner<I> {
    io: I,
    session: Session,
    /// Encrypted bytes that the operating system has not taken yet: at most a record, and what TLS has to say
    /// itself.
    unsent: Vec<u8>,
    /// A `close_notify` was sent, or is in `unsent`.
    is_shut: bool,
}

/// TLS without IO.
struct Session {
    /// An error if the session has failed.
    tls: Result<UnbufferedServerConnection, Error>,
    /// Encrypted bytes of a record or a message that has not arrived as a whole.
    partial: Vec<u8>,
    /// Bytes for the reader that it has not taken yet.
    unread: Vec<u8>,
    /// The handshake is over.
    is_open: bool,
    /// The client has said that it sends no more.
    is_ended: bool,
}

impl<I> TlsStream<I> {
    pub(super) fn new(io: I, config: Arc<ServerConfig>) -> Self {
        let session = Session {
            tls: UnbufferedServerConnection::new(config),
            partial: Vec::new(),
            unread: Vec::new(),
            is_open: false,
            is_ended: false,
        };
        Self(Box::new(Inner { io, session, unsent: Vec::new(), is_shut: false }))
    }

    /// The connection below TLS.
    pub(super) fn get_ref(&self) -> &I {
        &self.0.io
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Inner<I> {
    /// Reads once, and decrypts all that has arrived as a whole. Ready when there is progress.
    fn poll_progress(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, session, unsent, .. } = self;
        let (least, most) = READ;
        let read = with(&READING, |buffer| {
            let before = session.partial.len();
            let end = before + into.remaining().clamp(least, most);
            if buffer.len() < end {
                buffer.resize(end, 0);
            }
            let mut fresh = ReadBuf::new(&mut buffer[before..end]);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut fresh))?;
            let length = fresh.filled().len();
            if length == 0 {
                let why = "the client hung up without ending TLS";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
            }
            buffer[..before].copy_from_slice(&session.partial);
            let input = &mut buffer[..before + length];
            let used = session.process(input, into, unsent)?;
            let rest = &input[used..];
            if rest.len() > PARTIAL {
                return Poll::Ready(Err(invalid("a message of TLS is too long")));
            }
            // A new buffer, as large as what it holds. Most often nothing.
            session.partial = rest.to_vec();
            Poll::Ready(Ok(()))
        });
        // What the client is to hear now: a part of the handshake, or why it failed.
        let sent = if self.unsent.is_empty() { Poll::Pending } else { self.poll_send(cx) };
        ready!(read)?;
        match sent {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Ready when the handshake is over.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.is_open {
            self.session.check()?;
            ready!(self.poll_progress(cx, &mut ReadBuf::new(&mut [])))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when nothing encrypted waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let done = loop {
            if sent == self.unsent.len() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.io).poll_write(cx, &self.unsent[sent..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => sent += length,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        done
    }

    /// Encrypts at most a record's length of `bytes`, and sends it as far as that goes. Returns how much was
    /// encrypted.
    fn poll_encrypt(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        if self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_send(cx))?;
        let bytes = &bytes[..bytes.len().min(RECORD)];
        with(&WRITING, |buffer| {
            let length =
                self.session.write(&mut self.unsent, buffer, |tls, out| tls.encrypt(bytes, out))?;
            let mut sent = 0;
            while self.unsent.is_empty() && sent < length {
                match Pin::new(&mut self.io).poll_write(cx, &buffer[sent..length]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(taken)) => sent += taken,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            self.unsent.extend_from_slice(&buffer[sent..length]);
            Poll::Ready(Ok(bytes.len()))
        })
    }
}

impl Session {
    /// # Errors
    ///
    /// When the session has failed.
    fn check(&self) -> io::Result<()> {
        self.tls.as_ref().map(|_| ()).map_err(|error| invalid(error.clone()))
    }

    /// Takes all of `input` that is whole. What is for the reader goes to `into`, and to `unread` when that is
    /// full. What is for the client goes to `unsent`. Returns how much of `input` is done with.
    fn process(
        &mut self,
        input: &mut [u8],
        into: &mut ReadBuf<'_>,
        unsent: &mut Vec<u8>,
    ) -> io::Result<usize> {
        self.check()?;
        let Self { tls: session, unread, is_open, is_ended, .. } = self;
        let Ok(tls) = session else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } = tls.process_tls_records(&mut input[used..]);
            let is_done = match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(record) = records.next_record() {
                        let record = record.map_err(invalid)?;
                        used += record.discard;
                        let fits = record.payload.len().min(into.remaining());
                        // Nothing may overtake what waits already.
                        let fits = if unread.is_empty() { fits } else { 0 };
                        into.put_slice(&record.payload[..fits]);
                        unread.extend_from_slice(&record.payload[fits..]);
                    }
                    false
                }
                // Rustls accepts early data only if the configuration says so. A handshake can be replayed, so
                // it is not read.
                Ok(ConnectionState::ReadEarlyData(mut records)) => {
                    while let Some(record) = records.next_record() {
                        used += record.map_err(invalid)?.discard;
                    }
                    false
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, unsent)?;
                    false
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // It is in `unsent`, and nothing overtakes it there.
                    data.done();
                    false
                }
                Ok(ConnectionState::PeerClosed) => {
                    *is_ended = true;
                    false
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    *is_open = true;
                    true
                }
                // Closed, or more bytes are needed.
                Ok(_) => true,
                Err(error) => {
                    say_why(tls, &mut input[used + discard..], unsent);
                    *session = Err(error.clone());
                    return Err(invalid(error));
                }
            };
            used += discard;
            if is_done {
                return Ok(used);
            }
        }
    }

    /// Has TLS write something into `buffer`, which grows as needed. Returns its length. What has to leave before
    /// goes to `unsent`.
    fn write(
        &mut self,
        unsent: &mut Vec<u8>,
        buffer: &mut Vec<u8>,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        // What waits has to be passed again each time, as a whole.
        let mut partial = mem::take(&mut self.partial);
        let used = self.process(&mut partial, &mut ReadBuf::new(&mut []), unsent);
        partial.drain(..used?);
        self.partial = partial;
        let tls = self.tls.as_mut().map_err(|error| invalid(error.clone()))?;
        let state = tls.process_tls_records(&mut self.partial).state.map_err(invalid)?;
        let ConnectionState::WriteTraffic(mut traffic) = state else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if buffer.is_empty() {
            buffer.resize(RECORD + OVERHEAD, 0);
        }
        loop {
            match write(&mut traffic, buffer) {
                Ok(length) => return Ok(length),
                Err(EncryptError::InsufficientSize(size)) => buffer.resize(size.required_size, 0),
                Err(EncryptError::EncryptExhausted) => {
                    return Err(invalid("the keys have been used for too many records"));
                }
            }
        }
    }
}

/// Adds the alert that tells the client why the session failed.
fn say_why(tls: &mut UnbufferedServerConnection, input: &mut [u8], unsent: &mut Vec<u8>) {
    // Without anything to write, rustls would read the input again, and find its fault again.
    while tls.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = tls.process_tls_records(input).state else {
            return;
        };
        if encode(data, unsent).is_err() {
            return;
        }
    }
}

fn encode(
    mut data: EncodeTlsData<'_, ServerConnectionData>,
    unsent: &mut Vec<u8>,
) -> io::Result<()> {
    let before = unsent.len();
    match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            unsent.resize(before + required_size, 0);
            data.encode(&mut unsent[before..]).map_err(invalid)?;
        }
        encoded => drop(encoded.map_err(invalid)?),
    }
    Ok(())
}

/// Lends out a buffer of this thread.
fn with<R>(
    buffer: &'static std::thread::LocalKey<Cell<Vec<u8>>>,
    act: impl FnOnce(&mut Vec<u8>) -> R,
) -> R {
    let mut taken = buffer.take();
    let result = act(&mut taken);
    buffer.set(taken);
    result
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self.0;
        let before = buffer.filled().len();
        loop {
            let unread = &mut this.session.unread;
            if !unread.is_empty() {
                let fits = unread.len().min(buffer.remaining());
                buffer.put_slice(&unread[..fits]);
                *unread = unread[fits..].to_vec();
            }
            if buffer.filled().len() > before || this.session.is_ended || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.session.check()?;
            let progress = ready!(this.poll_progress(cx, buffer));
            // What came before an error is read first. The next read fails then.
            if buffer.filled().len() == before {
                progress?;
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.0.poll_encrypt(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let whole = slices.iter().map(|slice| slice.len()).sum::<usize>().min(RECORD);
        if let Some(first) = slices.iter().find(|slice| !slice.is_empty())
            && first.len() >= whole
        {
            return self.poll_write(cx, first);
        }
        // Many short frames leave as one record.
        let mut record = Vec::with_capacity(whole);
        for slice in slices {
            let fits = slice.len().min(whole - record.len());
            record.extend_from_slice(&slice[..fits]);
        }
        self.poll_write(cx, &record)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_send(cx))?;
        Pin::new(&mut self.0.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.0;
        // Before the handshake there are no keys for a `close_notify`.
        if !this.session.is_open {
            return Poll::Ready(Ok(()));
        }
        if !this.is_shut {
            this.is_shut = true;
            let mut notify = Vec::new();
            let written = this
                .session
                .write(&mut this.unsent, &mut notify, |tls, out| tls.queue_close_notify(out));
            if let Ok(length) = written {
                this.unsent.extend_from_slice(&notify[..length]);
            }
        }
        ready!(this.poll_send(cx))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
            // The client has hung up already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl<I> fmt::Debug for TlsStream<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
