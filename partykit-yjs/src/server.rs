use std::{fmt, future::Future, time::Duration};

use partykit_core::{
    Admit, Alarm, Body, Close, CloseCode, Connection, HandlerError, Lobby, Message, Options,
    Request, Response, Result, Room, Server, TaskResult,
};

use crate::{
    book::Book,
    crowd::Crowd,
    document::{Document, DocumentError},
    scan::Update,
    wire::{self, Frame},
};

/// A handler writes at most 32 MiB, and a snapshot is written by one.
const MAX_DOCUMENT: usize = 24 << 20;

/// A server of rooms that are Yjs documents. [`Yjs<S>`](Yjs) is the [`Server`] made of it.
///
/// All methods have defaults. A method with the same name as one of [`Server`] runs at the same time and may
/// fail in the same way.
///
/// ```
/// use partykit_core::{Connection, Room};
/// use partykit_yjs::YServer;
///
/// #[derive(Default)]
/// struct Notes;
///
/// impl YServer for Notes {
///     fn is_read_only(&self, _: &Room, connection: &Connection) -> bool {
///         connection.has_tag("guest")
///     }
/// }
/// ```
pub trait YServer: Sized + Send + 'static {
    /// The options and limits of the rooms. Default: they hibernate, and messages may have the greatest
    /// possible length, because a client that was away sends all of its changes in one message.
    fn options() -> Options {
        Options::new().hibernate(true).max_message(Options::MAX_MESSAGE)
    }

    /// How large a document may become, in bytes as it is stored. A client that would make it larger is
    /// closed with 1009. Default: 16 MiB, and at most 24 MiB: a handler must be able to write it whole.
    fn max_document() -> usize {
        16 << 20
    }

    /// How long after a change [`on_save`](YServer::on_save) runs. `None`: never. Default: `None`.
    ///
    /// Needs the room's alarm: with `Some`, [`on_alarm`](YServer::on_alarm) does not run.
    fn save_after() -> Option<Duration> {
        None
    }

    /// The first content of a document that was never stored: an update of Yjs's first format, as
    /// `Y.encodeStateAsUpdate` makes it. `None` for an empty document.
    fn on_load(&mut self, room: &Room) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send {
        let _ = room;
        std::future::ready(Ok(None))
    }

    /// Runs some time ([`save_after`](YServer::save_after)) after a client or the server has changed the
    /// document, for example to update a search index, call a webhook or copy the document. The document
    /// itself is stored already. It runs as an alarm, so it runs again if it fails.
    fn on_save(
        &mut self,
        room: &Room,
        document: Document<'_>,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, document);
        std::future::ready(Ok(()))
    }

    /// Whether a connection may only read. Its changes are dropped without an answer, as in y-partyserver.
    /// Its cursor is still shown.
    fn is_read_only(&self, room: &Room, connection: &Connection) -> bool {
        let _ = (room, connection);
        false
    }

    /// A client has called `provider.sendMessage`. To answer: [`custom_message`](crate::custom_message).
    fn on_custom_message(
        &mut self,
        room: &Room,
        sender: &Connection,
        text: &str,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, sender, text);
        std::future::ready(Ok(()))
    }

    /// See [`Server::on_before_connect`].
    fn on_before_connect(
        request: Request,
        lobby: &Lobby,
    ) -> impl Future<Output = Result<Admit>> + Send {
        let _ = lobby;
        std::future::ready(Ok(request.into()))
    }

    /// See [`Server::on_before_request`].
    fn on_before_request(
        request: Request,
        lobby: &Lobby,
    ) -> impl Future<Output = Result<Admit>> + Send {
        let _ = lobby;
        std::future::ready(Ok(request.into()))
    }

    /// See [`Server::connection_tags`].
    fn connection_tags(&mut self, room: &Room, id: &str, request: &Request) -> Result<Vec<String>> {
        let _ = (room, id, request);
        Ok(Vec::new())
    }

    /// See [`Server::on_start`].
    fn on_start(&mut self, room: &Room) -> impl Future<Output = Result> + Send {
        let _ = room;
        std::future::ready(Ok(()))
    }

    /// See [`Server::on_connect`]. Runs before the document's first frame is sent.
    fn on_connect(
        &mut self,
        room: &Room,
        connection: &Connection,
        request: &Request,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, connection, request);
        std::future::ready(Ok(()))
    }

    /// See [`Server::on_close`].
    fn on_close(
        &mut self,
        room: &Room,
        connection: &Connection,
        close: Close,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, connection, close);
        std::future::ready(Ok(()))
    }

    /// See [`Server::on_request`]. Default: 404.
    fn on_request(
        &mut self,
        room: &Room,
        document: Document<'_>,
        request: Request,
    ) -> impl Future<Output = Result<Response>> + Send {
        let _ = (room, document, request);
        let mut response = Response::new(Body::from("not found\n"));
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        std::future::ready(Ok(response))
    }

    /// See [`Server::on_alarm`].
    fn on_alarm(
        &mut self,
        room: &Room,
        document: Document<'_>,
        alarm: Alarm,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, document, alarm);
        std::future::ready(Ok(()))
    }

    /// See [`Server::on_schedule`].
    #[cfg(feature = "schedules")]
    fn on_schedule(
        &mut self,
        room: &Room,
        document: Document<'_>,
        run: partykit_core::Run,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, document, run);
        std::future::ready(Ok(()))
    }

    /// See [`Server::on_error`].
    fn on_error(
        &mut self,
        room: &Room,
        error: HandlerError,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, error);
        std::future::ready(Ok(()))
    }

    /// See [`Server::on_task`].
    fn on_task(
        &mut self,
        room: &Room,
        document: Document<'_>,
        result: TaskResult,
    ) -> impl Future<Output = Result> + Send {
        let _ = (room, document, result);
        std::future::ready(Ok(()))
    }
}

