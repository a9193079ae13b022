use js_sys::Promise;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/src/js/glue.js")]
extern "C" {
    /// Method, address, and names and values of all headers, each on a line.
    #[wasm_bindgen(catch)]
    pub(crate) fn head(request: &JsRequest) -> Result<String, JsValue>;

    /// What a room's object gets: an envelope, or the head of a client's request.
    #[wasm_bindgen(catch)]
    pub(crate) fn arrived(request: &JsRequest) -> Result<String, JsValue>;

    /// Notes that a request was passed on as it was: the next ones like it take a short way. `beginning` is the
    /// path up to the name of the room.
    #[wasm_bindgen(catch)]
    pub(crate) fn learn(
        request: &JsRequest,
        beginning: &str,
        binding: &str,
        jurisdiction: Option<&str>,
        hint: Option<&str>,
    ) -> Result<(), JsValue>;

    /// A response; `init` is the JSON of what its constructor takes.
    #[wasm_bindgen(catch)]
    pub(crate) fn respond(init: &str, body: Option<&[u8]>) -> Result<JsResponse, JsValue>;

    /// The same with a stream.
    #[wasm_bindgen(js_name = respondWith, catch)]
    pub(crate) fn respond_with(init: &str, body: &JsValue) -> Result<JsResponse, JsValue>;

    /// The answer that makes a WebSocket of a request; `client` is the client's end of it.
    #[wasm_bindgen(catch)]
    pub(crate) fn switching(
        client: &JsValue,
        protocol: Option<&str>,
    ) -> Result<JsResponse, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = Request)]
    #[derive(Clone)]
    pub(crate) type JsRequest;

    /// A stream, or `null`.
    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn body(this: &JsRequest) -> Result<JsValue, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = Response)]
    #[derive(Clone)]
    pub(crate) type JsResponse;

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
}

#[wasm_bindgen]
extern "C" {
    /// A `ReadableStream` that has no other reader.
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
    /// A reader of a body. `None` if there is no body.
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
