use std::{
    any::Any,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use partykit_core::{
    Close, Message,
    runtime::{CloseReason, ConnectionKey, RoomCell},
};
use tracing::{debug, error};

#[cfg(unix)]
use super::left::{Out, SocketState};
use super::{
    Link,
    carriage::Carriage,
    charge::{Charge, FREE},
    link::Progress,
    pace::ControlCount,
    scratch,
};
use crate::codec::{Decoder, Incoming, encode_pong};

/// Runs a socket to its end, after the handshake was answered with 101. Gives the client's messages to the
/// room, and tells the room how the connection ended. Polled by a loop of the reactor, or as a task of its
/// own.
///
/// Dropping it ends the socket; the room is told 1006.
pub(crate) struct SocketTask(Arc<Link>);

impl SocketTask {
    pub(crate) fn new(
        carriage: impl Into<Carriage>,
        start: impl Into<Start>,
        link: Arc<Link>,
        room: Arc<RoomCell>,
        connection: ConnectionKey,
    ) -> Self {
        link.settings().meter.connected();
        let mut seat = Seat::new(room, connection);
        let Start { decoder, unread } = start.into();
        let unfinished = decoder.is_mid_message();
        seat.unfinished = unfinished;
        let mut left = None;
        let aside = (!unread.is_empty()).then(|| {
            let held = Held { message: None, buffer: unread.len(), rest: unread };
            Box::new(Aside { held: Some(held), charge: None })
        });
        if aside.is_some() || !decoder.is_blank() {
            left = Some(Box::new(Rest { decoder, aside }));
        }
        link.attach(carriage.into(), seat, left);
        if unfinished {
            link.set_unfinished(true);
        }
        Self(link)
    }

    #[cfg(unix)]
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.0
    }

    /// Does what can be done now, with the news since the last time. Ready when the socket has ended.
    #[cfg(unix)]
    pub(super) fn advance(&self, news: News, cx: &mut Context<'_>) -> Poll<()> {
        match scratch::with(|buffer| self.read_at_once(news, buffer, cx)) {
            Some(done) => done,
            None => self.go_on(cx),
        }
    }

    /// Reads once, if that is known to be all that is to be done. `None` if there is more to do. It takes the link's
    /// lock twice, and nothing else of the socket's state is looked at: this happens for each message.
    #[cfg(unix)]
    fn read_at_once(
        &self,
        news: News,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Option<Poll<()>> {
        let (seat, read) = match self.0.begin_reading(news, buffer, cx)? {
            Poll::Ready(read) => read,
            Poll::Pending => return Some(Poll::Pending),
        };
        let (advanced, seat, left) =
            self.with_turn(seat, None, |turn| turn.take_in(read, buffer, false));
        match advanced {
            Some(()) => self.0.end_reading(seat, left, cx).then_some(Poll::Pending),
            None => {
                self.0.put_seat(seat, left);
                Some(Poll::Ready(()))
            }
        }
    }

    /// Does what can be done now. Ready when the socket has ended.
    fn go_on(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((seat, left)) = self.0.take_seat() else { return Poll::Ready(()) };
        let (advanced, seat, left) = self.with_turn(seat, left, |turn| turn.advance(cx));
        self.0.put_seat(seat, left);
        advanced.unwrap_or(Poll::Ready(()))
    }

    /// `None` if it panicked: one socket must not take the others of its loop with it.
    fn with_turn<R>(
        &self,
        seat: Seat,
        left: Option<Box<Rest>>,
        act: impl FnOnce(&mut Turn<'_>) -> R,
    ) -> (Option<R>, Seat, Option<Box<Rest>>) {
        let mut turn = Turn::new(&self.0, seat, left);
        let acted = catch_unwind(AssertUnwindSafe(|| act(&mut turn)));
        let (seat, left) = turn.into_seat();
        let result = acted.inspect_err(|payload| {
            error!("a socket panicked, so it is closed: {}", panic_message(&**payload));
        });
        (result.ok(), seat, left)
    }
}

impl Future for SocketTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.go_on(cx)
    }
}

