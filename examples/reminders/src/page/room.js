// A room with reminders as this page knows it: no DOM in here, made to be copied.

import { PartySocket } from "./partysocket/index.js";

export class Room {
  ready = false;
  reminders = [];   // { id, text, when, next }, the next one first
  rang = [];        // { text, at, missed }, the last one first
  refused = "";
  #ahead = 0;       // by how much the server's clock is ahead of ours

  /** `change` is called when something else is to be shown. */
  constructor(name, change) {
    this.socket = new PartySocket({
      host: location.host, party: "reminders", room: encodeURIComponent(name),
      protocol: location.protocol === "https:" ? "wss" : "ws",
      minReconnectionDelay: 500, maxReconnectionDelay: 5000,
    });
    this.socket.addEventListener("message", ({ data }) => {
      const { now, reminders, rang, refused } = JSON.parse(data);
      this.refused = refused ?? "";
      if (reminders) {
        this.ready = true;
        this.#ahead = now - Date.now();
        Object.assign(this, { reminders, rang });
      }
      change();
    });
    this.socket.addEventListener("close", () => {
      this.ready = false;
      change();
    });
  }

  /** `when` is `{ after: ms }`, `{ at: ms }` or `{ every: ms }`. */
  remind(text, when) { this.#say({ remind: { text, when } }); }

  cancel(id) { this.#say({ cancel: { id } }); }

  /** How many milliseconds are left until a reminder rings. */
  left({ next }) { return Math.max(0, next - this.#ahead - Date.now()); }

  #say(wish) { this.socket.send(JSON.stringify(wish)); }
}
