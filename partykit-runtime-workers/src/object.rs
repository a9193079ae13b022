use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    panic::{RefUnwindSafe, UnwindSafe},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::select};
use js_sys::{Promise, Uint8Array};
use partykit_core::{
    AwakeReason, BoxError, Close, CloseCode, Message, Refusal, Request, Response, RoomAddress,
    RoomId, Timestamp,
    runtime::{
        Attachment, Chain, Chosen, CloseReason, ConnectionKey, Resumed, RoomCell, RoomKind,
        front::{Refused, fit},
    },
};
use tracing::debug;
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    Env,
    backend::ObjectBackend,
    clock,
    convert::{self, thrown},
    envelope::{self, Asked, Envelope},
    host::ObjectHost,
    inbox,
    js::{self, AutoResponse, JsRequest, JsResponse, JsWebSocket, State, WebSocketPair},
    log,
    parties::Parties,
    socket::{Frames, ObjectSocket, Verdict, close_with},
    tasks::Tasks,
};

/// A room with a reason to stay in memory is kept there by timers of this length, one after another.
const HOLD: Duration = Duration::from_secs(30);

/// When an alarm that could not ring is tried again.
const ALARM_AGAIN: Duration = Duration::from_secs(5);

/// A room as a Durable Object: the inside of the class that [`export!`](crate::export) makes.
pub struct Object(Rc<Inner>);

/// A room, the platform's things that it uses, and its connections.
pub(crate) struct Inner {
    ctx: State,
    cell: Arc<RoomCell>,
    host: Arc<ObjectHost>,
    frames: Rc<Frames>,
    /// The connections, by the number that each socket is marked with.
    connections: RefCell<BTreeMap<u32, Open>>,
    max_message: usize,
    /// Pending while the room does something.
    working: RefCell<Option<Promise>>,
    /// A timer keeps the room in memory while it does nothing.
    holds: Cell<bool>,
}

/// A connection that has not ended.
#[derive(Clone)]
struct Open {
    connection: ConnectionKey,
    socket: Arc<ObjectSocket>,
}

impl Object {
    /// Makes the room of an object, with the connections that the platform has kept.
    pub fn new(
        parties: fn(&Env) -> &'static Parties,
        class: &'static str,
        ctx: JsValue,
        env: JsValue,
    ) -> Result<Self, JsValue> {
        clock::arrive();
        let env = Env::new(env);
        log::init(&env);
        let parties = parties(&env);
        inbox::open();
        let ctx: State = ctx.unchecked_into();
        let party = parties.of_class(class).ok_or("no party has this class")?;
        let id = ctx.id()?;
        // An object has no name only if it is not reached through an entry.
        let name = js::get(&id, "name").as_string().unwrap_or_else(|| "unnamed".to_owned());
        let room = RoomId::new(&name).map_err(|error| error.to_string())?;
        let address = RoomAddress::new(party.name(), room);
        let backend = ObjectBackend::new(ctx.storage()?, address.clone());
        let host = Arc::new(ObjectHost::new(parties, party.clone(), env, ctx.clone(), backend));
        let frames = Rc::new(Frames::default());

        let mut sockets = Vec::new();
        let mut resumed = Vec::new();
        for ws in ctx.web_sockets()? {
            let ws: JsWebSocket = ws.unchecked_into();
            if let Some(attachment) = attachment(&ws) {
                let closing = ws.ready_state()? != OPEN;
                let socket = Arc::new(ObjectSocket::kept(ctx.clone(), ws, frames.clone()));
                resumed.push(Resumed { attachment, socket: socket.clone(), closing });
                sockets.push(socket);
            }
        }
        let options = party.options().clone();
        let chosen = Chosen::of(&options);
        let max_message = chosen.max_message;
        match chosen.auto_response {
            Some((request, response)) => {
                ctx.set_auto_response(&AutoResponse::new(request, response)?)?;
            }
            None => ctx.unset_auto_response()?,
        }
        let (cell, connections) =
            RoomCell::resume(address, RoomKind::new(options, host.clone()), resumed);
        let inner = Inner {
            ctx,
            cell,
            host,
            frames,
            connections: RefCell::default(),
            max_message,
            working: RefCell::default(),
            holds: Cell::new(false),
        };
        for (connection, socket) in connections.into_iter().zip(sockets) {
            inner.add(Open { connection, socket });
        }
        inner.log("the object is in memory");
        Ok(Self(Rc::new(inner)))
    }