/// What a loop has heard of a socket.
#[derive(Clone, Copy, Default)]
pub(super) struct News {
    /// There may be something to read.
    pub(super) readable: bool,
    /// The client has hung up behind it.
    pub(super) hung_up: bool,
}

impl Drop for SocketTask {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(out) = self.0.last_out() {
            let has_left = matches!(out, Out::Left(_));
            self.0.settings().exit.say(out);
            if has_left {
                return self.0.settings().meter.disconnected();
            }
        }
        let seat = self.0.take_seat();
        self.0.end();
        self.0.settings().meter.disconnected();
        if let Some((seat, left)) = seat.filter(|(seat, _)| !seat.told) {
            // The room ignores this for a refused connect, because it never knew the connection.
            Turn::new(&self.0, seat, left).tell(CloseReason::Dropped.close());
        }
    }
}

/// What a link keeps for the reading of its socket.
pub(super) struct Seat {
    room: Arc<RoomCell>,
    connection: ConnectionKey,
    controls: ControlCount,
    /// The client has begun a message and not ended it.
    unfinished: bool,
    /// The room knows that the connection has ended.
    told: bool,
}

impl Seat {
    fn new(room: Arc<RoomCell>, connection: ConnectionKey) -> Self {
        let controls = ControlCount::default();
        Self { room, connection, controls, unfinished: false, told: false }
    }
}

#[cfg(unix)]
impl Rest {
    /// Writes down what was read and not given to the room.
    pub(super) fn to_hand_over(&self, state: &mut SocketState) {
        let Self { decoder, aside } = self;
        let (frame, message) = decoder.unfinished();
        state.half = message.map(|(is_text, bytes, count)| (is_text, bytes.to_vec(), count));
        state.unread = frame.to_vec();
        if let Some(Held { message, rest, .. }) = aside.as_ref().and_then(|it| it.held.as_ref()) {
            if let Some(message) = message {
                // As the client sent it.
                crate::codec::encode_client_message(message, &mut state.unread);
            }
            state.unread.extend_from_slice(rest);
        }
    }
}

/// What a client had sent before its socket began to be read.
#[derive(Default)]
pub(crate) struct Start {
    /// A message that has begun.
    pub(super) decoder: Decoder,
    /// What the decoder has not seen: the bytes right after a handshake, for example.
    pub(super) unread: Bytes,
}

impl From<Bytes> for Start {
    fn from(unread: Bytes) -> Self {
        Self { unread, ..Self::default() }
    }
}

/// What is left of a read. Most sockets have nothing.
#[derive(Default)]
pub(super) struct Rest {
    decoder: Decoder,
    aside: Option<Box<Aside>>,
}

/// The reading of a socket, while it goes on.
struct Turn<'a> {
    link: &'a Arc<Link>,
    room: Arc<RoomCell>,
    connection: ConnectionKey,
    decoder: Decoder,
    controls: ControlCount,
    aside: Option<Box<Aside>>,
    unfinished: bool,
    told: bool,
}

/// The bytes that a socket keeps in memory between two reads. Most sockets have none.
#[derive(Default)]
struct Aside {
    held: Option<Held>,
    charge: Option<Charge>,
}

/// Bytes that were read, and that the room could not take yet.
struct Held {
    message: Option<Message>,
    rest: Bytes,
    /// The bytes of the buffer that `rest` is a part of.
    buffer: usize,
}

impl Held {
    fn memory(&self) -> usize {
        self.message.as_ref().map_or(0, Message::len) + self.buffer
    }
}

impl<'a> Turn<'a> {
    fn new(link: &'a Arc<Link>, seat: Seat, left: Option<Box<Rest>>) -> Self {
        let Seat { room, connection, controls, unfinished, told } = seat;
        let Rest { decoder, aside } = left.map_or_else(Rest::default, |left| *left);
        Self { link, room, connection, decoder, controls, aside, unfinished, told }
    }

