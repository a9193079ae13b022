use std::{future::Future, panic::AssertUnwindSafe};

use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::{future_to_promise, spawn_local};

/// Runs a future. If it panics, and panics unwind, the promise is rejected: nobody polls it again, and
/// what it shares with others is behind locks and cells that it leaves whole.
pub(crate) fn promise(future: impl Future<Output = Result<JsValue, JsValue>> + 'static) -> Promise {
    future_to_promise(AssertUnwindSafe(future))
}

/// Runs a future that has nothing to say.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    spawn_local(AssertUnwindSafe(future));
}
