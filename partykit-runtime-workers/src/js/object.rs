use js_sys::{Array, Function, Promise};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/src/js/glue.js")]
extern "C" {
    /// Tells JavaScript where Wasm's memory is, and that there is an inbox of `length` bytes at `at`.
    pub(crate) fn remember(memory: &JsValue, at: i32, length: i32);

    /// Sends a text of `length` bytes that lies at `at`. A closed socket takes nothing more.
    fn say(socket: &JsWebSocket, at: i32, length: i32);

    /// The same for bytes.
    #[wasm_bindgen(js_name = sayBytes)]
    fn say_bytes(socket: &JsWebSocket, at: i32, length: i32);

    /// Sends a text (a string) or bytes. A closed socket takes nothing more.
    #[wasm_bindgen(js_name = sayConverted)]
    fn say_converted(socket: &JsWebSocket, message: &JsValue);

    /// Asks the object of the room `name`, with an envelope and a body. `None` if there is no such binding.
    #[wasm_bindgen(catch)]
    #[allow(clippy::too_many_arguments, reason = "one call costs less than nine")]
    pub(crate) fn ask(
        env: &JsValue,
        binding: &str,
        jurisdiction: Option<&str>,
        name: &str,
        hint: Option<&str>,
        url: &str,
        envelope: &str,
        upgrade: bool,
        body: &[u8],
    ) -> Result<Option<Promise>, JsValue>;

    /// Keeps bytes with a socket, also while the room sleeps.
    #[wasm_bindgen(catch)]
    pub(crate) fn attach(socket: &JsWebSocket, bytes: &[u8]) -> Result<(), JsValue>;

    /// The bytes that were kept with a socket. `None` if there are none.
    #[wasm_bindgen(catch)]
    pub(crate) fn attached(socket: &JsWebSocket) -> Result<Option<Vec<u8>>, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    /// A Durable Object's `ctx`.
    #[derive(Clone)]
    pub(crate) type State;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn id(this: &State) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn storage(this: &State) -> Result<Storage, JsValue>;

    #[wasm_bindgen(method, js_name = waitUntil, catch)]
    pub(crate) fn wait_until(this: &State, promise: &Promise) -> Result<(), JsValue>;

    #[wasm_bindgen(method, js_name = acceptWebSocket, catch)]
    pub(crate) fn accept_web_socket(this: &State, socket: &JsWebSocket) -> Result<(), JsValue>;

    #[wasm_bindgen(method, js_name = getWebSockets, catch)]
    pub(crate) fn web_sockets(this: &State) -> Result<Array, JsValue>;

    #[wasm_bindgen(method, js_name = setWebSocketAutoResponse, catch)]
    pub(crate) fn set_auto_response(this: &State, pair: &AutoResponse) -> Result<(), JsValue>;

    #[wasm_bindgen(method, js_name = setWebSocketAutoResponse, catch)]
    pub(crate) fn unset_auto_response(this: &State) -> Result<(), JsValue>;

    #[wasm_bindgen(js_name = WebSocketRequestResponsePair)]
    pub(crate) type AutoResponse;

    #[wasm_bindgen(constructor, js_class = "WebSocketRequestResponsePair", catch)]
    pub(crate) fn new(request: &str, response: &str) -> Result<AutoResponse, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    pub(crate) type WebSocketPair;

    #[wasm_bindgen(constructor, catch)]
    pub(crate) fn new() -> Result<WebSocketPair, JsValue>;

    #[wasm_bindgen(method, getter, js_name = "0", catch)]
    pub(crate) fn client(this: &WebSocketPair) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, getter, js_name = "1", catch)]
    pub(crate) fn server(this: &WebSocketPair) -> Result<JsWebSocket, JsValue>;

    #[wasm_bindgen(js_name = WebSocket)]
    #[derive(Clone)]
    pub(crate) type JsWebSocket;

    /// Starts a socket that is not given to an object.
    #[wasm_bindgen(method, catch)]
    pub(crate) fn accept(this: &JsWebSocket) -> Result<(), JsValue>;

    /// The number that [`set_order`](JsWebSocket::set_order) has set. NaN if it was not set.
    #[wasm_bindgen(method, getter, js_name = partykitOrder)]
    pub(crate) fn order(this: &JsWebSocket) -> f64;

    /// Marks the socket with its connection's number. The platform passes the same JavaScript object each
    /// time, while the room is in memory.
    #[wasm_bindgen(method, setter, js_name = partykitOrder)]
    pub(crate) fn set_order(this: &JsWebSocket, order: u32);

    #[wasm_bindgen(method, catch)]
    pub(crate) fn close(this: &JsWebSocket, code: u16, reason: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, js_name = close, catch)]
    pub(crate) fn close_without_code(this: &JsWebSocket) -> Result<(), JsValue>;

    #[wasm_bindgen(method, getter, js_name = readyState, catch)]
    pub(crate) fn ready_state(this: &JsWebSocket) -> Result<u16, JsValue>;

    /// Keeps nothing with it.
    #[wasm_bindgen(method, js_name = serializeAttachment, catch)]
    pub(crate) fn serialize_attachment(this: &JsWebSocket, value: &JsValue) -> Result<(), JsValue>;
}

