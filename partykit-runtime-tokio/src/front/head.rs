use std::{
    io,
    mem::{self, MaybeUninit},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};
use partykit_core::runtime::front::Handshake;
use tokio::io::{AsyncRead, ReadBuf};

use crate::socket::scratch;

/// How many headers a request may have.
pub(super) const MAX_HEADERS: usize = 100;

/// How many bytes the head of a request may have.
pub(super) const MAX_HEAD: usize = 16 * 1024;

/// What a client sends first.
#[allow(clippy::large_enum_variant, reason = "nearly always the large one")]
pub(super) enum First {
    /// A whole head that asks for a WebSocket.
    Handshake(Head),
    /// Anything else: another request, a head that is not valid or too long, or the end. Hyper reads it again
    /// and answers it.
    Other(Bytes),
}

/// The head of a handshake.
pub(super) struct Head {
    pub(super) parts: Parts,
    /// As it was sent.
    pub(super) bytes: Bytes,
    /// What was sent right behind it.
    pub(super) rest: Bytes,
}

/// Reads the first head of a connection. Until it is whole, this holds what the client has sent of it, and no
/// buffer.
#[derive(Default)]
pub(super) struct Reading {
    sent: Vec<u8>,
}

impl Reading {
    /// Reads until the head is whole, or is not for a WebSocket.
    ///
    /// # Errors
    ///
    /// When the connection has failed.
    pub(super) fn poll<I: AsyncRead + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<First>> {
        loop {
            let first = scratch::with(|buffer| {
                // Not more than hyper would hold.
                let mut buffer = ReadBuf::new(&mut buffer[..MAX_HEAD - self.sent.len()]);
                ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok::<_, io::Error>(self.take(buffer.filled())))
            });
            if let Some(first) = ready!(first)? {
                return Poll::Ready(Ok(first));
            }
        }
    }

    /// What has been sent until now, for hyper.
    pub(super) fn give_up(&mut self) -> First {
        First::Other(mem::take(&mut self.sent).into())
    }

    /// `None` while the head is not whole.
    fn take(&mut self, read: &[u8]) -> Option<First> {
        if self.sent.is_empty() {
            let first = first(read);
            if first.is_none() {
                self.sent = read.to_vec();
            }
            return first;
        }
        let before = self.sent.len();
        self.sent.extend_from_slice(read);
        let is_over = read.is_empty() || self.sent.len() >= MAX_HEAD;
        // Not parsed again for each byte of a slow client.
        if !is_over && !has_end(&self.sent[before.saturating_sub(3)..]) {
            return None;
        }
        let first = first(&self.sent);
        if first.is_some() { first } else { is_over.then(|| self.give_up()) }
    }
}

/// Whether there is an empty line.
fn has_end(bytes: &[u8]) -> bool {
    let ends = |rest: &[u8]| rest.starts_with(b"\n\n") || rest.starts_with(b"\n\r\n");
    (0..bytes.len()).any(|at| ends(&bytes[at..]))
}

/// `None` if the bytes are the beginning of a head.
fn first(sent: &[u8]) -> Option<First> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let (length, upgrade) = match request.parse_with_uninit_headers(sent, &mut headers) {
        // Nothing at all is the end.
        Ok(httparse::Status::Partial) if !sent.is_empty() => return None,
        Ok(httparse::Status::Complete(length)) => (length, upgrade(&request)),
        _ => (0, None),
    };
    let Some(upgrade) = upgrade else {
        return Some(First::Other(Bytes::copy_from_slice(sent)));
    };
    // Nearly always it says nothing else.
    let is_plain = upgrade.eq_ignore_ascii_case(b"websocket");
    let (head, rest) = sent.split_at(length);
    let bytes = shared(head);
    let first = match parts(&request, head, &bytes) {
        Some(parts) if is_plain || Handshake::is_wanted(&parts.headers) => {
            let rest = Bytes::copy_from_slice(rest);
            First::Handshake(Head { parts, bytes, rest })
        }
        _ => First::Other(Bytes::copy_from_slice(sent)),
    };
    Some(first)
}

/// A head that many headers share. A short one, as nearly all are, in one allocation.
fn shared(head: &[u8]) -> Bytes {
    let mut short = Short { bytes: [0; SHORT], length: head.len() };
    match short.bytes.get_mut(..head.len()) {
        Some(place) => place.copy_from_slice(head),
        None => return Bytes::copy_from_slice(head),
    }
    Bytes::from_owner(short)
}

/// With what is kept beside it, this is below 1,024 bytes: allocators are quicker with these.
const SHORT: usize = 960;

struct Short {
    bytes: [u8; SHORT],
    length: usize,
}

