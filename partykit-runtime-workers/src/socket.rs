use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use futures_channel::oneshot;
use js_sys::Uint8Array;
use partykit_core::{
    Close, Connection, Message,
    runtime::{Attachment, Outgoing, Socket},
};
use send_wrapper::SendWrapper;
use wasm_bindgen::JsValue;

use crate::js::{self, JsWebSocket, State};

/// The server's end of a WebSocket. The platform keeps it, also while the room sleeps.
///
/// The platform keeps the connection's attachment with it. While there is an attachment, the room does not
/// know yet that the connection has ended.
pub(crate) struct ObjectSocket(SendWrapper<Inner>);

struct Inner {
    ctx: State,
    ws: JsWebSocket,
    frames: Rc<Frames>,
    verdict: Cell<Option<oneshot::Sender<Verdict>>>,
    /// Whether the platform keeps it.
    kept: Cell<bool>,
    /// What to do when the room has closed the connection because the client did something forbidden.
    condemned: RefCell<Option<Condemned>>,
    is_condemned: Cell<bool>,
}

type Condemned = Box<dyn FnOnce(Close)>;

/// How a connect ended.
pub(crate) enum Verdict {
    Accept,
    Refuse,
    /// The platform takes no further socket.
    Full,
}

impl ObjectSocket {
    /// The server's end of a new pair. The receiver gets the room's verdict.
    pub(crate) fn new(
        ctx: State,
        ws: JsWebSocket,
        frames: Rc<Frames>,
    ) -> (Self, oneshot::Receiver<Verdict>) {
        let (verdict, decided) = oneshot::channel();
        (Self::with(ctx, ws, frames, Some(verdict)), decided)
    }

    /// A socket that the platform has kept.
    pub(crate) fn kept(ctx: State, ws: JsWebSocket, frames: Rc<Frames>) -> Self {
        Self::with(ctx, ws, frames, None)
    }

    pub(crate) fn ws(&self) -> &JsWebSocket {
        &self.0.ws
    }

    /// Stops listening to a client that did something forbidden. `closed` is called when the room has closed
    /// the connection.
    pub(crate) fn condemn(&self, closed: impl FnOnce(Close) + 'static) {
        self.0.is_condemned.set(true);
        *self.0.condemned.borrow_mut() = Some(Box::new(closed));
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.0.is_condemned.get()
    }

    /// Notes that the room knows of the end.
    pub(crate) fn detach(&self) {
        self.0.kept.set(false);
        // If this fails, the socket is gone already.
        let _ = self.0.ws.serialize_attachment(&JsValue::NULL);
    }

    fn with(
        ctx: State,
        ws: JsWebSocket,
        frames: Rc<Frames>,
        verdict: Option<oneshot::Sender<Verdict>>,
    ) -> Self {
        let kept = Cell::new(verdict.is_none());
        Self(SendWrapper::new(Inner {
            ctx,
            ws,
            frames,
            verdict: Cell::new(verdict),
            kept,
            condemned: RefCell::new(None),
            is_condemned: Cell::new(false),
        }))
    }

    fn decide(&self, verdict: Verdict) {
        if let Some(decided) = self.0.verdict.take() {
            // The receiver is gone if the object is being reset.
            let _ = decided.send(verdict);
        }
    }

    /// Gives the socket to the platform.
    fn keep(&self) -> bool {
        let kept = self.0.ctx.accept_web_socket(&self.0.ws);
        kept.inspect_err(|error| {
            tracing::error!("the platform did not accept a socket: {}", js::describe(error));
        })
        .is_ok()
    }
}

impl Socket for ObjectSocket {
    fn accept(&self) {
        let kept = self.keep();
        self.0.kept.set(kept);
        self.decide(if kept { Verdict::Accept } else { Verdict::Full });
    }

    fn refuse(&self, close: Close) {
        if self.keep() {
            close_with(&self.0.ws, &close);
            self.decide(Verdict::Refuse);
        } else {
            self.decide(Verdict::Full);
        }
    }

    fn attach(&self, connection: &Connection) {
        if self.0.kept.get() {
            let bytes = Attachment::of(connection).encode();
            if let Err(error) = js::attach(&self.0.ws, &bytes) {
                tracing::error!("a connection's state is not kept: {}", js::describe(&error));
            }
        }
    }

    fn send(&self, message: Outgoing<'_>) {
        let (ws, is_shared, message) = (&self.0.ws, message.is_shared(), message.message());
        match message.as_text() {
            _ if is_shared => self.0.frames.send(ws, message),
            Some(text) => ws.say(text),
            None => ws.say_bytes(message.as_bytes()),
        }
    }

    fn close(&self, close: Close) {
        close_with(&self.0.ws, &close);
        let condemned = self.0.condemned.take();
        if let Some(closed) = condemned {
            closed(close);
        }
    }

    fn flush(&self) {}
}

/// The last message that was sent to many, and its form on the platform: it is converted only once.
#[derive(Default)]
pub(crate) struct Frames(RefCell<Option<(Message, JsValue)>>);

impl Frames {
    fn send(&self, ws: &JsWebSocket, message: &Message) {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some((known, converted)) if is_same(known, message) => ws.say_converted(converted),
            _ => {
                let converted = match message.as_text() {
                    Some(text) => JsValue::from_str(text),
                    None => Uint8Array::from(message.as_bytes()).into(),
                };
                ws.say_converted(&converted);
                *last = Some((message.clone(), converted));
            }
        }
    }

    /// Frees the last message.
    pub(crate) fn clear(&self) {
        if self.0.borrow().is_some() {
            self.0.take();
        }
    }
}

/// Whether both messages share one payload.
fn is_same(one: &Message, other: &Message) -> bool {
    std::ptr::eq(one.as_bytes(), other.as_bytes()) && one.is_text() == other.is_text()
}

/// Sends a Close, unless that was done before.
pub(crate) fn close_with(ws: &JsWebSocket, close: &Close) {
    // If this fails, the socket is gone and needs no Close.
    let _ = ws.close(close.code().into(), close.reason());
}
