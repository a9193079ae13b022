// What would take several calls out of Rust is one here: each call costs, and so does each value that is
// handed over. A snippet of wasm-bindgen, which `partykit-bundle` puts beside the Worker.

/** Wasm's memory, and its bytes as they were when it last grew. */
let memory;
let bytes = new Uint8Array();

/** Where a message is put for wasm, and how many bytes there is space for. */
let inbox, space;

/** The text whose letters lie in the inbox, each a byte. `undefined` if something else does. */
let heard;

/** Tells where Wasm's memory is, and the inbox in it. */
export function remember(wasm, at, length) {
  memory = wasm;
  inbox = at;
  space = length;
  heard = undefined;
  bytes = new Uint8Array(memory.buffer);
}

/**
 * A text up to this length is written by hand, and a longer one by the encoder. The encoder is faster from about a
 * hundred on, but only while its code lies in the processor's caches, where nothing is left of it from one message to
 * the next.
 */
const SHORT = 256;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A message that is longer than it may be. */
const TOO_LONG = -1;

/** Gives a room what a socket says. Returns a promise if there is something to wait for. */
export function hear(room, socket, message) {
  const order = socket.partykitOrder;
  // It is no connection's.
  if (order === undefined) return undefined;
  heard = undefined;
  const isText = typeof message === "string";
  const length = isText ? putText(room, message) : putBytes(room, message);
  return room.hear(order, isText, length, Date.now()) ? room.working() : undefined;
}

/** Puts a text into the inbox. Returns its length in bytes. */
function putText(room, text) {
  const length = text.length;
  // A unit of UTF-16 becomes up to three bytes.
  if (length * 3 > space && !room.makeSpace(length, length * 3)) return TOO_LONG;
  // Memory that has grown is another buffer, and the old one is empty.
  if (bytes.length === 0) bytes = new Uint8Array(memory.buffer);
  const start = inbox;
  if (length <= SHORT) {
    let i = 0;
    for (; i < length; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 127) break;
      bytes[start + i] = unit;
    }
    if (i === length) {
      heard = text;
      return length;
    }
  }
  return encoder.encodeInto(text, bytes.subarray(start, start + length * 3)).written;
}

/** Puts bytes into the inbox. Returns how many. */
function putBytes(room, buffer) {
  const length = buffer.byteLength;
  if (length > space && !room.makeSpace(length, length)) return TOO_LONG;
  if (bytes.length === 0) bytes = new Uint8Array(memory.buffer);
  bytes.set(new Uint8Array(buffer), inbox);
  return length;
}

/** Sends the text that lies at `at`. A closed socket takes nothing more. */
export function say(socket, at, length) {
  if (bytes.length === 0) bytes = new Uint8Array(memory.buffer);
  try {
    socket.send(isHeard(at, length) ? heard : decoder.decode(bytes.subarray(at, at + length)));
  } catch {}
}

/** Whether the text there is what was heard. Rooms often say that, and it is a text of JavaScript already. */
function isHeard(at, length) {
  if (heard === undefined || heard.length !== length) return false;
  for (let i = 0; i < length; i++) if (bytes[at + i] !== bytes[inbox + i]) return false;
  return true;
}

/** The same for bytes. */
export function sayBytes(socket, at, length) {
  if (bytes.length === 0) bytes = new Uint8Array(memory.buffer);
  sayConverted(socket, bytes.slice(at, at + length));
}

/** Sends what is a message for the platform. A closed socket takes nothing more. */
export function sayConverted(socket, message) {
  try {
    socket.send(message);
  } catch {}
}

/** The header that carries a request from an entry, or from another room, to a room. */
const ENVELOPE = "x-partykit-envelope";

/** All of a request but its body: method, address, and names and values of all headers, each on a line. */
export function head(request) {
  let text = `${request.method}\n${request.url}`;
  // An iterator would make an array and an object of each.
  request.headers.forEach((value, name) => (text += `\n${name}\n${value}`));
  return text;
}

/** What a room's object gets: an envelope, or the head of a request that came the short way. */
export function arrived(request) {
  return request.headers.get(ENVELOPE) ?? head(request);
}

