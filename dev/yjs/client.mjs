// A client of Yjs as browsers have it, with the provider of y-partyserver, that counts what it hears and says.

import WS from "ws";
import YProvider from "y-partyserver/provider";
import * as Y from "yjs";

import { until } from "../node/until.mjs";

process.setMaxListeners(0); // Each provider waits for the end of the process.

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Whole numbers from 0 up to below its argument, the same for the same seed (mulberry32). */
export function dice(seed) {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** Frames of all clients of one measurement. */
export class Traffic {
  received = 0;
  bytes = 0;
  sent = 0;

  /** A WebSocket whose frames are counted here. */
  get polyfill() {
    const traffic = this;
    return class extends WS {
      constructor(url) {
        super(url, { maxPayload: 1 << 28 });
        this.on("message", (data) => {
          traffic.received += 1;
          traffic.bytes += data.byteLength ?? data.length;
        });
      }

      send(data) {
        traffic.sent += 1;
        traffic.bytes += data.byteLength ?? data.length;
        super.send(data);
      }
    };
  }

  reset() { this.received = this.bytes = this.sent = 0; }

  /** Waits until nothing has been said for half a second. */
  async quiet() {
    for (let last = -1, same = 0; same < 5;) {
      await pause(100);
      const now = this.received + this.sent;
      same = now === last ? same + 1 : 0;
      last = now;
    }
  }
}

export class Client {
  /** Updates of others since they were last taken, as they arrived. */
  heard = [];

  /** `options` are the provider's. */
  constructor(host, room, traffic = new Traffic(), options = {}) {
    this.doc = new Y.Doc();
    this.text = this.doc.getText("text");
    this.map = this.doc.getMap("map");
    this.array = this.doc.getArray("array");
    const ours = { WebSocketPolyfill: traffic.polyfill, disableBc: true };
    this.provider = new YProvider(host, room, this.doc, { ...ours, ...options });
    this.doc.on("update", (update, origin) => { if (origin === this.provider) this.heard.push(update); });
  }

  /** A client that has the document. */
  static async join(...args) {
    const client = new this(...args);
    await client.synced();
    return client;
  }

  async synced() {
    await until("the client has the document", () => this.provider.synced, { deadline: 60_000 });
  }

  get awareness() { return this.provider.awareness; }

  sees(other) { return this.awareness.getStates().has(other.doc.clientID); }

  /** Is gone without a word, and does not come back. */
  vanish() {
    this.provider.shouldConnect = false;
    this.provider.ws?.terminate();
  }

  leave() { this.provider.destroy(); }
}
