use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::select};
use js_sys::Promise;
use partykit_core::{
    AwakeReason, BoxError, Close, Message, Refusal, Request, Response, RoomAddress, RoomId,
    Timestamp,
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
    js::{self, AutoResponse, JsRequest, JsResponse, JsWebSocket, State, WebSocketPair},
    parties::Parties,
    socket::{Frames, ObjectSocket, Verdict, close_with},
    tasks::Tasks,
};

/// When an alarm that could not ring is tried again.
const ALARM_AGAIN: Duration = Duration::from_secs(5);

/// A room with a reason to stay in memory is kept there by timers of this length, one after another.
const HOLD: Duration = Duration::from_secs(30);

/// The `readyState` of an open socket.
const OPEN: u16 = 1;

/// A room, the platform's things that it uses, and its connections.
pub(crate) struct HostedRoom {
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

impl HostedRoom {
    /// Makes the room of an object, with the connections that the platform has kept.
    pub(crate) fn resume(
        parties: &'static Parties,
        class: &'static str,
        ctx: State,
        env: Env,
    ) -> Result<Rc<Self>, JsValue> {
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
        let room = Self {
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
            room.add(Open { connection, socket });
        }
        room.log("the object is in memory");
        Ok(Rc::new(room))
    }

    /// Answers a request from an entry or from another room.
    pub(crate) async fn respond(
        self: &Rc<Self>,
        request: JsRequest,
    ) -> Result<JsResponse, JsValue> {
        let answered = self.answer(request).await.or_else(|error| {
            let (env, what) = (self.host.env(), "a request could not be answered");
            self.to_js(Refused::failed(env, what, Some(&error.to_string())).into_response())
        });
        answered.map_err(|error| error.to_string().into())
    }

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
        convert::to_js(self.tasks(), response).map_err(thrown)
    }

    /// Takes what the connection of this number says; `None` is a message that is too long. Returns whether the room
    /// still works then.
    pub(crate) fn hear(self: &Rc<Self>, order: u32, message: Option<Message>) -> bool {
        let connection = match self.connections.borrow().get(&order) {
            Some(open) if !open.socket.is_condemned() => open.connection,
            _ => return false,
        };
        let message = message.filter(|message| message.as_bytes().len() <= self.max_message);
        let refused = match message {
            None => Some(CloseReason::MessageTooLong),
            // The platform cannot be made to wait, and a dropped message would be lost silently. So the
            // connection is closed.
            Some(message) => {
                let taken = self.cell.message(connection, message);
                taken.err().map(|_| CloseReason::Overloaded)
            }
        };
        if let Some(reason) = refused
            && let Some(open) = self.find(order)
        {
            self.hang_up(&open, reason.close());
        }
        self.works()
    }

    /// Notes that a connection has ended.
    pub(crate) fn ended(&self, ws: &JsWebSocket, close: Close) {
        if let Some(open) = self.remove(ws) {
            self.cell.closed(open.connection, close);
            open.socket.detach();
        }
    }

    /// Lets the alarm ring that may be due. If it cannot ring, it is tried again without a limit; the platform alone
    /// would give up.
    pub(crate) fn ring(self: &Rc<Self>) -> Promise {
        let room = self.clone();
        let rung = room.cell.alarm();
        // The promise of the work is not needed: the one below is pending at least as long.
        drop(room.work());
        self.tasks().promise(async move {
            if rung.await.is_err() {
                let again: Timestamp = clock::now() + ALARM_AGAIN;
                let storage = room.ctx.storage()?;
                drop(storage.set_alarm(again.as_millis() as f64)?);
            }
            Ok(JsValue::UNDEFINED)
        })
    }

    /// How many bytes a message may have.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        self.host.tasks()
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
    pub(crate) fn work(self: &Rc<Self>) -> JsValue {
        match self.works() {
            true => self.working(),
            false => JsValue::UNDEFINED,
        }
    }

    /// A promise that is kept when the room has done its work. `undefined` if no work is left.
    pub(crate) fn working(&self) -> JsValue {
        self.working.borrow().as_ref().map_or(JsValue::UNDEFINED, |working| working.clone().into())
    }

    /// Runs the room's tasks. Returns whether the room still works.
    fn works(self: &Rc<Self>) -> bool {
        self.tasks().run();
        if self.working.borrow().is_some() {
            return true;
        }
        if let Some(reasons) = self.cell.settled().now_or_never() {
            self.rest(&reasons);
            return false;
        }
        self.host.timers().work(true);
        let (me, cell) = (Rc::downgrade(self), self.cell.clone());
        let working = self.tasks().promise(async move {
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
        let held = self.tasks().promise(async move {
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
pub(crate) fn order(ws: &JsWebSocket) -> Option<u32> {
    let order = ws.order();
    (order >= 0.0).then_some(order as u32)
}
