import { spawn } from "node:child_process";
import { once } from "node:events";
import { stripVTControlCharacters } from "node:util";

import { items } from "./items.mjs";
import { join } from "./join.mjs";
import { until } from "./until.mjs";

const LISTENING = /listening on http:\/\/(\S+:(\d+))/;

/** A server's process. */
export class Server {
  #child = null;
  #output = "";
  #env;
  /** The number of a process that has taken over from the one that was started. */
  #next;

  /**
   * `variable` names the binary; `cargo xtask node` sets it. `host` is where it is to listen, `env` what
   * its environment has beside ours.
   */
  constructor(variable, host = "127.0.0.1:0", env = {}) {
    this.host = host; // from the first start on with the port that it got, so that a restart keeps it
    this.#env = env;
    this.binary = process.env[variable];
    if (!this.binary) throw new Error(`${variable} is not set: run \`cargo xtask node\``);
    process.once("exit", () => this.#child?.kill("SIGKILL"));
  }

  /** A server that listens. */
  static start(...args) { return new this(...args).start(); }

  /** Starts the process, and waits until it listens. */
  async start() {
    this.#output = "";
    const child = (this.#child = spawn(this.binary, [this.host], {
      env: { ...process.env, ...this.#env },
      stdio: ["ignore", "pipe", "pipe"],
    }));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => { this.#output += text; });
    }
    const told = await until(`${this.binary} says where it listens`, () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${this.#output}`);
      return LISTENING.exec(this.#output);
    }, { seen: () => this.#output });
    this.host = told[1];
    this.url = `http://${this.host}`;
    return this;
  }

  /** The number of the process that serves. */
  get process() { return this.#next ?? this.#child.pid; }

  /** Has the next process take over, and waits until it has. */
  async replace() {
    const taken = () => this.#output.match(/took over from the process before/g)?.length ?? 0;
    const before = taken();
    process.kill(this.process, "SIGUSR2");
    await until("the next process takes over", () => taken() > before, { seen: () => this.#output });
    this.#next = Number(/.*begins process=(\d+)/s.exec(stripVTControlCharacters(this.#output))[1]);
  }

  /** What it has written since it started. */
  get output() { return this.#output; }

  /** Ends the process with a signal, and says how it ended: `{ code, signal }`. */
  async stop(signal = "SIGKILL") {
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
    }
    return { code: child.exitCode, signal: child.signalCode };
  }

  /** Ends it for good. */
  discard() {
    if (this.#next) process.kill(this.#next, "SIGKILL");
    return this.stop();
  }

  /** Has the server do something, and returns its answer. Fails unless it did. */
  async post(path, query) {
    const answer = await fetch(`${this.url}${path}?${new URLSearchParams(query)}`, { method: "POST" });
    if (!answer.ok) throw new Error(`${path} of ${JSON.stringify(query)}: ${answer.status} ${await answer.text()}`);
  }

  /** What the server says of a room. */
  async ask(path, query) {
    const answer = await fetch(`${this.url}${path}?${new URLSearchParams(query)}`);
    return answer.json();
  }

  /** Waits until a room has so many connections. */
  async counts(room, connections) {
    await until(`${room} has ${connections} connections`,
      async () => (await this.stats(room))?.connections === connections,
      { seen: () => this.stats(room) });
  }
}

/** The relay: one party, `main`, and the page at `/`. */
export class Relay extends Server {
  constructor(host) { super("RELAY_BIN", host); }

  /** Puts a room to sleep now; fails with the reasons when it does not. */
  sleep(room) { return this.post("/sleep", { room }); }

  /** How often a room has slept. */
  async slept(room) { return (await this.stats(room)).sleeps; }

  /** How a room is, as the page sees it, see `flat`. Wakes nobody. */
  async stats(room) { return flat(await this.ask("/stats", { room })); }
}

/** A room's stats and its account, and how often it has started. */
export function flat(stats) {
  const { account, ...rest } = stats ?? { phase: "absent", connections: 0 };
  const starts = Object.values(account?.causes ?? {}).reduce((sum, times) => sum + times, 0);
  return account ? { ...rest, ...account, starts } : rest;
}

/** The conformance suite's parties, which do what their clients tell them. */
export class Probe extends Server {
  constructor(host) { super("PROBE_BIN", host); }

  sleep(room, party = "probe") { return this.post("/control/evict", { party, room }); }

  stats(room, party = "probe") { return this.ask("/control/stats", { party, room }); }
}

/** The board: one party, `board`, and its page at `/`. Keeps what it stores in the directory `data`. */
export class Board extends Server {
  constructor(data, host) { super("BOARD_BIN", host, { PARTYKIT_DATA: data }); }

  items(room, rest, options) { return items(this, room, rest, options); }
}

/** The editor: one party, `main`, and its page at `/`. Keeps what it stores in the directory `data`. */
export class Editor extends Server {
  constructor(data, host) { super("EDITOR_BIN", host, { PARTYKIT_DATA: data }); }

  /** The text, as the server has it. */
  async text(room) { return (await fetch(`${this.url}/parties/main/${encodeURIComponent(room)}`)).text(); }

  /** Puts a room to sleep now; fails with the reasons when it does not. */
  sleep(room) { return this.post("/sleep", { room }); }
}

/** The reminders: one party, `reminders`, and its page at `/`. Keeps what it stores in the directory `data`. */
export class Reminders extends Server {
  constructor(data, host) { super("REMINDERS_BIN", host, { PARTYKIT_DATA: data }); }

  /** Puts a room to sleep now, once what keeps it awake for a moment has passed. */
  async sleep(room) {
    await until(`${room} sleeps`, () => this.post("/sleep", { room }).then(() => true, () => false));
  }
}

/** The chat: one party, `chat`, and its page at `/`. Keeps what it stores in the directory `data`. */
export class Chat extends Server {
  constructor(data, host) { super("CHAT_BIN", host, { PARTYKIT_DATA: data }); }

  join(room, name) { return join(this, room, name); }

  /** Puts a room to sleep now, once what keeps it awake for a moment has passed. */
  async sleep(room) {
    await until(`${room} sleeps`, () => this.post("/sleep", { room }).then(() => true, () => false));
  }
}
