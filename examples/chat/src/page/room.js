// A room of the chat as this page knows it: no DOM in here, made to be copied.
//
// `said` is what the server has told: it is on the server's disk. `outbox` is what was written here and was not heard
// back yet. When the socket comes back, the server first tells what was missed. What is still in the outbox then is
// said again, under the same id, so that nothing is said twice.

import { PartySocket } from "./partysocket/index.js";

export class Room {
  said = [];
  outbox = [];          // { id, text, refused }
  people = {};          // by name: what each connection shows
  you = null;
  ready = false;
  #since;               // the position of the last message that is shown
  #typing = false;
  #on;

  /** `on.change` is called when something else is to be shown, `on.rejected` when there is no such token. */
  constructor(name, token, on) {
    this.#on = on;
    this.socket = new PartySocket({
      host: location.host, party: "chat", room: encodeURIComponent(name),
      protocol: location.protocol === "https:" ? "wss" : "ws",
      query: () => ({ token, since: this.#since }),
      minReconnectionDelay: 500, maxReconnectionDelay: 5000,
      maxEnqueuedMessages: 0, // what must not be lost is in the outbox
    });
    this.socket.addEventListener("message", ({ data }) => this.#hear(JSON.parse(data)));
    this.socket.addEventListener("close", ({ code }) => {
      this.ready = this.#typing = false;
      if (code === 4401) {
        this.socket.close();
        on.rejected();
      }
      on.change();
    });
  }

  /** Says something, as soon as that is possible. */
  say(text) {
    const message = { id: crypto.randomUUID?.() ?? String(Math.random()).slice(2), text };
    this.outbox.push(message);
    this.#send(message);
    this.typing(false);
    this.#on.change();
  }

  /** Tells the others that somebody types here. */
  typing(is) {
    if (is === this.#typing || !this.ready) return;
    this.#typing = is;
    this.socket.send(JSON.stringify({ typing: is }));
  }

  /** Who types, beside the user of this page. */
  get typists() {
    return Object.keys(this.people).filter((name) =>
      name !== this.you && this.people[name].metas.some((meta) => meta.is_typing));
  }

  #send({ id, text, refused }) {
    if (this.ready && !refused) this.socket.send(JSON.stringify({ say: text, id }));
  }

  #hear(message) {
    if (message.presence_state) this.people = message.presence_state;
    else if (message.presence_diff) change(this.people, message.presence_diff);
    else if (message.event === "begin") this.said = [];
    else if (message.event === "ready") {
      this.ready = true;
      this.you = message.you;
      for (const waiting of this.outbox) this.#send(waiting);
    } else if (message.event === "said") {
      this.said.push(message);
      this.outbox = this.outbox.filter(({ id }) => id !== message.id);
      this.#since = message.at;
    } else if (message.event === "refused") {
      const waiting = this.outbox.find(({ id }) => id === message.id);
      if (waiting) waiting.refused = message.why;
    }
    this.#on.change();
  }
}

/** What Phoenix's `Presence.syncDiff` does. */
function change(people, { joins, leaves }) {
  for (const [name, { metas }] of Object.entries(joins)) {
    const refs = new Set(metas.map((meta) => meta.phx_ref));
    const others = people[name]?.metas.filter((meta) => !refs.has(meta.phx_ref)) ?? [];
    people[name] = { metas: [...others, ...metas] };
  }
  for (const [name, { metas }] of Object.entries(leaves)) {
    if (!people[name]) continue;
    const refs = new Set(metas.map((meta) => meta.phx_ref));
    people[name].metas = people[name].metas.filter((meta) => !refs.has(meta.phx_ref));
    if (people[name].metas.length === 0) delete people[name];
  }
}