/**
 * Requests that wasm has passed on as they were, so far: where they began, from which page, for what, and to
 * which room's object. The next ones like these take a short way, without this wasm. The room's object decides
 * about them again, with the same code.
 */
const ways = [];

/** So that a client who varies what it sends does not fill them. */
const MOST_WAYS = 32;

/** The rest of such an address: a plain name of a room, and what every parser of addresses reads alike. */
const PLAIN = /([\w-]{1,64})(?:\/[\w./~:,;@!$*()=&-]*)?(?:\?([\w./~:,;@!$*()=&-]*))?$/y;

/** The first `_pk` of a query. */
const CONNECTION_ID = /(?:^|&)_pk=([^&]*)/;

/** Notes that this request was passed on as it was: `beginning` is the path up to the room's name. */
export function learn(request, beginning, binding, jurisdiction, hint) {
  const { url, headers } = request;
  const start = url.slice(0, url.indexOf("/", "https://".length)) + beginning;
  const way = { start, origin: headers.get("origin"), upgrade: headers.get("upgrade"), binding, jurisdiction, hint };
  if (ways.length < MOST_WAYS && url.startsWith(start) && wayOf(url, way.origin, way.upgrade) === undefined) ways.push(way);
}

function wayOf(url, origin, upgrade) {
  return ways.find((way) => url.startsWith(way.start) && way.origin === origin && way.upgrade === upgrade);
}

/** The answer of the room itself, or `undefined` for a request that wasm has to look at. */
export function shortcut(request, env) {
  if (ways.length === 0 || request.method !== "GET") return undefined;
  const { url, headers } = request;
  const upgrade = headers.get("upgrade");
  const way = wayOf(url, headers.get("origin"), upgrade);
  if (way === undefined) return undefined;
  PLAIN.lastIndex = way.start.length;
  const plain = PLAIN.exec(url);
  if (plain === null || url.length > 2000) return undefined;
  const id = CONNECTION_ID.exec(plain[2] ?? "");
  if (id !== null && !/^[\w-]{1,64}$/.test(id[1])) return undefined;
  // Only entries and rooms may send this one.
  if (headers.has(ENVELOPE) || request.body !== null) return undefined;
  // A handshake whose `Upgrade` was removed on its way.
  if (upgrade === null && headers.has("sec-websocket-key")) return undefined;
  return objectOf(env, way.binding, way.jurisdiction, plain[1], way.hint)?.fetch(request);
}

/** A stub of a room's object. `undefined` without a binding to its class. */
function objectOf(env, binding, jurisdiction, name, hint) {
  let namespace = env[binding];
  if (namespace === undefined || namespace === null) return undefined;
  if (jurisdiction !== undefined) namespace = namespace.jurisdiction(jurisdiction);
  const options = hint === undefined ? undefined : { locationHint: hint };
  return namespace.get(namespace.idFromName(name), options);
}

/** What the last response was made of beside its body, and a response of it if there were two. */
let lastInit, like;

/** The same as an argument for the next. The platform copies a response's head faster than it reads an object's. */
function headOf(init) {
  if (init === lastInit) return (like ??= new Response(null, JSON.parse(init)));
  lastInit = init;
  like = undefined;
  return JSON.parse(init);
}

/** A response. The body is copied: it lies in Wasm's memory. */
export function respond(init, body) {
  return new Response(body?.slice(), headOf(init));
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
  const object = objectOf(env, binding, jurisdiction, name, hint);
  if (object === undefined) return undefined;
  const headers = { [ENVELOPE]: envelope };
  if (upgrade) headers.upgrade = "websocket";
  // A redirect is the room's answer, and for the client to follow. The platform would ask the same room
  // again, 20 times, and then fail. And a body, even an empty one, is a stream that the room has to read.
  const init = { headers, redirect: "manual" };
  if (body.length > 0) Object.assign(init, { method: "POST", body: body.slice() });
  // Not a `Request`: the platform would make a second one of it.
  const target = URL.canParse(url) ? url : "http://room/";
  return object.fetch(target, init);
}
