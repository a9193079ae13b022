// The provider of y-partyserver against our documents, on Tokio and with `RUNTIME=workerd` on Workers: by meaning
// what y-partyserver's own tests ask of its server.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import WS from "ws";
import YProvider from "y-partyserver/provider";

import { until } from "../node/until.mjs";
import { Client } from "./client.mjs";
import { ON_WORKERD, Peer } from "./servers.mjs";

/** For tests that need more of the server than the editor has. */
const ONLY_PEER = { skip: ON_WORKERD && "the editor is only a document" };

let server, data, rooms = 0;
let clients = []; // of the test that runs

before(async () => {
  data = await mkdtemp(path.join(tmpdir(), "yjs-peer-"));
  server = await Peer.start(path.join(data, "shared"));
});
after(async () => {
  await server?.stop();
  await rm(data, { recursive: true });
});
afterEach(() => {
  clients.forEach((client) => client.leave());
  clients = [];
});

const room = (name = "room") => `${name} ${(rooms += 1)}`;

/** A client of the room that has the document. */
async function join(name, options) {
  const client = new Client(server.host, name, undefined, options);
  clients.push(client);
  await client.synced();
  return client;
}

const all = (what, condition) => until(what, () => clients.every(condition), {
  seen: () => clients.map((client) => [client.text.toString(), client.map.toJSON()]),
});

/** Kills the server, and starts it with what it had stored. */
async function restart() {
  await server.stop("SIGKILL");
  await server.start();
}

describe("a document", { timeout: 120_000 }, () => {
  it("is what another client has written", async () => {
    const name = room();
    const ada = await join(name);
    ada.text.insert(0, "hello");
    const grace = await join(name);
    assert.equal(grace.text.toString(), "hello");
    ada.text.insert(5, ", world");
    await all("both read it", (client) => client.text.toString() === "hello, world");
  });

  it("is the same for all who write at once", async () => {
    const name = room();
    for (let n = 0; n < 5; n += 1) await join(name);
    clients.forEach((client, n) => {
      for (let i = 0; i < 20; i += 1) client.text.insert(client.text.length, String(n));
    });
    await all("all have all", (client) => client.text.length === 100);
    assert.equal(new Set(clients.map((client) => client.text.toString())).size, 1);
  });

  it("has maps and arrays", async () => {
    const name = room();
    const [ada, grace] = [await join(name), await join(name)];
    ada.map.set("name", "Ada");
    ada.array.push([1, "two", { three: 3 }]);
    await until("they arrive", () => grace.map.get("name") === "Ada" && grace.array.length === 3);
    assert.deepEqual(grace.array.toJSON(), [1, "two", { three: 3 }]);
  });

  it("is large", async () => {
    const name = room();
    const ada = await join(name);
    for (let n = 0; n < 2000; n += 1) ada.text.insert(ada.text.length, `line ${n}\n`);
    const text = ada.text.toString();
    await until("the server has it", async () => (await server.text(name)) === text);
    const grace = await join(name);
    assert.equal(grace.text.toString(), text);
  });

  it("is that of its room", async () => {
    const [here, there] = [await join(room()), await join(room())];
    here.text.insert(0, "here");
    there.text.insert(0, "there");
    const newcomer = await join(`room ${rooms}`);
    assert.equal(newcomer.text.toString(), "there");
    assert.equal(here.text.toString(), "here");
  });

  it("begins with what the server gives it, once", ONLY_PEER, async () => {
    const name = room("seeded");
    const ada = await join(name);
    assert.equal(ada.text.toString(), "seed");
    ada.text.insert(4, "ling");
    await until("the server has it", async () => (await server.text(name)) === "seedling");
    ada.leave();
    clients = [];
    await restart();
    const grace = await join(name);
    assert.equal(grace.text.toString(), "seedling");
  });

  it("is not changed by those who may only look", ONLY_PEER, async () => {
    const name = room();
    const ada = await join(name);
    ada.text.insert(0, "Ada's");
    const guest = await join(name, { params: { "read-only": "1" } });
    assert.equal(guest.text.toString(), "Ada's");
    guest.text.insert(0, "not ");
    ada.text.insert(5, " own");
    await until("the guest reads on", () => guest.text.toString().endsWith("Ada's own"));
    assert.equal(await server.text(name), "Ada's own");
    assert.equal(ada.text.toString(), "Ada's own");
  });
});

