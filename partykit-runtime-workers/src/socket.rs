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

/// The server's end of a WebSocket that the platform keeps, also while the room sleeps.
///
/// With it, the platform keeps the connection's attachment: as long as there is one, the room has yet to
/// be told that the connection has ended.
pub(crate) struct ObjectSocket(SendWrapper<Inner>);

struct Inner {
    ctx: State,
    ws: JsWebSocket,
    frames: Rc<Frames>,
    verdict: Cell<Option<oneshot::Sender<Verdict>>>,
    /// The platform keeps it.
    kept: Cell<bool>,
    /// What is to be done when the room has closed it because of what its client did.
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
    /// The end of a fresh pair; the verdict comes when the room has decided.
    pub(crate) fn new(
        ctx: State,
        ws: JsWebSocket,
        frames: Rc<Frames>,
    ) -> (Self, oneshot::Receiver<Verdict>) {
        let (verdict, decided) = oneshot::channel();
        (Self::with(ctx, ws, frames, Some(verdict)), decided)
    }

    /// One that the platform has kept.
    pub(crate) fn kept(ctx: State, ws: JsWebSocket, frames: Rc<Frames>) -> Self {
        Self::with(ctx, ws, frames, None)
    }

    pub(crate) fn ws(&self) -> &JsWebSocket {
        &self.0.ws
    }

    /// The client did what is not allowed: nothing more is heard of it. `closed` is called when the room
    /// has closed it.
    pub(crate) fn condemn(&self, closed: impl FnOnce(Close) + 'static) {
        self.0.is_condemned.set(true);
        *self.0.condemned.borrow_mut() = Some(Box::new(closed));
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.0.is_condemned.get()
    }

    /// The room knows that it has ended.
    pub(crate) fn detach(&self) {
        self.0.kept.set(false);
        // It is gone, or going: only a room that wakes before that reads this.
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
            // The receiver is gone when the object is being reset.
            let _ = decided.send(verdict);
        }
    }

    /// Hands the socket to the platform.
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

    fn send(&self, message: &Outgoing) {
        // One that is closed takes nothing more.
        let _ = self.0.frames.send(&self.0.ws, message.message());
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

/// The message that was sent last: one that goes to many is converted once.
#[derive(Default)]
pub(crate) struct Frames(RefCell<Option<Last>>);

struct Last {
    message: Message,
    /// As the platform takes it. `None` for a text until it is sent for the second time: most go to one.
    converted: Option<JsValue>,
}

impl Frames {
    fn send(&self, ws: &JsWebSocket, message: &Message) -> Result<(), JsValue> {
        let mut last = self.0.borrow_mut();
        let known = last.as_mut().filter(|last| is_same(&last.message, message));
        match (known, message.as_text()) {
            (Some(last), text) => {
                let converted = last.converted.get_or_insert_with(|| match text {
                    Some(text) => JsValue::from_str(text),
                    None => Uint8Array::from(message.as_bytes()).into(),
                });
                ws.send(converted)
            }
            (None, Some(text)) => {
                *last = Some(Last { message: message.clone(), converted: None });
                ws.send_text(text)
            }
            (None, None) => {
                let converted = Uint8Array::from(message.as_bytes()).into();
                let sent = ws.send(&converted);
                *last = Some(Last { message: message.clone(), converted: Some(converted) });
                sent
            }
        }
    }

    /// Frees it.
    pub(crate) fn clear(&self) {
        self.0.take();
    }
}

/// Whether both share one payload.
fn is_same(one: &Message, other: &Message) -> bool {
    std::ptr::eq(one.as_bytes(), other.as_bytes()) && one.is_text() == other.is_text()
}

/// Sends a Close, unless that was done before.
pub(crate) fn close_with(ws: &JsWebSocket, close: &Close) {
    // A socket that is gone needs none.
    let _ = ws.close(close.code().into(), close.reason());
}
