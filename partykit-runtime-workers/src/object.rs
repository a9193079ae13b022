use std::{
    fmt,
    panic::{RefUnwindSafe, UnwindSafe},
    rc::Rc,
};

use futures_util::FutureExt;
use js_sys::{Promise, Uint8Array};
use partykit_core::{Close, CloseCode, Message, runtime::CloseReason};
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    Env, clock,
    hosted::{HostedRoom, order},
    inbox,
    js::{self, JsWebSocket},
    log,
    parties::Parties,
    tasks::Tasks,
};

/// A room as a Durable Object: the inside of the class that [`export!`](crate::export) makes.
pub struct Object(Rc<HostedRoom>);

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
        HostedRoom::resume(parties, class, ctx.unchecked_into(), env).map(Self)
    }

    /// Handles a request from an entry or from another room. Returns a response, or a promise of one. Most
    /// rooms answer at once.
    pub fn fetch(&self, request: JsValue) -> JsValue {
        clock::arrive();
        let _call = self.tasks().enter();
        let room = self.0.clone();
        let mut response =
            Box::pin(async move { room.respond(request.unchecked_into()).await.map(Into::into) });
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
        let fits = units as usize <= self.0.max_message();
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

    /// The same without the runtime's JavaScript, for a Worker that `worker-build` has made: the platform calls this.
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
        self.0.hear(order, message)
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
        let (room, clean) = (&self.0, clean.is_truthy());
        room.ended(ws, closed_with(code, &reason, clean));
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
        room.work()
    }

    /// Handles a connection that has failed.
    pub fn error(&self, ws: &JsValue, error: &JsValue) -> JsValue {
        clock::arrive();
        let _call = self.tasks().enter();
        let room = &self.0;
        room.ended(ws.unchecked_ref(), Close::abnormal(js::describe(error)));
        room.work()
    }

    /// Handles the platform's alarm: the room's alarm may be due. If it cannot ring, it is tried again
    /// without a limit; the platform alone would give up.
    pub fn alarm(&self) -> Promise {
        clock::arrive();
        let _call = self.tasks().enter();
        self.0.ring()
    }
}

impl Object {
    fn tasks(&self) -> &Tasks {
        self.0.tasks()
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
        f.debug_struct("Object").field("room", self.0.address()).finish_non_exhaustive()
    }
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