    /// Handles a request from an entry or from another room. Returns a response, or a promise of one. Most
    /// rooms answer at once.
    pub fn fetch(&self, request: JsValue) -> JsValue {
        clock::arrive();
        let _call = self.tasks().enter();
        let inner = self.0.clone();
        let mut response = Box::pin(async move {
            let response = match inner.answer(request.unchecked_into()).await {
                Ok(response) => response,
                Err(error) => inner
                    .to_js(
                        Refused::failed(
                            inner.host.env(),
                            "a request could not be answered",
                            Some(&error.to_string()),
                        )
                        .into_response(),
                    )
                    .map_err(|error| error.to_string())?,
            };
            Ok(response.into())
        });
        // The waker of this poll is dropped. The promise polls the future again with its own.
        match response.as_mut().now_or_never() {
            Some(Ok(response)) => response,
            Some(Err(error)) => Promise::reject(&error).into(),
            None => self.tasks().promise(response).into(),
        }
    }

    /// Makes space for a message of `units` (bytes, or units of UTF-16, each at least one byte) that may become this
    /// many `bytes`. `false` if it is longer than it may be.
    pub fn make_space(&self, units: u32, bytes: u32) -> bool {
        let fits = units as usize <= self.0.max_message;
        if fits {
            inbox::make_space(bytes as usize);
        }
        fits
    }

    /// Handles a message of a client, of the connection with this number. It lies in the inbox and has `length` bytes;
    /// less than 0 if it is longer than it may be. `now` is what the clock shows. Returns whether
    /// [`Object::working`] has something to wait for.
    pub fn hear(&self, order: u32, is_text: bool, length: i32, now: f64) -> bool {
        clock::arrive_at(now);
        let message = usize::try_from(length).ok();
        self.heard(order, message.map(|length| inbox::take(is_text, length)))
    }

    /// The same without [the glue](inbox), for a Worker that `worker-build` has made: the platform calls this.
    pub fn message(&self, ws: &JsValue, message: &JsValue) -> JsValue {
        clock::arrive();
        let Some(order) = order(ws.unchecked_ref()) else { return JsValue::UNDEFINED };
        let message = match message.as_string() {
            Some(text) => text.into(),
            None => Message::from(Uint8Array::new(message).to_vec()),
        };
        match self.heard(order, Some(message)) {
            true => self.working(),
            false => JsValue::UNDEFINED,
        }
    }

    /// `None` is a message that is too long.
    fn heard(&self, order: u32, message: Option<Message>) -> bool {
        let _call = self.tasks().enter();
        let inner = &self.0;
        let connection = match inner.connections.borrow().get(&order) {
            Some(open) if !open.socket.is_condemned() => open.connection,
            _ => return false,
        };
        let message = message.filter(|message| message.as_bytes().len() <= inner.max_message);
        let refused = match message {
            None => Some(CloseReason::MessageTooLong),
            // The platform cannot be made to wait, and a dropped message would be lost silently. So the
            // connection is closed.
            Some(message) => {
                let taken = inner.cell.message(connection, message);
                taken.err().map(|_| CloseReason::Overloaded)
            }
        };
        if let Some(reason) = refused
            && let Some(open) = inner.find(order)
        {
            inner.hang_up(&open, reason.close());
        }
        inner.works()
    }

    /// What the last event has left to wait for: a promise, or `undefined`.
    pub fn working(&self) -> JsValue {
        self.0.working()
    }

