// The board as this page knows it: no DOM in here, made to be copied.
//
// `confirmed` is what the server has told: it is on the server's disk. `outbox` is what this page wants
// to be different and has not heard "saved" for. What one sees is the first with the second on top, so
// a change shows at once; when it is saved, or refused, it only leaves the outbox.
//
// When the socket comes back nobody knows which of the changes under way were heard. So all are said
// again: each can be said twice. And the items are read again, as many as were loaded, no more. A change
// that nothing is heard of for long is said again too: the server's attempt to store it may have failed.

import { PartySocket } from "./partysocket/index.js";
import { newId } from "./place.js";

const PAGE = 30;  // items that are loaded at a time
const MOST = 100; // what the server gives at once
const NOTHING = "~"; // above all ids
const PATIENCE = 10_000; // milliseconds

export class Model {
  people = 0;
  total = 0;        // items that the server has
  more = false;     // whether it has older ones than those that are here
  loaded = false;   // whether the first page has come
  #confirmed = new Map();
  #outbox = [];     // { op, change, at }, the oldest first; `at` is when it was said last
  #ops = 0;
  #oldest = NOTHING; // all items from this id on are here, and none that is older
  #reach = NOTHING;  // down to where items are read again, after the socket was away
  #asked = false;    // whether a page is under way

  /** `on` hears: change(), saved(id), refused(reason). */
  constructor(room, on) {
    this.on = on;
    this.socket = new PartySocket({
      host: location.host, party: "board", room: encodeURIComponent(room),
      protocol: location.protocol === "https:" ? "wss" : "ws",
      minReconnectionDelay: 500, maxReconnectionDelay: 5000,
      maxEnqueuedMessages: 0, // what must not be lost is in the outbox
    });
    this.socket.addEventListener("open", () => this.#opened());
    this.socket.addEventListener("close", () => { this.#asked = false; on.change(); });
    this.socket.addEventListener("message", ({ data }) => this.#heard(JSON.parse(data)));
    setInterval(() => { if (this.online && this.#outbox[0]?.at < Date.now() - PATIENCE) this.#sayAll(); }, 1000);
  }

  get online() { return this.socket.readyState === PartySocket.OPEN; }

  /** How many changes are not saved yet. */
  get unsaved() { return this.#outbox.length; }

  /** The items as they are to be seen, each with `saved`. */
  get items() {
    const items = new Map();
    for (const [id, item] of this.#confirmed) items.set(id, { ...item, saved: true });
    for (const { change } of this.#outbox) {
      const { do: what, item, id, changes } = change;
      if (what === "create") items.set(item.id, { ...item, saved: false });
      else if (what === "delete") items.delete(id);
      else if (items.has(id)) items.set(id, { ...items.get(id), ...changes, saved: false });
    }
    return [...items.values()];
  }

  /** An id for a new item: the newest. */
  newId() { return newId(this.items.map((item) => item.id).sort().at(-1)); }

  create(item) { this.#want({ do: "create", item }); }
  update(id, changes) { this.#want({ do: "update", id, changes }); }
  remove(id) { this.#want({ do: "delete", id }); }

  /** Loads the next older items. */
  loadMore() {
    if (this.more && !this.#asked) this.#ask(this.#oldest, PAGE);
  }

  #want(change) {
    const said = { op: (this.#ops += 1), change };
    this.#outbox.push(said);
    if (this.online) this.#say(said);
    this.on.change();
  }

  #say(said) {
    const { op, change } = said;
    said.at = Date.now();
    this.socket.send(JSON.stringify({ type: "change", op, change }));
  }

  #sayAll() { this.#outbox.forEach((said) => this.#say(said)); }

  #ask(before, limit) {
    this.#asked = true;
    this.socket.send(JSON.stringify({ type: "page", before, limit }));
  }

  #opened() {
    this.#sayAll();
    if (this.#oldest < this.#reach) this.#reach = this.#oldest;
    this.#ask(null, this.loaded ? MOST : PAGE);
    this.on.change();
  }

  #heard(event) {
    ({
      page: () => this.#page(event),
      people: () => { this.people = event.count; },
      item: () => {
        this.total = event.total;
        // Of what is not loaded nothing has to be known.
        if (event.item.id >= this.#oldest) this.#confirmed.set(event.item.id, event.item);
      },
      deleted: () => { this.total = event.total; this.#confirmed.delete(event.id); },
      saved: () => {
        const said = this.#take(event.op);
        if (said) this.on.saved(said.change.id ?? said.change.item.id);
      },
      refused: () => { this.#take(event.op); this.on.refused(event.reason); },
    })[event.type]?.();
    this.on.change();
  }

  #take(op) {
    const at = this.#outbox.findIndex((said) => said.op === op);
    return at < 0 ? null : this.#outbox.splice(at, 1)[0];
  }

  /** A page is all that there is between `before` and its last item: what it does not have is gone. */
  #page({ before, items, more, total }) {
    const least = more ? items.at(-1).id : "";
    for (const id of this.#confirmed.keys()) {
      if (id >= least && (before === null || id < before)) this.#confirmed.delete(id);
    }
    for (const item of items) this.#confirmed.set(item.id, item);
    [this.loaded, this.more, this.total, this.#oldest] = [true, more, total, least];
    if (least > this.#reach) this.#ask(least, MOST);
    else [this.#asked, this.#reach] = [false, NOTHING];
  }
}
