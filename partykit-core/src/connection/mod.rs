//! One WebSocket of a room: its handle, and what is kept of it.

pub(crate) mod attachment;
pub(crate) mod base;
mod kept;
pub(crate) mod key;
pub(crate) mod listing;
pub(crate) mod outgoing;
mod owner;
pub(crate) mod peer;
pub(crate) mod record;
mod slots;
pub(crate) mod socket;
mod state_error;
pub(crate) mod tags;

use std::{
    fmt,
    future::{Future, poll_fn},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    task::ready,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::owner::Owner;
pub use self::state_error::StateError;
use self::{
    peer::Peer,
    slots::{Part, Slots},
    socket::Socket,
    tags::Tags,
};
use crate::{
    Close, CloseCode, InvalidClose, JsonError, Message, Reject, Text, storage::Lookup,
    value::limits,
};

/// One WebSocket of a room.
///
/// Cheap to clone. A clone may be kept and used anywhere: in a field, in a task, on another thread. What it
/// does inside of a handler belongs to the handler's transaction. Outside of a handler, it has no
/// transaction.
///
/// Two connections are equal when they are the same socket. The same id is not enough: a client that
/// reconnects brings its id again, while the old socket may still be here.
///
/// ```
/// use partykit_core::{Connection, Message, Result, Room, Server};
///
/// struct Echo;
///
/// impl Server for Echo {
///     async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
///         let said: u32 = sender.state()?.unwrap_or(0) + 1;
///         sender.set_state(&said)?;
///         sender.send(message);
///         if said == 100 {
///             sender.close(4000, "enough")?;
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    key: u64,
    id: Box<str>,
    uri: Box<str>,
    tags: OnceLock<Tags>,
    /// The committed state as JSON. A state that a running handler has set is in its turn.
    state: Mutex<Option<Bytes>>,
    room: Weak<dyn Owner>,
    socket: Arc<dyn Socket>,
    /// A handle is not as large as the cell of a room, in the sizes of allocators. Handles go when their room sleeps,
    /// and would leave a place between two cells: of 10,000 sleeping rooms each took 150 bytes more.
    #[cfg(target_pointer_width = "64")]
    _apart: [usize; 2],
}

impl Connection {
    pub(crate) fn new(
        key: u64,
        id: impl Into<Box<str>>,
        uri: impl Into<Box<str>>,
        room: Weak<dyn Owner>,
        socket: Arc<dyn Socket>,
    ) -> Self {
        let (id, uri, tags) = (id.into(), cut(uri.into()), OnceLock::new());
        Self::of(key, (id, uri), tags, Mutex::default(), room, socket)
    }

    /// A connection as it was, with the attachment that was kept of it.
    fn resume(
        key: u64,
        (id, uri): (Box<str>, Box<str>),
        tags: Tags,
        state: Option<Bytes>,
        room: Weak<dyn Owner>,
        socket: Arc<dyn Socket>,
    ) -> Self {
        let (uri, tags, state) = (cut(uri), OnceLock::from(tags), Mutex::new(state));
        Self::of(key, (id, uri), tags, state, room, socket)
    }

    fn of(
        key: u64,
        (id, uri): (Box<str>, Box<str>),
        tags: OnceLock<Tags>,
        state: Mutex<Option<Bytes>>,
        room: Weak<dyn Owner>,
        socket: Arc<dyn Socket>,
    ) -> Self {
        Self(Arc::new(Inner {
            key,
            id,
            uri,
            tags,
            state,
            room,
            socket,
            #[cfg(target_pointer_width = "64")]
            _apart: Default::default(),
        }))
    }

    /// The id that the client chose (PartySocket's `_pk`), or a new one. The client chooses freely, so an id
    /// proves nothing about the user.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The address of the upgrade request with its query, up to 1,024 bytes. If it is longer, the path and as
    /// many whole parameters of the query as fit.
    ///
    /// It has a limit because clients choose it and it is kept as long as the socket. `on_connect` gets the
    /// whole address with its request. Put what you need later into the [state](Self::set_state).
    pub fn uri(&self) -> &str {
        &self.0.uri
    }

