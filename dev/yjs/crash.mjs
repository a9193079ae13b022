// Kills the editor's server while eight clients type, again and again, and looks for what another client had heard
// and the server forgot. `cargo xtask crash yjs --kills 200` builds the server and starts this. `--seed N`: other
// moments. `--forget`: after each death the server begins with the data of before; that has to be found.

import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import * as Y from "yjs";

import { Editor } from "../node/server.mjs";
import { until } from "../node/until.mjs";
import { Client, dice, pause } from "./client.mjs";

const { values: options } = parseArgs({
  options: {
    kills: { type: "string", default: "20" },
    seed: { type: "string", default: "1" },
    forget: { type: "boolean", default: false },
  },
});
const KILLS = Number(options.kills);
const CLIENTS = 8;
const ROOM = "a text under fire";

const random = dice(Number(options.seed));

/** Someone at a keyboard, who writes and deletes somewhere until told to stop. */
class Typist {
  written = 0;
  #typing = true;

  constructor(client) {
    this.client = client;
    this.done = this.#type();
  }

  async #type() {
    while (this.#typing) {
      const { text } = this.client;
      if (text.length > 40 && random(4) === 0) text.delete(random(text.length - 3), 1 + random(3));
      else text.insert(random(text.length + 1), "abcdefgh "[random(9)]);
      this.written += 1;
      await pause(random(12));
    }
  }

  async stop() {
    this.#typing = false;
    await this.done;
    return this.written;
  }
}

const data = await mkdtemp(path.join(tmpdir(), "partykit-crash-yjs-"));
const [now, before] = [path.join(data, "now"), path.join(data, "before")];
const server = await Editor.start(now);
const clients = await Promise.all(Array.from({ length: CLIENTS }, () => Client.join(server.host, ROOM)));
let [written, heard, lost] = [0, 0, 0];

for (let kill = 1; kill <= KILLS; kill += 1) {
  if (options.forget) {
    await server.stop();
    await rm(before, { recursive: true, force: true });
    await cp(now, before, { recursive: true });
    await server.start();
    await Promise.all(clients.map((client) => client.synced()));
  }
  clients.forEach((client) => { client.heard = []; });
  const typists = clients.map((client) => new Typist(client));
  // Somewhere in the middle, the room sleeps and is woken by the next keystroke.
  await pause(random(150));
  await server.sleep(ROOM).catch(() => {}); // Some keystrokes come at the wrong moment: 409.
  await pause(random(250));
  await server.stop("SIGKILL");
  for (const count of await Promise.all(typists.map((typist) => typist.stop()))) written += count;
  // Nobody may tell the server again what it forgot.
  clients.forEach((client) => client.provider.disconnect());
  await until("all know that the server is gone", () => clients.every((client) => client.provider.ws === null));
  if (options.forget) {
    await rm(now, { recursive: true });
    await cp(before, now, { recursive: true });
  }
  await server.start();
  const reader = await Client.join(server.host, ROOM);
  const stored = Y.snapshot(reader.doc);
  const updates = clients.flatMap((client) => client.heard);
  const missing = updates.filter((update) => !Y.snapshotContainsUpdate(stored, update));
  heard += updates.length;
  lost += missing.length;
  if (missing.length > 0) console.log(`kill ${kill}: ${missing.length} of ${updates.length} changes are lost`);
  clients.forEach((client) => client.provider.connect());
  await Promise.all(clients.map((client) => client.synced()));
  await until("all have the same text", () => {
    const texts = new Set([...clients, reader].map((client) => `${client.text}`));
    return texts.size === 1;
  }, { deadline: 60_000 });
  reader.leave();
}

const stored = await server.text(ROOM);
const mine = `${clients[0].text}`;
await server.stop();
await rm(data, { recursive: true });
console.log(`${KILLS} kills, ${written} changes typed, ${heard} heard by others, ${lost} of these lost; ` +
  `${mine.length} characters at the end, equal everywhere: ${stored === mine}`);
assert.equal(stored, mine);
assert.ok(heard > KILLS * CLIENTS, "hardly anything was heard: this shows nothing");
if (options.forget) assert.ok(lost > 0, "what was forgotten has not been found");
else assert.equal(lost, 0);
process.exit(0);