    /// Handles the end of a connection.
    pub fn close(
        &self,
        ws: &JsValue,
        code: &JsValue,
        reason: &JsValue,
        clean: &JsValue,
    ) -> JsValue {
        clock::arrive();
        let _call = self.tasks().enter();
        let ws: &JsWebSocket = ws.unchecked_ref();
        let code = code.as_f64().map_or(1006, |code| code as u16);
        let reason = reason.as_string().unwrap_or_default();
        let (inner, clean) = (&self.0, clean.is_truthy());
        if let Some(open) = inner.remove(ws) {
            inner.cell.closed(open.connection, closed_with(code, &reason, clean));
            open.socket.detach();
        }
        // The platform does not answer a Close by itself, and clients wait for the answer.
        let answered = match code {
            1005 => ws.close_without_code(),
            // The client is gone.
            1006 if !clean => Ok(()),
            // The platform would send a code that may not be sent.
            _ if Close::new(code, "").is_err() => ws.close(CloseCode::PROTOCOL.into(), ""),
            _ => ws.close(code, &reason),
        };
        // The answer fails if the server has closed before.
        drop(answered);
        inner.work()
    }

    /// Handles a connection that has failed.
    pub fn error(&self, ws: &JsValue, error: &JsValue) -> JsValue {
        clock::arrive();
        let _call = self.tasks().enter();
        let inner = &self.0;
        if let Some(open) = inner.remove(ws.unchecked_ref()) {
            inner.cell.closed(open.connection, Close::abnormal(js::describe(error)));
            open.socket.detach();
        }
        inner.work()
    }

    /// Handles the platform's alarm: the room's alarm may be due. If it cannot ring, it is tried again
    /// without a limit; the platform alone would give up.
    pub fn alarm(&self) -> Promise {
        clock::arrive();
        let _call = self.tasks().enter();
        let inner = self.0.clone();
        let rung = inner.cell.alarm();
        // The promise of the work is not needed: the one below is pending at least as long.
        drop(inner.work());
        self.tasks().promise(async move {
            if rung.await.is_err() {
                let again: Timestamp = clock::now() + ALARM_AGAIN;
                let storage = inner.ctx.storage()?;
                drop(storage.set_alarm(again.as_millis() as f64)?);
            }
            Ok(JsValue::UNDEFINED)
        })
    }
}

impl Object {
    fn tasks(&self) -> &Tasks {
        self.0.host.tasks()
    }
}

/// No method leaves a half-changed state behind when it panics.
impl UnwindSafe for Object {}
impl RefUnwindSafe for Object {}

impl Drop for Object {
    fn drop(&mut self) {
        self.tasks().end();
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("room", self.0.cell.address()).finish_non_exhaustive()
    }
}

/// The `readyState` of an open socket.
const OPEN: u16 = 1;

impl Inner {
    async fn answer(self: &Rc<Self>, request: JsRequest) -> Result<JsResponse, BoxError> {
        let arrived = js::arrived(&request).map_err(thrown)?;
        if !arrived.starts_with(envelope::BEGINNING) {
            self.log("a client's request has come by the short way");
            return self.host.entry(self.clone()).answer(request, &arrived).await;
        }
        let envelope = Envelope::decode(&arrived)?;
        if let Asked::Connect { id, address, protocol } = &envelope.kind {
            let request = envelope.request(bytes::Bytes::new())?;
            let connected = self.connect(request, id, address, protocol.as_deref()).await?;
            return match connected {
                Ok(response) => Ok(response),
                Err(refusal) => self.outward(&envelope, refusal.response()),
            };
        }
        let body = convert::read(request.body().map_err(thrown)?, usize::MAX).await;
        let body = match body {
            Ok(body) => body,
            Err(refused) => return self.to_js(refused.into_response()),
        };
        let request = envelope.request(body)?;
        if let Asked::Tell = envelope.kind {
            let told = self.cell.tell(request);
            self.keep_working();
            let answer = told.map_or_else(envelope::refuse, |()| Response::default());
            return self.inward(answer);
        }
        let answer = self.request(request, envelope.chain()?).await;
        match (answer, &envelope.kind) {
            (Ok(response), Asked::Call) => self.inward(response),
            (Err(refusal), Asked::Call) => self.inward(envelope::refuse(refusal)),
            (Ok(response), _) => self.outward(&envelope, response),
            (Err(refusal), _) => self.outward(&envelope, refusal.response()),
        }
    }

