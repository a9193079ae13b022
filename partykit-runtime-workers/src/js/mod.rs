//! The platform's JavaScript, as far as it is used. Everything that can throw is declared with `catch`:
//! an exception that passes through Wasm would take every room of the isolate with it.

mod http;
mod object;
mod promise;
mod time;

pub(crate) use http::{
    JsHeaders, JsReader, JsRequest, JsResponse, JsWriter, TransformStream, head, header, respond,
    respond_with, switching,
};
pub(crate) use object::{
    AutoResponse, JsWebSocket, Namespace, Sql, State, Storage, WebSocketPair, attach, attached,
    bytes, console, text,
};
pub(crate) use promise::Deferred;
pub(crate) use time::{clear_timeout, fill_random, set_timeout};

use js_sys::{Object, Reflect};
use wasm_bindgen::JsValue;

/// A property, or `undefined`.
pub(crate) fn get(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

/// An object with these properties.
pub(crate) fn object(properties: &[(&str, &JsValue)]) -> JsValue {
    let object = Object::new().into();
    for (name, value) in properties {
        // A fresh object takes every property.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object
}

/// What an exception says, for the log.
pub(crate) fn describe(error: &JsValue) -> String {
    let text = |name| get(error, name).as_string();
    match (text("name"), text("message")) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        _ => error.as_string().unwrap_or_else(|| format!("{error:?}")),
    }
}