    /// Reads the query of [`Connection::uri`] into a type of yours.
    ///
    /// ```
    /// use partykit_core::{Connection, Reject, Request, Result, Room, Server};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Query {
    ///     nick: String,
    ///     #[serde(default)]
    ///     quiet: bool,
    /// }
    ///
    /// struct Chat;
    ///
    /// impl Server for Chat {
    ///     async fn on_connect(&mut self, room: &Room, ada: &Connection, _: &Request) -> Result {
    ///         // Without a `nick` the client is closed with 4400.
    ///         let Query { nick, quiet } = ada.query_as()?;
    ///         if !quiet {
    ///             room.broadcast(format!("{nick} is here")).send();
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A [`Reject`] (400) when the query is not of this shape. Parameters that the type does not have, as
    /// PartySocket's `_pk`, are no error.
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T, Reject> {
        Reject::read_query(self.query_text())
    }

    /// The first value of a query parameter, percent-decoded (`+` is a space). `None` if there is no such
    /// parameter.
    pub fn query(&self, name: &str) -> Option<String> {
        crate::value::route::query_value(self.query_text()?, name)
    }

    fn query_text(&self) -> Option<&str> {
        self.uri().split_once('?').map(|(_, query)| query)
    }

    /// The id, then the tags that [`connection_tags`](crate::Server::connection_tags) gave.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        let tags = self.0.tags.get().map_or(&[][..], Tags::as_slice);
        (0..tags.len() + 1).map(move |n| if n == 0 { self.id() } else { &*tags[n - 1] })
    }

    /// Whether `tag` is the id or one of the tags.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags().any(|own| own == tag)
    }

    /// The state that was set last. `None` if no state was set, or if it was an `Option` without a value. It
    /// is kept as long as the socket, also while the room sleeps.
    ///
    /// # Errors
    ///
    /// When the state is not of this shape.
    pub fn state<T: DeserializeOwned>(&self) -> Result<Option<T>, JsonError> {
        let kept = self.kept();
        let json = Slots::read(kept.as_ref()).state;
        let read = json.map(serde_json::from_slice::<Option<T>>);
        read.transpose().map(Option::flatten).map_err(JsonError::new)
    }

    /// Sets the state, as JSON. If the handler fails, the old state comes back.
    ///
    /// # Errors
    ///
    /// When `state` has no JSON form; when id, uri, tags, state and slots together would have more than
    /// 16,320 bytes (this fits into a Durable Object's attachment); or when those of all connections of the
    /// room would have more than 64 MiB.
    pub fn set_state<T: Serialize + ?Sized>(&self, state: &T) -> Result<(), StateError> {
        let json = serde_json::to_vec(state).map_err(JsonError::new)?;
        self.keep(&Part::State(Some(&json)))
    }

    /// Forgets the state.
    pub fn clear_state(&self) {
        // Less is never too large.
        let _ = self.keep(&Part::State(None));
    }

    /// The value that a library keeps with the connection under this name. `None` if there is no such value.
    /// It is kept and rolled back like the [state](Connection::state), which belongs to the application.
    ///
    /// ```
    /// use partykit_core::{Connection, Message, Result, Room, Server};
    ///
    /// struct Counter;
    ///
    /// impl Server for Counter {
    ///     async fn on_message(&mut self, _: &Room, sender: &Connection, _: Message) -> Result {
    ///         let said: u32 = sender.slot("counter")?.unwrap_or(0);
    ///         sender.set_slot("counter", &(said + 1))?;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When the value is not of this shape.
    pub fn slot<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, JsonError> {
        let kept = self.kept();
        let json = Slots::read(kept.as_ref()).get(name);
        json.map(serde_json::from_slice).transpose().map_err(JsonError::new)
    }

    /// Keeps a value with the connection under a name, as JSON. This is for libraries, so that they and the
    /// application do not overwrite each other's state. Use the name of your crate.
    ///
    /// # Errors
    ///
    /// As [`Connection::set_state`], with which it shares the 16,320 bytes.
    pub fn set_slot<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let json = serde_json::to_vec(value).map_err(JsonError::new)?;
        self.keep(&Part::Slot(name, Some(&json)))
    }

    /// Removes the value that is kept under a name.
    pub fn clear_slot(&self, name: &str) {
        // Less is never too large.
        let _ = self.keep(&Part::Slot(name, None));
    }

    /// Sends a message. To a connection that is closed or closing it does nothing.
    ///
    /// If the handler, or an earlier one, has written something that is not durable yet, the message waits
    /// until it is.
    ///
    /// A client that reads gets every message, even if it is slow. The runtime closes a client that does not
    /// read. A handler may send [64 MiB](crate::Options::max_held) at once. A connection is closed with 1013 if a
    /// task sends twice as much to it without a pause. To send more, see
    /// [`Connection::drained`].
    pub fn send(&self, message: impl Into<Message>) {
        if let Some(room) = self.room() {
            room.send(self, message.into());
        }
    }

    /// Like [`Connection::send`], with a value as JSON in a text message.
    ///
    /// # Errors
    ///
    /// When `value` has no JSON form.
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), JsonError> {
        self.send(Message::from_json(value)?);
        Ok(())
    }

    /// Whether the connection is listed in its room: it is open, or it is the one that is connecting. `false`
    /// when it has ended or was closed.
    pub fn is_open(&self) -> bool {
        self.room().is_some_and(|room| room.lists(self))
    }

    /// How many bytes wait for the client: in its socket's queue, and what the running handler has sent since
    /// its last `await`. What waits for a commit does not count, and neither do the buffers of the operating
    /// system and the network.
    ///
    /// On Workers only the second part is known: the platform does not tell how much waits at a socket.
    pub fn buffered(&self) -> usize {
        let unsent = self.room().map_or(0, |room| room.unsent_to(self));
        unsent + self.socket().queued()
    }

    /// Waits until at most `at_most` bytes wait for the client (see [`Connection::buffered`]), or until the
    /// connection is closed. Use it to send more than should wait in memory.
    ///
    /// It does not wait for commits: in a handler that has written, call
    /// [`Storage::sync`](crate::Storage::sync) before. In `on_connect`, messages to the new connection leave
    /// only after the handler. While a handler waits, its time limit goes on and the room takes no other
    /// event. A task does not hold the room up:
    ///
    /// ```
    /// use partykit_core::{Connection, Message, Result, Room, Server};
    ///
    /// struct Library;
    ///
    /// impl Server for Library {
    ///     async fn on_message(&mut self, room: &Room, reader: &Connection, _: Message) -> Result {
    ///         let reader = reader.clone();
    ///         room.spawn("a long book", async move {
    ///             for page in 0..10_000 {
    ///                 reader.send(format!("page {page}"));
    ///                 reader.drained(64 << 10).await;
    ///             }
    ///         });
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// On Workers it waits only until the platform has the messages, because the platform does not tell how
    /// much waits at a socket.
    pub fn drained(&self, at_most: usize) -> impl Future<Output = ()> + Send + use<> {
        let connection = self.clone();
        poll_fn(move |cx| {
            if let Some(room) = connection.room() {
                ready!(room.poll_flushed(cx));
            }
            connection.socket().poll_drained(at_most, cx)
        })
    }

    /// Closes the connection after the messages that were sent to it. From now on it is not listed and takes
    /// no message. `on_close` runs when the client has answered or is given up.
    ///
    /// # Errors
    ///
    /// When the code may not be sent or the reason is too long, see [`Close::new`].
    pub fn close(
        &self,
        code: impl Into<CloseCode>,
        reason: impl Into<Text>,
    ) -> Result<(), InvalidClose> {
        let close = Close::new(code, reason)?;
        if let Some(room) = self.room() {
            room.close(self, close);
        }
        Ok(())
    }

    /// Like [`Connection::close`], without a code: the client sees 1005.
    pub fn close_without_code(&self) {
        if let Some(room) = self.room() {
            room.close(self, Close::no_status());
        }
    }

    /// The runtime's end of this connection.
    pub(crate) fn socket(&self) -> &Arc<dyn Socket> {
        &self.0.socket
    }

    /// The connection, for what is said to it.
    pub(crate) fn peer(&self) -> Peer {
        Peer::new(self.key(), self.socket().clone())
    }

    /// Whether there is another clone of this handle.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Numbers the connections of a room in the order in which they came.
    pub(crate) fn key(&self) -> u64 {
        self.0.key
    }

    pub(crate) fn set_tags(&self, tags: Tags) {
        // The turn of the connect sets them, and only once, so this never fails.
        let _ = self.0.tags.set(tags);
    }

    pub(crate) fn committed_state(&self) -> Option<Bytes> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the committed state and returns the former one.
    pub(crate) fn commit_state(&self, state: Option<Bytes>) -> Option<Bytes> {
        let mut slot = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut slot, state)
    }

    /// The bytes that id, uri and tags use of the attachment.
    pub(crate) fn fixed_size(&self) -> usize {
        self.uri().len() + self.tags().map(str::len).sum::<usize>()
    }

    /// State and slots, as the running handler sees them.
    fn kept(&self) -> Option<Bytes> {
        let pending = self.room().map_or(Lookup::Ask, |room| room.pending_state(self));
        pending.or_ask(|| self.committed_state())
    }

    /// Changes state and slots.
    fn keep(&self, part: &Part<'_>) -> Result<(), StateError> {
        let kept = self.kept();
        let mut slots = Slots::read(kept.as_ref());
        slots.put(part);
        let kept = slots.write();
        let size = self.fixed_size() + kept.as_ref().map_or(0, Bytes::len);
        if size > limits::ATTACHMENT && kept.is_some() {
            return Err(StateError::TooLarge(size));
        }
        self.write_state(kept)
    }

    fn write_state(&self, state: Option<Bytes>) -> Result<(), StateError> {
        match self.room() {
            Some(room) => room.set_state(self, state),
            None => {
                drop(self.commit_state(state));
                Ok(())
            }
        }
    }

    fn room(&self) -> Option<Arc<dyn Owner>> {
        self.0.room.upgrade()
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        peer::address(self.socket()) == peer::address(other.socket())
    }
}

