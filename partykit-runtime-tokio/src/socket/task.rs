use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use partykit_core::{Close, Connection, Message, runtime::RoomCell};
use tracing::debug;

use super::{Io, Link, link::Progress, pace::ControlCount, scratch};
use crate::codec::{Decoder, Incoming, encode_pong};

/// Runs a socket to its end, once the handshake is answered with 101: gives the room what the client
/// says, and tells it when and how the connection ended.
///
/// `already_read` is what the client sent right behind its handshake. A future that is dropped ends
/// the socket, with 1006 for the room.
pub(crate) fn run(
    io: Box<dyn Io>,
    already_read: Bytes,
    link: Arc<Link>,
    room: Arc<RoomCell>,
    connection: Connection,
) -> impl Future<Output = ()> + Send {
    link.settings().meter.connected();
    link.attach(io);
    let held =
        (!already_read.is_empty()).then(|| Box::new(Held { message: None, rest: already_read }));
    let (decoder, controls) = (Decoder::default(), ControlCount::default());
    SocketTask { link, room, connection, decoder, controls, held, unfinished: false, told: false }
}

struct SocketTask {
    link: Arc<Link>,
    room: Arc<RoomCell>,
    connection: Connection,
    decoder: Decoder,
    controls: ControlCount,
    held: Option<Box<Held>>,
    /// The client owes the rest of a message.
    unfinished: bool,
    /// The room knows that it is over.
    told: bool,
}

/// What has been read and the room could not take yet.
struct Held {
    message: Option<Message>,
    rest: Bytes,
}

impl Future for SocketTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.link.poll(cx) {
                Progress::Tell(close) => self.tell(*close),
                Progress::Read { clogged } => ready!(self.poll_read(clogged, cx)),
                Progress::Discard => ready!(self.poll_discard(cx)),
                Progress::Wait => return Poll::Pending,
                Progress::End => return Poll::Ready(()),
            }
        }
    }
}

impl SocketTask {
    /// Takes a step; ready when it has taken one.
    fn poll_read(&mut self, clogged: bool, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(held) = self.held.take() {
            return self.poll_held(held, clogged, cx);
        }
        scratch::with(|buffer| {
            match ready!(self.link.poll_read(cx, buffer)) {
                Ok(0) => self.link.lost("the client hung up without a Close"),
                Ok(length) => self.digest(&buffer[..length], None, clogged),
                Err(error) => {
                    let (room, connection) = (self.room.address(), self.connection.id());
                    let (party, room) = (room.party(), room.room().as_str());
                    debug!(party, room, connection, "a socket failed: {error}");
                    self.link.lost("the connection broke");
                }
            }
            Poll::Ready(())
        })
    }

    /// Goes on where the room had no space, or the client had to read first.
    fn poll_held(
        &mut self,
        mut held: Box<Held>,
        mut clogged: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if let Some(message) = held.message.take() {
            let taken = take(&self.link, &self.room, &self.connection, message, &mut clogged);
            if let Err(message) = taken
                && self.link.stall()
            {
                // A client that reads again has its task woken by that.
                let space = match clogged {
                    true => Poll::Pending,
                    false => self.room.poll_space(&self.connection, &message, cx),
                };
                held.message = Some(message);
                self.held = Some(held);
                return space;
            }
            self.link.resume();
        }
        self.digest(&held.rest, Some(&held.rest), clogged);
        Poll::Ready(())
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.held.take().is_some() {
            self.room.forgo_space(&self.connection);
        }
        let read = scratch::with(|buffer| self.link.poll_read(cx, buffer));
        if matches!(ready!(read), Ok(0) | Err(_)) {
            self.link.lost("the client hung up");
        }
        Poll::Ready(())
    }

    /// Acts on what was read. `owner` is what `input` is a part of, if that can be kept. If `clogged`, no
    /// message is taken.
    fn digest(&mut self, mut input: &[u8], owner: Option<&Bytes>, mut clogged: bool) {
        let Self { link, room, connection, decoder, controls, .. } = self;
        let settings = link.settings();
        let mut unfinished = self.unfinished;
        loop {
            let incoming = decoder.decode(&mut input, &settings.limits).and_then(|incoming| {
                match incoming {
                    Some(Incoming::Message(_)) => link.count_message()?,
                    Some(Incoming::Ping(_) | Incoming::Pong(_)) => {
                        controls.add(&settings.pace, settings.sweeper.now())?;
                    }
                    Some(Incoming::Close(_)) | None => {}
                }
                Ok(incoming)
            });
            match incoming {
                Ok(None) => break,
                Ok(Some(Incoming::Message(message))) => {
                    if let Err(message) = take(link, room, connection, message, &mut clogged)
                        && link.stall()
                    {
                        let rest = owner.map_or_else(
                            || Bytes::copy_from_slice(input),
                            |owner| owner.slice_ref(input),
                        );
                        self.held = Some(Box::new(Held { message: Some(message), rest }));
                        break;
                    }
                }
                Ok(Some(Incoming::Ping(payload))) => drop(link.answer(encode_pong(&payload))),
                Ok(Some(Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Close(close))) => return link.peer_closed(close),
                Err(violation) => {
                    if let Some(close) = link.violated(violation) {
                        room.hang_up(connection, close);
                    }
                    return;
                }
            }
            unfinished &= decoder.is_mid_message();
        }
        // Another message than the one before may have begun, and has its own time.
        let owes = decoder.is_mid_message();
        if owes != self.unfinished || owes != unfinished {
            link.set_unfinished(owes);
            self.unfinished = owes;
        }
    }

    fn tell(&mut self, close: Close) {
        self.told = true;
        let (room, connection) = (self.room.address(), self.connection.id());
        let (code, clean, slow) =
            (u16::from(close.code()), close.is_clean(), self.link.is_behind());
        debug!(
            party = room.party(),
            room = room.room().as_str(),
            connection,
            code,
            clean,
            slow,
            "a connection ended"
        );
        if slow {
            self.room.slow_client();
        }
        self.room.closed(&self.connection, close);
    }
}

/// Gives a message to the room, or answers it for the room.
///
/// # Errors
///
/// The message, when the room has no space for it, or the client is `clogged`: it has to read first
/// what waits for it.
fn take(
    link: &Link,
    room: &Arc<RoomCell>,
    connection: &Connection,
    message: Message,
    clogged: &mut bool,
) -> Result<(), Message> {
    if *clogged {
        return Err(message);
    }
    match &link.settings().auto_response {
        Some((request, answer)) if message.as_text() == Some(request) => {
            *clogged = link.answer(answer.clone());
            Ok(())
        }
        _ => {
            let length = message.len();
            room.message(connection, message)?;
            link.settings().meter.received(length);
            Ok(())
        }
    }
}

impl Drop for SocketTask {
    fn drop(&mut self) {
        self.link.end();
        self.link.settings().meter.disconnected();
        if !self.told {
            // Ignored for a connect that was refused: the room never knew it.
            self.tell(Close::abnormal("the socket was dropped"));
        }
    }
}
