use js_sys::Function;
use wasm_bindgen::prelude::*;

/// The most that the platform gives at a time.
const RANDOM_BYTES: usize = 65_536;

#[wasm_bindgen]
extern "C" {
    /// Returns what [`clear_timeout`] takes.
    #[wasm_bindgen(js_name = setTimeout, catch)]
    pub(crate) fn set_timeout(call: &Function, millis: i32) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(js_name = clearTimeout, catch)]
    pub(crate) fn clear_timeout(timer: &JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues, catch)]
    fn get_random_values(into: &mut [u8]) -> Result<JsValue, JsValue>;
}

/// Fills `bytes` with random ones.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(RANDOM_BYTES) {
        if get_random_values(chunk).is_err() {
            // The platform gives no random bytes outside of a request, where nothing of this crate needs
            // them.
            chunk.fill_with(|| (js_sys::Math::random() * 256.0) as u8);
        }
    }
}