    /// Whether nothing is left of what was read.
    fn is_blank(&self) -> bool {
        self.decoder.is_blank() && self.aside.is_none()
    }

    /// What the link keeps until the next one.
    fn into_seat(self) -> (Seat, Option<Box<Rest>>) {
        let is_blank = self.is_blank();
        let Self { room, connection, controls, unfinished, told, decoder, aside, .. } = self;
        let left = (!is_blank).then(|| Box::new(Rest { decoder, aside }));
        (Seat { room, connection, controls, unfinished, told }, left)
    }

    /// Does what can be done now. Ready when the socket has ended.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_evicted(cx) {
                self.crowd_out();
            }
            match self.link.poll(cx) {
                Progress::Tell(close) => self.tell(close),
                Progress::Read { clogged } => ready!(self.poll_read(clogged, cx)),
                Progress::Discard => ready!(self.poll_discard(cx)),
                Progress::Wait => return Poll::Pending,
                #[cfg(unix)]
                Progress::StepOut(paused) => {
                    let out = if paused { Out::Paused } else { Out::Stays };
                    self.link.settings().exit.say(out);
                }
                Progress::End => return Poll::Ready(()),
            }
        }
    }

    /// Takes one step. Ready when the step is done.
    fn poll_read(&mut self, clogged: bool, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(held) = self.take_held() {
            return self.poll_held(held, clogged, cx);
        }
        let memory = &self.link.settings().memory;
        let is_short = memory.is_short();
        if is_short && self.decoder.is_mid_message() {
            ready!(memory.poll_space(cx));
        }
        scratch::with(|buffer| {
            let most = if is_short { FREE } else { buffer.len() };
            let read = ready!(self.link.poll_read(cx, &mut buffer[..most]));
            self.take_in(read, buffer, clogged);
            Poll::Ready(())
        })
    }

    /// Takes what was read into the buffer.
    fn take_in(&mut self, read: io::Result<usize>, buffer: &[u8], clogged: bool) {
        match read {
            Ok(0) => self.link.lost(CloseReason::HungUp),
            Ok(length) => {
                self.digest(&buffer[..length], None, clogged);
                self.adjust();
            }
            Err(error) => {
                let room = self.room.address();
                let (party, room) = (room.party(), room.room().as_str());
                let connection = self.room.id_of(self.connection);
                debug!(party, room, connection, "a socket failed: {error}");
                self.link.lost(CloseReason::Broken);
            }
        }
    }

    /// Goes on with held bytes, when the room has space and the client has read enough.
    fn poll_held(&mut self, mut held: Held, mut clogged: bool, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(message) = held.message.take() {
            let taken = take(self.link, &self.room, self.connection, message, &mut clogged);
            if let Err(message) = taken
                && self.link.stall()
            {
                // No waker is needed here: when the client reads, `is_clogged` wakes the task.
                let space = match clogged {
                    true => Poll::Pending,
                    false => self.room.poll_space(self.connection, &message, cx),
                };
                held.message = Some(message);
                self.aside.get_or_insert_default().held = Some(held);
                return space;
            }
            self.link.resume();
        }
        let Held { rest, buffer, .. } = held;
        self.digest(&rest, Some((&rest, buffer)), clogged);
        self.adjust();
        Poll::Ready(())
    }

    fn take_held(&mut self) -> Option<Held> {
        self.aside.as_mut()?.held.take()
    }

    /// Counts the memory that the socket keeps until the next read.
    fn adjust(&mut self) {
        let Self { link, decoder, aside, .. } = self;
        let held = aside.as_ref().and_then(|aside| aside.held.as_ref()).map_or(0, Held::memory);
        let bytes = decoder.memory() + held;
        if aside.is_none() && bytes <= FREE {
            return;
        }
        let put = aside.get_or_insert_default();
        put.charge = Charge::adjust(put.charge.take(), bytes, &link.settings().memory, link);
        if put.charge.is_none() && put.held.is_none() {
            *aside = None;
        }
    }

    fn is_evicted(&mut self, cx: &mut Context<'_>) -> bool {
        let charge = self.aside.as_mut().and_then(|aside| aside.charge.as_mut());
        charge.is_some_and(|charge| charge.poll_evicted(cx).is_ready())
    }

    /// Closes the connection, because other clients need its memory.
    fn crowd_out(&mut self) {
        self.forget();
        self.link.crowd_out();
    }

    /// Drops what was read and not given to the room.
    fn forget(&mut self) {
        let Some(aside) = self.aside.take() else { return };
        self.decoder = Decoder::default();
        if aside.held.is_some() {
            self.room.forgo_space(self.connection);
        }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.forget();
        let read = scratch::with(|buffer| self.link.poll_read(cx, buffer));
        if matches!(ready!(read), Ok(0) | Err(_)) {
            self.link.lost(CloseReason::HungUp);
        }
        Poll::Ready(())
    }

    /// Handles bytes that were read. `owner` is the buffer that has `input`, if it can be kept, and the
    /// buffer's length. If `clogged`, no message is taken.
    fn digest(&mut self, mut input: &[u8], owner: Option<(&Bytes, usize)>, mut clogged: bool) {
        let Self { link, room, connection, decoder, controls, .. } = self;
        let settings = link.settings();
        let mut unfinished = self.unfinished;
        loop {
            let incoming = decoder.decode(&mut input, &settings.limits);
            let allowed = match &incoming {
                Ok(Some(Incoming::Message(_))) => link.count_message(),
                Ok(Some(Incoming::Ping(_) | Incoming::Pong(_))) => {
                    controls.add(&settings.pace, settings.sweeper.now())
                }
                Ok(Some(Incoming::Close(_)) | None) | Err(_) => Ok(()),
            };
            if let Err(violation) = allowed {
                return self.violated(violation);
            }
            match incoming {
                Ok(None) => break,
                Ok(Some(Incoming::Message(message))) => {
                    if let Err(message) = take(link, room, *connection, message, &mut clogged)
                        && link.stall()
                    {
                        let (rest, buffer) = match owner {
                            // The buffer is kept only if at least half of it is still needed.
                            Some((owner, buffer)) if 2 * input.len() >= buffer => {
                                (owner.slice_ref(input), buffer)
                            }
                            _ => (Bytes::copy_from_slice(input), input.len()),
                        };
                        let held = Held { message: Some(message), rest, buffer };
                        self.aside.get_or_insert_default().held = Some(held);
                        break;
                    }
                }
                Ok(Some(Incoming::Ping(payload))) => drop(link.answer(encode_pong(&payload))),
                Ok(Some(Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Close(close))) => return link.peer_closed(close),
                Err(violation) => return self.violated(violation),
            }
            unfinished &= decoder.is_mid_message();
        }
        // A new message may have begun. It has its own time limit.
        let owes = decoder.is_mid_message();
        if owes != self.unfinished || owes != unfinished {
            link.set_unfinished(owes);
            self.unfinished = owes;
        }
    }

    /// The client did something forbidden.
    fn violated(&self, violation: CloseReason) {
        if let Some(close) = self.link.violated(violation) {
            self.room.hang_up(self.connection, close);
        }
    }

    fn tell(&mut self, close: Close) {
        self.told = true;
        let room = self.room.address();
        let (code, clean, slow) =
            (u16::from(close.code()), close.is_clean(), self.link.is_behind());
        debug!(
            party = room.party(),
            room = room.room().as_str(),
            connection = self.room.id_of(self.connection),
            code,
            clean,
            slow,
            "a connection ended"
        );
        if slow {
            self.room.slow_client();
        }
        self.room.closed(self.connection, close);
    }
}

/// Gives a message to the room, or answers it for the room.
///
/// # Errors
///
/// Returns the message if the room has no space for it, or if the client is `clogged` and has to read first.
fn take(
    link: &Link,
    room: &Arc<RoomCell>,
    connection: ConnectionKey,
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

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}
