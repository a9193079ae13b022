use js_sys::{Array, Promise};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = Request)]
    #[derive(Clone)]
    pub(crate) type JsRequest;

    #[wasm_bindgen(constructor, js_class = "Request", catch)]
    pub(crate) fn new(url: &str, init: &JsValue) -> Result<JsRequest, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn url(this: &JsRequest) -> Result<String, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn method(this: &JsRequest) -> Result<String, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn headers(this: &JsRequest) -> Result<JsHeaders, JsValue>;

    /// A stream, or `null`.
    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn body(this: &JsRequest) -> Result<JsValue, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = Response)]
    #[derive(Clone)]
    pub(crate) type JsResponse;

    #[wasm_bindgen(constructor, js_class = "Response", catch)]
    pub(crate) fn new(body: &JsValue, init: &JsValue) -> Result<JsResponse, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn status(this: &JsResponse) -> Result<u16, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn headers(this: &JsResponse) -> Result<JsHeaders, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn body(this: &JsResponse) -> Result<JsValue, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = Headers)]
    pub(crate) type JsHeaders;

    #[wasm_bindgen(constructor, js_class = "Headers", catch)]
    pub(crate) fn new() -> Result<JsHeaders, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn append(this: &JsHeaders, name: &str, value: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn get(this: &JsHeaders, name: &str) -> Result<Option<String>, JsValue>;

    /// An array of what an iterable gives.
    #[wasm_bindgen(js_namespace = Array, js_name = from, catch)]
    pub(crate) fn array_from(iterable: &JsValue) -> Result<Array, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    /// A `ReadableStream` that is read by nobody else.
    pub(crate) type ReadableStream;

    #[wasm_bindgen(method, js_name = getReader, catch)]
    fn get_reader(this: &ReadableStream) -> Result<JsReader, JsValue>;

    #[wasm_bindgen(js_name = ReadableStreamDefaultReader)]
    pub(crate) type JsReader;

    /// `{ done, value }`
    #[wasm_bindgen(method, catch)]
    pub(crate) fn read(this: &JsReader) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn cancel(this: &JsReader) -> Result<Promise, JsValue>;

    pub(crate) type TransformStream;

    #[wasm_bindgen(constructor, catch)]
    pub(crate) fn new() -> Result<TransformStream, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn readable(this: &TransformStream) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    fn writable(this: &TransformStream) -> Result<WritableStream, JsValue>;

    pub(crate) type WritableStream;

    #[wasm_bindgen(method, js_name = getWriter, catch)]
    fn get_writer(this: &WritableStream) -> Result<JsWriter, JsValue>;

    #[wasm_bindgen(js_name = WritableStreamDefaultWriter)]
    pub(crate) type JsWriter;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn write(this: &JsWriter, chunk: &JsValue) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn close(this: &JsWriter) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn abort(this: &JsWriter, reason: &JsValue) -> Result<Promise, JsValue>;
}

impl JsReader {
    /// A reader of a body; `None` when there is none.
    pub(crate) fn of(body: JsValue) -> Result<Option<Self>, JsValue> {
        if body.is_null() || body.is_undefined() {
            return Ok(None);
        }
        body.unchecked_into::<ReadableStream>().get_reader().map(Some)
    }
}

impl TransformStream {
    pub(crate) fn writer(&self) -> Result<JsWriter, JsValue> {
        self.writable()?.get_writer()
    }
}