/// Rooms that are documents and nothing more.
///
/// ```
/// use partykit_core::{Server, runtime::Chosen, testing::TestRoom};
/// use partykit_yjs::Yjs;
///
/// // `.party::<Yjs>("documents")` with a runtime.
/// let room = TestRoom::<Yjs>::new();
/// assert!(Chosen::of(&Yjs::<()>::options()).hibernate);
/// ```
impl YServer for () {}

/// A [`Server`] whose rooms are Yjs documents: what `y-partyserver` is for PartyServer. Clients are
/// `y-partyserver/provider` and `y-websocket`.
///
/// A [`YServer`] adds what the rooms do beside that.
pub struct Yjs<S = ()> {
    server: S,
    book: Book,
    crowd: Crowd,
    /// Set while a handler runs. If it is still set when the next handler begins, the last one has failed or
    /// was cancelled.
    is_open: bool,
    /// Whether the alarm for `on_save` is set. `None` if that is not known.
    is_saving: Option<bool>,
}

impl<S: YServer> Yjs<S> {
    /// A room of this server.
    pub fn new(server: S) -> Self {
        let book = Book::new(S::max_document().min(MAX_DOCUMENT));
        Self { server, book, crowd: Crowd::default(), is_open: false, is_saving: None }
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.is_open, true) {
            self.book.forget();
            self.crowd.forget();
            self.is_saving = None;
        }
    }

    /// Called when a handler has succeeded. Sets the alarm if the document has changed.
    async fn end<T>(&mut self, room: &Room, done: T) -> Result<T> {
        if self.book.take_changed() {
            self.save_later(room).await?;
        }
        self.is_open = false;
        Ok(done)
    }

    /// Gives a document that was never stored its first content.
    async fn seed(&mut self, room: &Room) -> Result {
        if self.book.weight(room).await?.is_empty()
            && let Some(update) = self.server.on_load(room).await?
        {
            let update = Update::new(&update).ok_or(DocumentError::NoUpdate)?;
            self.book.merge(room, update).await?;
            // The first content does not count as a change.
            self.book.take_changed();
        }
        Ok(())
    }

    async fn hear(&mut self, room: &Room, sender: &Connection, frame: Frame<'_>) -> Result {
        match frame {
            Frame::Step1(vector) => {
                sender.send(wire::step_2(&self.book.missing(room, vector).await?));
            }
            Frame::Auth => {}
            Frame::Step2(update) | Frame::Update(update)
                if update.is_empty() || self.server.is_read_only(room, sender) => {}
            Frame::Step2(update) => {
                if let Some(news) = self.book.merge(room, update).await? {
                    room.broadcast(wire::update(&news)).except(sender).send();
                }
            }
            Frame::Update(update) => {
                self.book.append(room, update).await?;
                room.broadcast(wire::update(update.bytes)).except(sender).send();
            }
            Frame::Awareness(entries) => self.crowd.hear(room, sender, entries)?,
            Frame::Query => self.crowd.tell(room, sender),
        }
        Ok(())
    }

    async fn save_later(&mut self, room: &Room) -> Result {
        let Some(after) = S::save_after() else { return Ok(()) };
        let is_saving = match self.is_saving {
            Some(is_saving) => is_saving,
            None => room.storage().alarm().await?.is_some(),
        };
        if !is_saving {
            room.storage().set_alarm(room.now() + after)?;
        }
        self.is_saving = Some(true);
        Ok(())
    }
}