#[wasm_bindgen]
extern "C" {
    #[derive(Clone)]
    pub(crate) type Storage;

    #[wasm_bindgen(method, getter, catch)]
    pub(crate) fn sql(this: &Storage) -> Result<Sql, JsValue>;

    /// Runs `work` in a transaction. If it throws, the transaction is undone.
    #[wasm_bindgen(method, js_name = transactionSync, catch)]
    pub(crate) fn transaction_sync(
        this: &Storage,
        work: &mut dyn FnMut() -> Result<(), JsValue>,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, js_name = getAlarm, catch)]
    pub(crate) fn alarm(this: &Storage) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, js_name = setAlarm, catch)]
    pub(crate) fn set_alarm(this: &Storage, millis: f64) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, js_name = deleteAlarm, catch)]
    pub(crate) fn delete_alarm(this: &Storage) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_name = SqlStorage)]
    #[derive(Clone)]
    pub(crate) type Sql;

    #[wasm_bindgen(method, variadic, catch)]
    pub(crate) fn exec(this: &Sql, query: &str, bindings: &Array) -> Result<Cursor, JsValue>;

    #[wasm_bindgen(js_name = SqlStorageCursor)]
    pub(crate) type Cursor;

    /// The rows as arrays.
    #[wasm_bindgen(method, catch)]
    fn raw(this: &Cursor) -> Result<RawCursor, JsValue>;

    pub(crate) type RawCursor;

    #[wasm_bindgen(method, js_name = toArray, catch)]
    fn to_array(this: &RawCursor) -> Result<Array, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(thread_local_v2, js_name = console)]
    static CONSOLE: JsValue;
}

impl JsWebSocket {
    /// Sends a text.
    pub(crate) fn say(&self, text: &str) {
        // Numbers of this type are handed over as they are. Wasm's memory ends at 128 MB.
        say(self, text.as_ptr() as usize as i32, text.len() as i32);
    }

    /// Sends bytes.
    pub(crate) fn say_bytes(&self, bytes: &[u8]) {
        say_bytes(self, bytes.as_ptr() as usize as i32, bytes.len() as i32);
    }

    /// Sends what goes to many: a text (a string) or bytes.
    pub(crate) fn say_converted(&self, message: &JsValue) {
        say_converted(self, message);
    }
}

impl Sql {
    /// The rows that a query gives, each an array of its columns.
    pub(crate) fn rows(&self, query: &str, bindings: &Array) -> Result<Array, JsValue> {
        self.exec(query, bindings)?.raw()?.to_array()
    }
}

/// Writes a line to the log; `level` is the name of a function of `console`.
pub(crate) fn console(level: &str, line: &str) {
    CONSOLE.with(|console| {
        if let Ok(write) = super::get(console, level).dyn_into::<Function>() {
            // If the log cannot be written, there is no other place to report it.
            let _ = write.call1(console, &line.into());
        }
    });
}
