// A double of the platform below a Durable Object, behind the same calls as the real one: it notes each of
// them, in order. What runs on it is the wasm that is deployed.

import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const BUILD = path.join(import.meta.dirname, "../../conformance/build");

/** What the wasm of the conformance suite's Worker exports. Node imports no wasm as `workerd` does. */
export async function classes() {
  const directory = await mkdtemp(path.join(tmpdir(), "partykit-wasm-"));
  try {
    const wasm = JSON.stringify(path.join(BUILD, "index_bg.wasm"));
    const text = (await readFile(path.join(BUILD, "bindings.js"), "utf8")).replace(
      /^import (\w+) from "\.\/index_bg\.wasm";$/m,
      `import { readFileSync } from "node:fs";\nconst $1 = new WebAssembly.Module(readFileSync(${wasm}));`,
    );
    const module = path.join(directory, "bindings.js");
    await writeFile(module, text);
    await writeFile(path.join(directory, "package.json"), '{ "type": "module" }');
    await cp(path.join(BUILD, "snippets"), path.join(directory, "snippets"), { recursive: true });
    return await import(pathToFileURL(module));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** What Node's own does not take: status 101. */
class Answer {
  constructor(body, { status, webSocket } = {}) { Object.assign(this, { body, status, webSocket }); }
}

/** The platform of one room. `notes` is what it was asked to do, in order. */
export class Platform {
  notes = [];
  #rows = new Map();
  #alarm = null;
  #waiting = [];
  /** The server's end of the socket that was made last. */
  #end;
  #hasty;
  #alarmFails;

  /** `hasty`: it applies a batch only after it has said that it did. `alarmFails`: it takes no alarm. */
  constructor(room, { hasty = false, alarmFails = false } = {}) {
    this.#hasty = hasty;
    this.#alarmFails = alarmFails;
    const platform = this;
    globalThis.Response = Answer;
    globalThis.WebSocketRequestResponsePair ??= class {};
    globalThis.WebSocketPair = class { 0 = {}; 1 = (platform.#end = platform.#socket()); };
    this.ctx = {
      id: { name: room },
      storage: {
        sql: { exec: (query, ...bindings) => this.#execute(query, bindings) },
        transactionSync: (work) => this.#transact(work),
        getAlarm: async () => this.#alarm,
        setAlarm: (at) => this.#setAlarm(at),
        deleteAlarm: () => this.#setAlarm(null),
      },
      waitUntil: (promise) => { this.#waiting.push(promise); },
      acceptWebSocket: () => this.#note("accept"),
      getWebSockets: () => [],
      setWebSocketAutoResponse: () => {},
    };
  }

  /** Waits until nothing that the room has begun is left. */
  async settle() {
    while (this.#waiting.length > 0) await this.#waiting.shift();
    await new Promise((resolve) => { setImmediate(resolve); });
  }

  /** Connects a client, and returns the server's end. */
  async connect(object, id) {
    const uri = `http://host/parties/probe/room?_pk=${id}`;
    const kind = { Connect: { id, address: uri, protocol: null } };
    const envelope = { kind, method: "GET", uri, headers: [], props: null, chain: [] };
    const headers = new Headers({ "x-partykit-envelope": JSON.stringify(envelope).replaceAll("%", "%25") });
    const { status } = await object.fetch({ headers, body: null });
    await this.settle();
    return { status, end: this.#end };
  }

  #note(what) { this.notes.push(what); }

  #socket() {
    let attachment = null;
    const said = [];
    return {
      readyState: 1,
      said,
      send: (message) => { said.push(message); this.#note(`send ${message}`); },
      close: (code) => this.#note(`close ${code}`),
      serializeAttachment: (value) => { attachment = value; },
      deserializeAttachment: () => attachment,
    };
  }

  #transact(work) {
    const rows = new Map(this.#rows);
    const notes = this.notes;
    const inside = (this.notes = ["begin"]);
    const noted = () => notes.push(...inside);
    try {
      work();
      inside.push("commit");
    } catch (error) {
      this.#rows = rows;
      inside.push("rollback");
      throw error;
    } finally {
      this.notes = notes;
      if (this.#hasty) setImmediate(noted);
      else noted();
    }
  }

  #setAlarm(at) {
    this.#note(at === null ? "no alarm" : "alarm");
    if (this.#alarmFails) throw new Error("no alarm is taken");
    this.#alarm = at;
    return Promise.resolve();
  }

  #execute(query, bindings) {
    const [key, value] = bindings.map((binding) => Buffer.from(binding).toString("latin1"));
    const rows = (found) => ({ raw: () => ({ toArray: () => found }) });
    if (query.startsWith("CREATE")) return rows([]);
    if (query.startsWith("INSERT")) {
      this.#note("write");
      this.#rows.set(key, Buffer.from(value, "latin1"));
      return rows([]);
    }
    if (query.startsWith("DELETE")) {
      if (key === undefined) this.#rows.clear();
      else this.#rows.delete(key);
      return rows([]);
    }
    if (query.includes("sqlite_master") || query.startsWith("SELECT 1")) return rows(this.#rows.size > 0 ? [[1]] : []);
    if (query.startsWith("SELECT v")) {
      const found = this.#rows.get(key);
      return rows(found ? [[new Uint8Array(found).buffer]] : []);
    }
    throw new Error(`the double does not know ${query}`);
  }
}