impl<S: YServer + Default> Default for Yjs<S> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S: YServer> Server for Yjs<S> {
    fn options() -> Options {
        S::options()
    }

    async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
        S::on_before_connect(request, lobby).await
    }

    async fn on_before_request(request: Request, lobby: &Lobby) -> Result<Admit> {
        S::on_before_request(request, lobby).await
    }

    fn connection_tags(&mut self, room: &Room, id: &str, request: &Request) -> Result<Vec<String>> {
        self.server.connection_tags(room, id, request)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.server.on_start(room).await
    }

    async fn on_connect(
        &mut self,
        room: &Room,
        connection: &Connection,
        request: &Request,
    ) -> Result {
        self.begin();
        self.server.on_connect(room, connection, request).await?;
        self.seed(room).await?;
        connection.send(wire::step_1(&self.book.vector(room).await?));
        self.crowd.tell(room, connection);
        self.end(room, ()).await
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        self.begin();
        if let Some(text) = message.as_text() {
            if let Some(text) = text.strip_prefix(wire::CUSTOM) {
                self.server.on_custom_message(room, sender, text).await?;
            }
            return self.end(room, ()).await;
        }
        let heard = match Frame::decode(message.as_bytes()) {
            Ok(frame) => self.hear(room, sender, frame).await,
            Err(malformed) => {
                dropped(room, sender, malformed.0);
                return self.end(room, ()).await;
            }
        };
        // In the first two cases nothing was written. The document in memory is dropped at the next handler.
        match heard.map_err(|error| error.downcast::<DocumentError>()) {
            Err(Ok(error))
                if matches!(*error, DocumentError::NoUpdate | DocumentError::TooDeep) =>
            {
                dropped(room, sender, "an update that cannot be applied");
                Ok(())
            }
            Err(Ok(error)) if matches!(*error, DocumentError::TooLarge { .. }) => {
                sender.close(CloseCode::TOO_BIG, "the document would be too large")?;
                Ok(())
            }
            Err(Ok(error)) => Err(error),
            Err(Err(error)) => Err(error),
            Ok(()) => self.end(room, ()).await,
        }
    }

    async fn on_close(&mut self, room: &Room, connection: &Connection, close: Close) -> Result {
        self.begin();
        self.crowd.leave(room, connection)?;
        if room.count() == 0 {
            self.book.tidy(room).await?;
        }
        self.server.on_close(room, connection, close).await?;
        self.end(room, ()).await
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        self.begin();
        self.seed(room).await?;
        let document = Document { room, book: &mut self.book };
        let response = self.server.on_request(room, document, request).await?;
        self.end(room, response).await
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        self.begin();
        self.is_saving = Some(false);
        self.seed(room).await?;
        let document = Document { room, book: &mut self.book };
        if S::save_after().is_some() {
            self.server.on_save(room, document).await?;
            // A change by `on_save` does not set the alarm again: otherwise it would never end.
            self.book.take_changed();
        } else {
            self.server.on_alarm(room, document, alarm).await?;
        }
        self.end(room, ()).await
    }

    #[cfg(feature = "schedules")]
    async fn on_schedule(&mut self, room: &Room, run: partykit_core::Run) -> Result {
        self.begin();
        self.seed(room).await?;
        let document = Document { room, book: &mut self.book };
        self.server.on_schedule(room, document, run).await?;
        self.end(room, ()).await
    }

    async fn on_error(&mut self, room: &Room, error: HandlerError) -> Result {
        self.server.on_error(room, error).await
    }

    async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
        self.begin();
        self.seed(room).await?;
        let document = Document { room, book: &mut self.book };
        self.server.on_task(room, document, result).await?;
        self.end(room, ()).await
    }
}

fn dropped(room: &Room, sender: &Connection, what: &str) {
    let (party, id, connection) = (room.address().party(), room.id(), sender.id());
    tracing::debug!(party, room = id, connection, "dropped a message of a client: {what}");
}

impl<S> fmt::Debug for Yjs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yjs").finish_non_exhaustive()
    }
}
