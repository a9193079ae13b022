use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/src/js/glue.js")]
extern "C" {
    fn deferred() -> Deferred;

    /// Calls `settled` with the key, whether the promise was fulfilled, and its value or error.
    pub(crate) fn wait(promise: &Promise, settled: &Function, key: u32);
}

#[wasm_bindgen]
extern "C" {
    /// A promise, and what settles it.
    pub(crate) type Deferred;

    #[wasm_bindgen(method, getter)]
    pub(crate) fn promise(this: &Deferred) -> Promise;

    #[wasm_bindgen(method, js_name = resolve, catch)]
    fn resolve_with(this: &Deferred, value: &JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(method, js_name = reject, catch)]
    fn reject_with(this: &Deferred, error: &JsValue) -> Result<(), JsValue>;
}

impl Deferred {
    pub(crate) fn new() -> Self {
        deferred()
    }

    pub(crate) fn resolve(&self, value: &JsValue) {
        // The resolve function of a promise does not throw.
        let _ = self.resolve_with(value);
    }

    pub(crate) fn reject(&self, error: &JsValue) {
        let _ = self.reject_with(error);
    }
}
