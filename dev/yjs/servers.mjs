// The servers that are tested and measured: the editor's documents on Tokio and in workerd, and y-partyserver in workerd.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import * as tokio from "../node/server.mjs";
import { Editor as Worker, Worker as AnyWorker } from "../node/workerd.mjs";

class Anchor extends AnyWorker {
  party = "main";

  constructor(data) { super("ANCHOR_WORKER", data); }
}

class TokioPeer extends tokio.Server {
  constructor(data) { super("PEER_BIN", undefined, { PARTYKIT_DATA: data }); }

  async text(room) { return (await fetch(`${this.url}/parties/main/${encodeURIComponent(room)}`)).text(); }

  sleep(room) { return this.post("/sleep", { room }); }
}

/** Whether the tests are about Workers. There it is the editor that they talk to. */
export const ON_WORKERD = process.env.RUNTIME === "workerd";

/** The documents that the tests talk to. */
export const Peer = ON_WORKERD ? Worker : TokioPeer;

const KINDS = { "partykit": tokio.Editor, "partykit on workerd": Worker, "y-partyserver on workerd": Anchor };

/** What the servers are called. */
export const NAMES = Object.keys(KINDS);

/** Runs each server by itself, with a directory of its own, and hands it to `measure`. */
export async function each(measure) {
  for (const [name, Kind] of Object.entries(KINDS)) {
    const data = await mkdtemp(path.join(tmpdir(), "partykit-yjs-"));
    const server = await Kind.start(data);
    try {
      await measure(name, server);
    } finally {
      await server.stop();
      await rm(data, { recursive: true, force: true });
    }
  }
}
