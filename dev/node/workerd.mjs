// The same parties as Workers, in `workerd`: started, killed and put to sleep from here.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import WS from "ws";

import { items } from "./items.mjs";
import { join } from "./join.mjs";
import { until } from "./until.mjs";

/** A Worker's process. `cargo xtask clients` writes what `workerd` reads, and names it in `variable`. */
export class Worker {
  #child = null;
  #control = null;
  #output = "";
  #sleeps = new Map();

  constructor(variable, storage) {
    this.storage = storage; // a directory of its own unless said
    this.host = "127.0.0.1:0"; // from the first start on with the port that it got, so that a restart keeps it
    this.directory = process.env[variable];
    this.program = process.env.WORKERD;
    if (!this.directory || !this.program) throw new Error(`no ${variable}: run \`cargo xtask clients\``);
    process.once("exit", () => this.#child?.kill("SIGKILL"));
  }

  /** A Worker that listens. */
  static start(...args) { return new this(...args).start(); }

  /** Starts the process, and waits until it listens. What the rooms have stored outlives it. */
  async start() {
    this.storage ??= await mkdtemp(path.join(tmpdir(), "partykit-workerd-"));
    await mkdir(this.storage, { recursive: true });
    this.#output = "";
    const child = (this.#child = spawn(this.program, [
      "serve", "config.capnp", "--experimental", "--control-fd=3",
      `--socket-addr=http=${this.host}`, `--directory-path=disk=${this.storage}`,
    ], { cwd: this.directory, stdio: ["ignore", "pipe", "pipe", "pipe"] }));
    let told = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => { this.#output += text; });
    }
    child.stdio[3].setEncoding("utf8").on("data", (text) => { told += text; });
    const port = (socket) => new RegExp(`"socket":"${socket}","port":(\\d+)`).exec(told)?.[1];
    await until("workerd says where it listens", () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${this.#output}`);
      return port("http") && port("control");
    }, { seen: () => told + this.#output });
    this.host = `127.0.0.1:${port("http")}`;
    this.url = `http://${this.host}`;
    this.#control = `http://127.0.0.1:${port("control")}`;
    return this;
  }

  get output() { return this.#output; }

  /** Ends the process, which does not end by itself as long as it has WebSockets. */
  async stop() {
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
    return { code: child.exitCode, signal: child.signalCode };
  }

  /** Ends it for good. */
  async discard() {
    await this.stop();
    await rm(this.storage, { recursive: true, force: true });
  }

  /** Has the platform take a room from memory now; fails when it was not there. */
  async sleep(room, party = this.party) {
    const query = new URLSearchParams({ party, room });
    const answer = await fetch(`${this.#control}/control/evict?${query}`, { method: "POST" });
    const text = await answer.text();
    if (text !== "true") throw new Error(`evicting ${room}: ${answer.status} ${text}`);
    this.#sleeps.set(room, (this.#sleeps.get(room) ?? 0) + 1);
  }

  /** How often this has put a room to sleep: the platform does not tell. */
  slept(room) { return this.#sleeps.get(room) ?? 0; }

  /** Waits until a room has so many connections. Wakes it: nobody else knows. */
  async counts(room, connections) {
    let last;
    const count = async () => (last = await this.connections(room));
    await until(`${room} has ${connections} connections`, async () => (await count()) === connections, {
      seen: () => last,
    });
  }
}

/** The relay as a Worker. */
export class Relay extends Worker {
  party = "main";

  constructor() { super("RELAY_WORKER"); }

  /** Asks as a relay can be asked: the first thing a visitor hears is how many there are with it. */
  async connections(room) {
    const visitor = new WS(`ws://${this.host}/parties/main/${encodeURIComponent(room)}`);
    const [text] = await once(visitor, "message");
    const closed = once(visitor, "close");
    visitor.close();
    await closed;
    return JSON.parse(text).count - 1;
  }
}

/** The conformance suite's parties as a Worker. */
export class Probe extends Worker {
  party = "probe";

  constructor() { super("PROBE_WORKER"); }

  async connections(room) {
    const url = `${this.url}/parties/probe/${encodeURIComponent(room)}/do`;
    const answer = await fetch(url, { method: "POST", body: JSON.stringify({ do: "who" }) });
    return (await answer.json()).count;
  }
}

/** The board as a Worker, which keeps what it stores in the directory `data`. */
export class Board extends Worker {
  party = "board";

  constructor(data) { super("BOARD_WORKER", data); }

  items(room, rest, options) { return items(this, room, rest, options); }
}

/** The editor as a Worker, which keeps what it stores in the directory `data`. */
export class Editor extends Worker {
  party = "main";

  constructor(data) { super("EDITOR_WORKER", data); }

  /** The text, as the server has it. */
  async text(room) { return (await fetch(`${this.url}/parties/main/${encodeURIComponent(room)}`)).text(); }
}

/** The chat as a Worker, which keeps what it stores in the directory `data`. */
export class Chat extends Worker {
  party = "chat";

  constructor(data) { super("CHAT_WORKER", data); }

  join(room, name) { return join(this, room, name); }
}

/** The reminders as a Worker, which keeps what it stores in the directory `data`. */
export class Reminders extends Worker {
  party = "reminders";

  constructor(data) { super("REMINDERS_WORKER", data); }
}