    /// An answer for a client. The entry passes it on as it is.
    fn outward(&self, envelope: &Envelope, mut response: Response) -> Result<JsResponse, BoxError> {
        self.host.origins().stamp(&envelope.visitor(), response.headers_mut());
        self.to_js(response)
    }

    /// An answer for another room.
    fn inward(&self, mut response: Response) -> Result<JsResponse, BoxError> {
        envelope::pack(&mut response);
        self.to_js(response)
    }

    fn to_js(&self, response: Response) -> Result<JsResponse, BoxError> {
        convert::to_js(self.host.tasks(), response).map_err(thrown)
    }

    pub(crate) fn address(&self) -> &RoomAddress {
        self.cell.address()
    }

    /// Asks the room.
    pub(crate) async fn request(
        self: &Rc<Self>,
        request: Request,
        chain: Chain,
    ) -> Result<Response, Refusal> {
        let is_head = request.method() == http::Method::HEAD;
        let answer = self.cell.request(request, chain);
        self.keep_working();
        let answer = answer.await.map(|response| {
            let fitting = fit(self.host.env(), "on_request", is_head, response);
            fitting.unwrap_or_else(Refused::into_response)
        });
        // A streamed body keeps the room in memory.
        self.keep_working();
        answer
    }

    /// Makes a connection of a client's request. Returns the answer, which is a WebSocket also if it is closed at
    /// once.
    pub(crate) async fn connect(
        self: &Rc<Self>,
        request: Request,
        id: &str,
        address: &str,
        protocol: Option<&str>,
    ) -> Result<Result<JsResponse, Refusal>, BoxError> {
        let pair = WebSocketPair::new().map_err(thrown)?;
        let (client, server) = (pair.client().map_err(thrown)?, pair.server().map_err(thrown)?);
        let (socket, decided) = ObjectSocket::new(self.ctx.clone(), server, self.frames.clone());
        let socket = Arc::new(socket);
        let connected = self.cell.connect(id, address, request, socket.clone());
        let connection = match connected {
            Ok(connection) => connection,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // The connection is added first: a frame may arrive as soon as the platform has the socket, before
        // the verdict is here.
        self.add(Open { connection, socket: socket.clone() });
        self.log("a connection comes");
        self.keep_working();
        let verdict = decided.await?;
        if !matches!(verdict, Verdict::Accept) {
            self.remove(socket.ws());
        }
        if let Verdict::Full = verdict {
            self.cell.closed(connection, CloseReason::NoPlace.close());
            self.keep_working();
            return Ok(Err(Refusal::Full));
        }
        js::switching(&client, protocol).map(Ok).map_err(thrown)
    }

    fn add(&self, open: Open) {
        // An object does not live long enough in memory for u32::MAX connections.
        let order = u32::try_from(open.connection.order()).unwrap_or(u32::MAX);
        open.socket.ws().set_order(order);
        self.connections.borrow_mut().insert(order, open);
    }

    fn find(&self, order: u32) -> Option<Open> {
        self.connections.borrow().get(&order).cloned()
    }

    fn remove(&self, ws: &JsWebSocket) -> Option<Open> {
        let removed = self.connections.borrow_mut().remove(&order(ws)?)?;
        self.log("a connection is gone");
        Some(removed)
    }

    /// Logs an event and the number of connections.
    fn log(&self, event: &'static str) {
        let (party, room) = (self.cell.address().party(), self.cell.address().room().as_str());
        debug!(party, room, connections = self.connections.borrow().len(), "{event}");
    }

    /// Closes a connection whose client did something forbidden, after the room has answered its earlier
    /// messages.
    fn hang_up(self: &Rc<Self>, open: &Open, close: Close) {
        let (me, it) = (Rc::downgrade(self), open.clone());
        open.socket.condemn(move |close| {
            if let Some(me) = me.upgrade() {
                me.remove(it.socket.ws());
                it.socket.detach();
                me.cell.closed(it.connection, close.unclean());
            }
        });
        self.cell.hang_up(open.connection, close);
    }

    /// Runs the room's tasks. Returns a promise that is pending while the room still works, because the
    /// platform keeps an object in memory while a promise of a handler is pending. Usually nothing is left to
    /// wait for, and it returns `undefined`.
    fn work(self: &Rc<Self>) -> JsValue {
        match self.works() {
            true => self.working(),
            false => JsValue::UNDEFINED,
        }
    }

    /// A promise that is kept when the room has done its work. `undefined` if no work is left.
    fn working(&self) -> JsValue {
        self.working.borrow().as_ref().map_or(JsValue::UNDEFINED, |working| working.clone().into())
    }

    /// Runs the room's tasks. Returns whether the room still works.
    fn works(self: &Rc<Self>) -> bool {
        self.host.tasks().run();
        if self.working.borrow().is_some() {
            return true;
        }
        if let Some(reasons) = self.cell.settled().now_or_never() {
            self.rest(&reasons);
            return false;
        }
        self.host.timers().work(true);
        let (me, cell) = (Rc::downgrade(self), self.cell.clone());
        let working = self.host.tasks().promise(async move {
            let reasons = cell.settled().await;
            if let Some(me) = me.upgrade() {
                me.working.take();
                me.rest(&reasons);
            }
            Ok(JsValue::UNDEFINED)
        });
        *self.working.borrow_mut() = Some(working);
        true
    }

    /// Keeps the object while the room works, for an answer that must not wait for that.
    fn keep_working(self: &Rc<Self>) {
        let working = self.work();
        if working.is_undefined() {
            return;
        }
        // It fails only for a value that is not a promise.
        let _ = self.ctx.wait_until(working.unchecked_ref());
    }

    /// Called when the room has nothing left to do.
    fn rest(self: &Rc<Self>, reasons: &[AwakeReason]) {
        self.frames.clear();
        if !reasons.is_empty() {
            self.hold();
        } else if !self.holds.get() {
            self.host.timers().work(false);
        }
    }

    /// Keeps the object in memory while the room has a reason to stay awake: a task, a guard, an open body,
    /// or connections of a server that does not hibernate.
    fn hold(self: &Rc<Self>) {
        // Also when the event was done within the platform's call: a task may wait for a time.
        self.host.timers().work(true);
        if self.holds.replace(true) {
            return;
        }
        let (me, cell, timers) =
            (Rc::downgrade(self), self.cell.clone(), self.host.timers().clone());
        let held = self.host.tasks().promise(async move {
            while !cell.settled().await.is_empty() {
                let timer = timers.sleep_until(clock::elapsed() + HOLD);
                select(pin!(cell.changed()), timer).await;
            }
            if let Some(me) = me.upgrade() {
                me.holds.set(false);
                if me.working.borrow().is_none() {
                    me.host.timers().work(false);
                }
            }
            Ok(JsValue::UNDEFINED)
        });
        let _ = self.ctx.wait_until(&held);
    }
}

/// The attachment that the platform has kept with a socket. `None` if the room knows that the connection has
/// ended. An attachment that cannot be read was written by another version of this library: its client is
/// closed with 1012 and comes back.
fn attachment(ws: &JsWebSocket) -> Option<Attachment> {
    let bytes = js::attached(ws).ok()??;
    let attachment = Attachment::decode(&bytes);
    attachment
        .inspect_err(|error| {
            let error = error.to_string();
            tracing::error!(
                error = error.as_str(),
                "a connection could not be restored after sleep: closing it with 1012"
            );
            close_with(ws, &CloseReason::Restart.close());
        })
        .ok()
}

/// The number of a socket's connection. `None` if it never had one.
fn order(ws: &JsWebSocket) -> Option<u32> {
    let order = ws.order();
    (order >= 0.0).then_some(order as u32)
}

/// How a connection ended, for the room.
fn closed_with(code: u16, reason: &str, clean: bool) -> Close {
    let close = match code {
        1005 => Close::no_status(),
        1006 if !clean => return Close::abnormal(reason),
        _ => {
            Close::new(code, reason).unwrap_or_else(|_| CloseReason::BadCloseCode.close().unclean())
        }
    };
    if clean { close } else { close.unclean() }
}