describe("a connection", { timeout: 120_000 }, () => {
  it("brings what was written while there was none", async () => {
    const name = room();
    const [ada, grace] = [await join(name), await join(name)];
    ada.provider.disconnect();
    await until("Ada is away", () => !ada.provider.wsconnected);
    ada.text.insert(0, "away");
    grace.text.insert(0, "here");
    ada.provider.connect();
    await all("both have both", (client) => client.text.length === 8);
    assert.equal(ada.text.toString(), grace.text.toString());
  });

  for (const kind of ["at once", "later"]) {
    it(`asks for its parameters again, which are there ${kind}`, async () => {
      let asked = 0;
      const params = () => {
        const answer = { token: `token-${(asked += 1)}` };
        return kind === "at once" ? answer : Promise.resolve(answer);
      };
      const ada = await join(room(), { params });
      assert.match(ada.provider.url, /token-1/);
      ada.provider.ws.terminate();
      await until("it connects again", () => asked === 2 && ada.provider.wsconnected);
      assert.match(ada.provider.url, /token-2/);
    });
  }

  it("does not come back when it was closed for good", async () => {
    let asked = 0;
    const ada = await join(room(), { params: () => ({ asked: String((asked += 1)) }) });
    ada.provider.disconnect();
    await until("it is closed", () => ada.provider.ws === null);
    const grace = await join(room());
    grace.provider.ws.terminate();
    await until("another one comes back", () => grace.provider.wsconnected);
    assert.equal(asked, 1);
  });
});

describe("a cursor", { timeout: 120_000 }, () => {
  it("is seen by the others, and by those who come later", async () => {
    const name = room();
    const [ada, grace] = [await join(name), await join(name)];
    ada.awareness.setLocalState({ name: "Ada" });
    await until("Grace sees it", () => grace.awareness.getStates().get(ada.doc.clientID)?.name === "Ada");
    const newcomer = await join(name);
    await until("and the newcomer", () => newcomer.sees(ada));
  });

  it("goes with its client, however that goes", async () => {
    const name = room();
    const [ada, grace, joan] = [await join(name), await join(name), await join(name)];
    [ada, grace, joan].forEach((client, n) => client.awareness.setLocalState({ n }));
    await until("Joan sees both", () => joan.sees(ada) && joan.sees(grace));
    ada.provider.disconnect();
    grace.vanish();
    await until("both are gone", () => !joan.sees(ada) && !joan.sees(grace));
  });

  it("is there again after the server's death, without being moved", async () => {
    const name = room();
    const [ada, grace] = [await join(name), await join(name)];
    ada.awareness.setLocalState({ name: "Ada" });
    await until("Grace sees it", () => grace.sees(ada));
    await restart();
    const newcomer = await join(name);
    await until("the newcomer sees it", () => newcomer.awareness.getStates().get(ada.doc.clientID)?.name === "Ada");
  });
});

describe("a message of the application", { timeout: 120_000 }, () => {
  const heard = (client) => {
    const messages = [];
    client.provider.on("custom-message", (message) => messages.push(message));
    return messages;
  };

  it("is answered, goes to the others, and wakes the room", ONLY_PEER, async () => {
    const name = room();
    const [ada, grace] = [await join(name), await join(name)];
    const [adas, graces] = [heard(ada), heard(grace)];
    ada.provider.sendMessage("ping");
    await until("the answer", () => adas.includes("pong"));
    await server.sleep(name);
    ada.provider.sendMessage("all:hello");
    await until("the others hear", () => graces.includes("hello"));
    assert.deepEqual([adas, graces], [["pong"], ["hello"]]);
  });

  it("is one only with its prefix", ONLY_PEER, async () => {
    const name = room();
    const socket = new WS(`ws://${server.host}/parties/main/${encodeURIComponent(name)}`);
    await new Promise((resolve) => socket.once("open", resolve));
    socket.send("any text");
    socket.send("__YPS:ping");
    const text = await new Promise((resolve) => {
      socket.on("message", (message, isBinary) => { if (!isBinary) resolve(String(message)); });
    });
    assert.equal(text, "__YPS:pong");
    socket.close();
  });
});

describe("the server's death", { timeout: 120_000 }, () => {
  it("loses nothing, though no client comes back with it", async () => {
    const name = room();
    const [ada, grace] = [await join(name), await join(name)];
    ada.text.insert(0, "seen");
    await until("Grace has seen it", () => grace.text.toString() === "seen");
    await server.stop("SIGKILL");
    clients.forEach((client) => client.leave());
    clients = [];
    await server.start();
    assert.equal(await server.text(name), "seen");
  });

  it("leaves all clients equal, twice", async () => {
    const name = room();
    const [ada, grace] = [await join(name), await join(name)];
    for (const round of [1, 2]) {
      ada.text.insert(0, `a${round}`);
      await restart();
      grace.text.insert(0, `g${round}`);
      await all("both have both", (client) => client.text.length === 4 * round);
      assert.equal(ada.text.toString(), grace.text.toString());
    }
    const newcomer = await join(name);
    assert.equal(newcomer.text.toString(), ada.text.toString());
  });
});

describe("a host", () => {
  it("may be written in the ways that the provider takes", async () => {
    const name = room();
    for (const host of [`http://${server.host}`, `${server.host}/`]) {
      const provider = new YProvider(host, name, undefined, { WebSocketPolyfill: WS, disableBc: true });
      await until(`${host} leads to the room`, () => provider.synced);
      provider.destroy();
    }
    const prefix = `/parties/main/${encodeURIComponent(name)}`;
    const provider = new YProvider(server.host, name, undefined, { WebSocketPolyfill: WS, disableBc: true, prefix });
    await until("a prefix leads to the room", () => provider.synced);
    provider.destroy();
  });
});