impl Eq for Connection {}

impl Hash for Connection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        peer::address(self.socket()).hash(state);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// An address, cut to the part that is kept.
fn cut(uri: Box<str>) -> Box<str> {
    if uri.len() <= limits::URI { uri } else { kept(&uri).into() }
}

/// The part of an address that is kept.
fn kept(uri: &str) -> &str {
    if uri.len() <= limits::URI {
        return uri;
    }
    let end = (0..=limits::URI).rev().find(|at| uri.is_char_boundary(*at)).unwrap_or(0);
    let part = &uri[..end];
    let query = part.find('?');
    // The last parameter is whole only if another one begins right after it.
    let whole = match query {
        Some(_) if uri[part.len()..].starts_with('&') => part.len(),
        Some(question) => part.rfind('&').unwrap_or(question),
        None => part.rfind('%').filter(|at| part.len() - at < 3).unwrap_or(part.len()),
    };
    &part[..whole]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cell has at most 160 bytes, the next size of allocators has 192. Both with their two counts.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_handle_has_another_size_than_a_cell() {
        let handle = 2 * size_of::<usize>() + size_of::<Inner>();
        assert!((161..=192).contains(&handle), "{handle} bytes");
    }

    #[test]
    fn a_long_address_is_kept_up_to_the_last_parameter_that_fits() {
        let base = "http://example.com/parties/main/lobby";
        let long = "x".repeat(2000);
        assert_eq!(kept(&format!("{base}?_pk=ada&a=1")), format!("{base}?_pk=ada&a=1"));
        assert_eq!(kept(&format!("{base}?_pk=ada&token={long}&a=1")), format!("{base}?_pk=ada"));
        assert_eq!(kept(&format!("{base}?token={long}")), base);
        let fits = format!("{base}?a={}", "y".repeat(limits::URI - base.len() - 3));
        assert_eq!(fits.len(), limits::URI);
        assert_eq!(kept(&format!("{fits}&b=1")), fits);
        assert_eq!(kept(&format!("{fits}y")), base);
    }

    #[test]
    fn a_long_path_is_cut_between_its_characters() {
        for before in 0..3 {
            let path = format!("/{}{}", "p".repeat(limits::URI - 4 + before), "%2f".repeat(9));
            let kept = kept(&path);
            assert!(kept.len() > limits::URI - 3 && path.starts_with(kept), "{kept}");
            assert!(!kept.ends_with('%') && !kept.ends_with("%2"), "{kept}");
        }
    }
}
