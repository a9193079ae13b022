// What would take several calls out of Rust is one here: each call costs, and so does each value that is
// handed over. A snippet of wasm-bindgen, which `partykit-bundle` puts beside the Worker.

/** A text that is not longer than `limit` units of UTF-16. */
export function text(message, limit) {
  return typeof message === "string" && message.length <= limit ? message : undefined;
}

/** The bytes of a message that has at most `limit`. */
export function bytes(message, limit) {
  if (!(message instanceof ArrayBuffer) || message.byteLength > limit) return undefined;
  return new Uint8Array(message);
}

/** All of a request but its body, as JSON. */
export function head(request) {
  return JSON.stringify([request.method, request.url, [...request.headers]]);
}

/** One header of a request. */
export function header(request, name) {
  return request.headers.get(name) ?? undefined;
}

/** A response. The body is copied: it lies in Wasm's memory. */
export function respond(init, body) {
  return new Response(body?.slice(), JSON.parse(init));
}

/** The same with a stream. */
export function respondWith(init, body) {
  return new Response(body, JSON.parse(init));
}

/** The answer that makes a WebSocket of a request; `client` is the client's end of it. */
export function switching(client, protocol) {
  const headers = protocol === undefined ? {} : { "sec-websocket-protocol": protocol };
  return new Response(null, { status: 101, webSocket: client, headers });
}

/** Keeps bytes with a socket. They are copied: they lie in Wasm's memory. */
export function attach(socket, bytes) {
  socket.serializeAttachment(bytes.slice());
}

/** What was kept with a socket, if anything was. */
export function attached(socket) {
  const attachment = socket.deserializeAttachment();
  return attachment instanceof Uint8Array ? attachment : undefined;
}

/** A promise, and what settles it. */
export function deferred() {
  let resolve, reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
}

/** Tells `settled` when a promise is, and how. */
export function wait(promise, settled, key) {
  promise.then(
    (value) => settled(key, true, value),
    (error) => settled(key, false, error),
  );
}

/** Asks the object of a room. `undefined` without a binding to its class. */
export function ask(env, binding, jurisdiction, name, hint, url, envelope, upgrade, body) {
  let namespace = env[binding];
  if (namespace === undefined || namespace === null) return undefined;
  if (jurisdiction !== undefined) namespace = namespace.jurisdiction(jurisdiction);
  const options = hint === undefined ? undefined : { locationHint: hint };
  const headers = { "x-partykit-envelope": envelope };
  if (upgrade) headers.upgrade = "websocket";
  // A redirect is the room's answer, and for the client to follow. The platform would ask the same room
  // again, 20 times, and then fail. And a body, even an empty one, is a stream that the room has to read.
  const init = { headers, redirect: "manual" };
  if (body.length > 0) Object.assign(init, { method: "POST", body: body.slice() });
  let request;
  try {
    request = new Request(url, init);
  } catch {
    request = new Request("http://room/", init);
  }
  return namespace.get(namespace.idFromName(name), options).fetch(request);
}
