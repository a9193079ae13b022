//! The JavaScript functions of the platform that are used here. Everything that can throw is declared with
//! `catch`: an exception that passes through Wasm would end every room of the isolate.

mod http;
mod object;
mod promise;
mod time;

pub(crate) use http::{
    JsReader, JsRequest, JsResponse, JsWriter, TransformStream, arrived, head, learn, respond,
    respond_with, switching,
};
pub(crate) use object::{
    AutoResponse, JsWebSocket, Sql, State, Storage, WebSocketPair, ask, attach, attached, console,
    remember,
};
pub(crate) use promise::{Deferred, wait};
pub(crate) use time::{clear_timeout, fill_random, set_timeout};

use js_sys::Reflect;
use wasm_bindgen::JsValue;

/// A property, or `undefined`.
pub(crate) fn get(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

/// The text of an exception, for the log.
pub(crate) fn describe(error: &JsValue) -> String {
    let text = |name| get(error, name).as_string();
    match (text("name"), text("message")) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        _ => error.as_string().unwrap_or_else(|| format!("{error:?}")),
    }
}