impl AsRef<[u8]> for Short {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The first `Upgrade` of what may be a handshake, in the form that browsers send. All others are left to hyper.
fn upgrade<'a>(request: &httparse::Request<'_, 'a>) -> Option<&'a [u8]> {
    let is_fitting = request.method == Some("GET")
        && request.version == Some(1)
        && request.path.is_some_and(|path| path.starts_with('/'));
    let mut headers = request.headers.iter().filter(|_| is_fitting);
    headers.find(|it| it.name.eq_ignore_ascii_case(UPGRADE.as_str())).map(|it| it.value)
}

/// The head as hyper would make it. All of it is a part of `bytes`, a copy of `head`. `None` if it may have a body,
/// or if hyper would refuse it.
fn parts(request: &httparse::Request<'_, '_>, head: &[u8], bytes: &Bytes) -> Option<Parts> {
    let part = |part: &[u8]| {
        let at = part.as_ptr() as usize - head.as_ptr() as usize;
        bytes.slice(at..at + part.len())
    };
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING || name == EXPECT {
            // It may have a body.
            return None;
        }
        headers.append(name, HeaderValue::from_maybe_shared(part(header.value)).ok()?);
    }
    let uri = Uri::from_maybe_shared(part(request.path?.as_bytes())).ok()?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version) = (Method::GET, uri, Version::HTTP_11);
    parts.headers = headers;
    Some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HANDSHAKE: &str = "GET /parties/main/a?b=c HTTP/1.1\r\nHost: h.com\r\n\
         Upgrade: a\r\nUPGRADE: WebSocket\r\nX-Own: é\r\nx-empty:\r\n\r\n";

    /// What is read of these pieces, each of which arrives by itself.
    fn read(pieces: &[&[u8]]) -> Option<First> {
        let mut reading = Reading::default();
        pieces.iter().find_map(|piece| reading.take(piece))
    }

    fn is_other(sent: &[u8]) -> bool {
        matches!(read(&[sent]), Some(First::Other(bytes)) if bytes == sent)
    }

    #[test]
    fn a_handshake_is_read_as_it_was_sent() {
        let sent = HANDSHAKE.as_bytes().to_vec();
        let sent: Vec<u8> = sent.into_iter().chain(*b"\x81").collect();
        let Some(First::Handshake(head)) = read(&[&sent]) else { panic!("it is one") };
        let Head { parts, bytes, rest } = head;
        assert_eq!(parts.headers["host"], "h.com");
        assert_eq!((&*bytes, &*rest), (&sent[..sent.len() - 1], &b"\x81"[..]));
        assert_eq!((parts.method, parts.version), (Method::GET, Version::HTTP_11));
        assert_eq!(parts.uri, "/parties/main/a?b=c");
        let upgrades: Vec<_> = parts.headers.get_all("upgrade").iter().collect();
        assert_eq!(upgrades, ["a", "WebSocket"]);
        assert_eq!(parts.headers["x-own"].as_bytes(), "é".as_bytes());
        assert_eq!((parts.headers.len(), parts.headers["x-empty"].as_bytes()), (5, &b""[..]));
    }

    #[test]
    fn hyper_gets_everything_else() {
        let get = |head: &str| format!("GET /a HTTP/1.1\r\nupgrade: websocket\r\n{head}\r\n");
        assert!(!is_other(get("").as_bytes()));
        for head in ["content-length: 0\r\n", "Transfer-Encoding: chunked\r\n", "expect: x\r\n"] {
            assert!(is_other(get(head).as_bytes()), "{head}");
        }
        for sent in [
            "",
            "\x16\x03\x01",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nupgrade: h2c\r\n\r\n",
            "GET / HTTP/1.0\r\nupgrade: websocket\r\n\r\n",
            "GET http://h.com/ HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
            "POST / HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nupgrade : websocket\r\n\r\n",
            "GET /\x7f HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
        ] {
            assert!(is_other(sent.as_bytes()), "{sent:?}");
        }
        let many = "a: b\r\n".repeat(MAX_HEADERS);
        assert!(is_other(get(&many).as_bytes()), "one header too many");
        assert!(!is_other(get(&many[6..]).as_bytes()));
    }

    #[test]
    fn a_head_without_an_end_is_given_to_hyper() {
        let begun = &HANDSHAKE.as_bytes()[..60];
        assert!(read(&[begun]).is_none());
        assert!(matches!(read(&[begun, b""]), Some(First::Other(bytes)) if bytes == begun));
        let long = [b'a'; MAX_HEAD - 60];
        let Some(First::Other(bytes)) = read(&[begun, &long]) else { panic!("it is too long") };
        assert_eq!(bytes.len(), MAX_HEAD);
        let mut reading = Reading::default();
        assert!(reading.take(begun).is_none());
        assert!(matches!(reading.give_up(), First::Other(bytes) if bytes == begun));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_how_many_pieces_it_comes(
            cuts in prop::collection::btree_set(1..HANDSHAKE.len(), 0..6),
            is_short in any::<bool>(),
        ) {
            let sent = if is_short { HANDSHAKE.replace('\r', "") } else { HANDSHAKE.to_owned() };
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().filter(|cut| *cut < sent.len()) {
                pieces.push(&sent.as_bytes()[from..cut]);
                from = cut;
            }
            pieces.push(&sent.as_bytes()[from..]);
            let Some(First::Handshake(head)) = read(&pieces) else { panic!("{pieces:?}") };
            prop_assert_eq!(&*head.bytes, sent.as_bytes());
        }

        #[test]
        fn what_is_no_handshake_comes_back_as_it_was(
            pieces in prop::collection::vec("(GET / HTTP/1.1)?(\r?\n|[a: ]|upgrade: x|\\PC){0,30}", 1..5)
        ) {
            let whole = pieces.concat();
            let pieces: Vec<_> = pieces.iter().map(|it| it.as_bytes()).chain([&b""[..]]).collect();
            let mut taken = 0;
            let mut reading = Reading::default();
            let first = pieces.iter().find_map(|piece| {
                taken += piece.len();
                reading.take(piece)
            });
            let Some(First::Other(bytes)) = first else { panic!("{whole:?}") };
            prop_assert_eq!(&*bytes, &whole.as_bytes()[..taken]);
        }
    }
}
