import { PartySocket } from "partysocket";
import WS from "ws";

import { until } from "./until.mjs";

/** Short waits before a reconnect, in place of PartySocket's 3 to 10 seconds. */
const FAST = { minReconnectionDelay: 20, maxReconnectionDelay: 200 };

/**
 * A PartySocket that remembers what happened to it, and each `ws` socket it ever made.
 *
 * `options` are PartySocket's own; `server` and `room` give the rest.
 */
export class Client {
  /** What came, in order: texts as strings, binary as Buffers. */
  received = [];
  /** The close events' `{ code, reason }`. */
  closes = [];
  /** The messages of the error events. */
  errors = [];
  opens = 0;
  /** Every `ws` socket it made, the oldest first. */
  made = [];

  constructor(server, room, options = {}) {
    const { made } = this;
    class Tracked extends WS {
      constructor(...args) {
        super(...args);
        made.push(this);
      }
    }
    this.socket = new PartySocket({ host: server.host, room, WebSocket: Tracked, ...FAST, ...options });
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.opens += 1; };
    this.socket.onclose = ({ code, reason }) => { this.closes.push({ code, reason }); };
    this.socket.onerror = ({ message }) => { this.errors.push(message); };
    this.socket.onmessage = ({ data }) => {
      this.received.push(typeof data === "string" ? data : Buffer.from(data));
    };
  }

  /** A new client, once it is open. */
  static async open(server, room, options) {
    const client = new Client(server, room, options);
    await client.opened();
    return client;
  }

  /** Waits until it has been opened so often in all, and is open. */
  async opened(times = 1) {
    const open = () => this.opens >= times && this.socket.readyState === this.socket.OPEN;
    await until(`opened ${times} times`, open, { seen: () => this });
  }

  get id() { return this.socket.id; }

  /** The `ws` socket that it has now. */
  get wire() { return this.made.at(-1); }

  /** Those of its `ws` sockets that are not closed. */
  get live() { return this.made.filter((wire) => wire.readyState !== WS.CLOSED); }

  send(message) { return this.socket.send(message); }

  /** Sends a command to a probe. */
  tell(command) { this.socket.send(JSON.stringify(command)); }

  close(...args) { this.socket.close(...args); }

  /** Those of the texts received that are JSON objects with the given fields. */
  told(fields) {
    const matches = (value) => Object.entries(fields).every(([key, field]) => value?.[key] === field);
    return this.received.filter((text) => typeof text === "string" && text.startsWith("{"))
      .map((text) => JSON.parse(text)).filter(matches);
  }

  /** Waits for the first text that is a JSON object with the given fields. */
  hears(fields) {
    return until(`hears ${JSON.stringify(fields)}`, () => this.told(fields)[0], { seen: () => this });
  }

  /** Sends a command to a probe, and waits for its answer, of which there was none before. */
  async ask(command) {
    const known = this.told({ re: command.do }).length;
    this.tell(command);
    return until(`answers ${command.do}`, () => this.told({ re: command.do })[known], { seen: () => this });
  }

  /** What it received that is no JSON object: what the other clients of a test said. */
  get said() { return this.received.filter((it) => typeof it !== "string" || !it.startsWith("{")); }

  /** Waits until it has received so much that is no JSON object. */
  async hasHeard(count) {
    await until(`hears ${count} messages`, () => this.said.length >= count, { seen: () => this });
    return this.said;
  }

  toJSON() {
    const { id, opens, closes, errors, socket: { readyState } } = this;
    return { id, readyState, opens, closes, errors, received: this.received.slice(-5) };
  }
}

/** A bare `ws` socket in a room, with its `closed`: a promise of `{ code, reason }`. */
export async function bare(server, path, options) {
  const wire = new WS(`ws://${server.host}${path}`, options);
  wire.closed = new Promise((resolve) => {
    wire.once("close", (code, reason) => resolve({ code, reason: reason.toString() }));
  });
  await new Promise((resolve, reject) => wire.once("open", resolve).once("error", reject));
  return wire;
}
