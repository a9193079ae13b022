// The npm client `partysocket`, unchanged, in Node: what it needs of a server, and what hibernation must
// not show it, on Tokio and on Workers. Every test has a room of its own, so they run at once.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

import { PartySocket } from "partysocket";
import { PartySocket as OldPartySocket } from "partysocket-old";
import WS from "ws";

import { Client, bare } from "./client.mjs";
import { ON_WORKERD, Probe, Relay, notOnWorkerd } from "./runtimes.mjs";
import { until } from "./until.mjs";

const { CONNECTING, OPEN, CLOSED } = PartySocket;
const PROBE = { party: "probe" };

let relay, probe;
before(async () => {
  relay = await Relay.start();
  probe = await Probe.start();
});
after(() => Promise.all([relay?.discard(), probe?.discard()]));

/** Clients are closed when their test ends, so that none tries to come back for ever. */
async function open(test, server, room, options) {
  const client = dial(test, server, room, options);
  await client.opened();
  return client;
}

function dial(test, server, room, options) {
  const client = new Client(server, room, options);
  test.after(() => client.close());
  return client;
}

/**
 * Waits until a client is being closed. `workerd` sends the Close at once, but ends the connection only when
 * the room sleeps: ten seconds later, if nobody tells it to.
 */
async function putToBed(client, room) {
  if (!ON_WORKERD) return;
  await until("the Close is here", () => client.wire.readyState !== OPEN);
  await probe.sleep(room);
}

const parallel = { concurrency: true, timeout: 45_000 };

describe("messages", parallel, () => {
  it("go to everybody else in the room, and to nobody in another", async (t) => {
    const ada = await open(t, relay, "relay");
    const grace = await open(t, relay, "relay");
    const radia = await open(t, relay, "elsewhere");
    ada.send("hello");
    grace.send("hello, Ada");
    radia.send("anybody?");
    assert.deepEqual(await grace.hasHeard(1), ["hello"]);
    assert.deepEqual(await ada.hasHeard(1), ["hello, Ada"]);
    assert.deepEqual(radia.said, []);
  });

  it("come back as they went: text as text, binary as binary", async (t) => {
    const client = await open(t, probe, "as-they-went", PROBE);
    const sent = ["text", "", "naïve ☕ 日本語 \u{1f388}", "a\0b", Buffer.from([0, 1, 127, 128, 255]),
      Buffer.alloc(0), Buffer.alloc(300_000, 7), "x".repeat(300_000), Buffer.from("text")];
    sent.forEach((message) => client.send(message));
    assert.deepEqual(await client.hasHeard(sent.length), sent);
  });

  it("that on_connect sends come first", async (t) => {
    const client = await open(t, probe, "greeted", { ...PROBE, query: { greet: 3 } });
    client.send("then mine");
    assert.deepEqual(await client.hasHeard(4), ["greet 0", "greet 1", "greet 2", "then mine"]);
  });

  it("arrive whole and once, however much one handler says", async (t) => {
    const client = await open(t, probe, "history", PROBE);
    for (const [frames, bytes] of [[2000, 1000], [20, 100_000], [8, 1_000_000]]) {
      client.received.length = 0;
      client.tell({ do: "frames", frames, bytes });
      const heard = await client.hasHeard(frames);
      assert.ok(heard.every((text, n) => text === String(n).padStart(bytes, "0")), `${frames} of ${bytes}`);
    }
    assert.deepEqual([client.opens, client.closes], [1, []]);
  });

  it("sent before it is open wait, and keep their order", async (t) => {
    const client = dial(t, probe, "queued", PROBE);
    const sent = ["a", "b", "c"];
    assert.deepEqual(sent.map((message) => client.send(message)), [false, false, false]);
    assert.deepEqual(await client.hasHeard(3), sent);
  });

  it("arrive in order, 1,000 each way across 20 forced sleeps", async (t) => {
    const room = "thousand", sleeps = 20, chunk = 50;
    const ada = await open(t, relay, room);
    const grace = await open(t, relay, room);
    const names = (from) => Array.from({ length: sleeps * chunk }, (_, n) => `${from} ${n}`);
    const [adas, graces] = [names("ada"), names("grace")];
    for (let n = 0; n < sleeps; n++) {
      const part = [n * chunk, (n + 1) * chunk];
      adas.slice(...part).forEach((message) => ada.send(message));
      graces.slice(...part).forEach((message) => grace.send(message));
      // Some has come, so the room is awake; the rest is still under way.
      await Promise.all([ada.hasHeard(part[0] + 1), grace.hasHeard(part[0] + 1)]);
      const before = await relay.slept(room);
      await relay.sleep(room);
      assert.ok((await relay.slept(room)) > before, `sleep ${n}`);
    }
    assert.deepEqual(await ada.hasHeard(graces.length), graces);
    assert.deepEqual(await grace.hasHeard(adas.length), adas);
    if (!ON_WORKERD) {
      const { starts } = await relay.stats(room);
      assert.ok(starts >= sleeps, `${starts} starts`);
    }
    assert.deepEqual([ada.opens, ada.closes, grace.opens, grace.closes], [1, [], 1, []]);
  });
});

describe("addresses", parallel, () => {
  it("are understood as PartySocket 1.0.1 has them, which names no party", async (t) => {
    const today = await open(t, relay, "of old");
    const old = new OldPartySocket({ host: relay.host, room: "of old", WebSocket: WS });
    t.after(() => old.close());
    await until("it is open", () => old.readyState === OldPartySocket.OPEN);
    old.send("hello from 2024");
    assert.deepEqual(await today.hasHeard(1), ["hello from 2024"]);
  });

  it("carry the client's id as _pk, its own or a given one", async (t) => {
    const own = await open(t, probe, "ids", PROBE);
    assert.match(own.id, /^[0-9a-f-]{36}$/);
    const given = await open(t, probe, "ids", { ...PROBE, id: "ada & grace/ü" });
    const { connections } = await given.ask({ do: "who" });
    assert.deepEqual(connections, [own.id, "ada & grace/ü"]);
  });

  for (const [room, id] of [
    ["my room", "my room"],
    ["caf\u00e9", "caf\u00e9"],
    ["日本語 \u{1f388}", "日本語 \u{1f388}"],
    ["a+b&c=d", "a+b&c=d"],
    ["50%25", "50%"],
    [encodeURIComponent("a/b?c#d"), "a/b?c#d"],
  ]) {
    it(`name the room ${id}`, async (t) => {
      const client = await open(t, probe, room, PROBE);
      assert.equal((await client.ask({ do: "who" })).room, id);
      const encoded = await open(t, probe, encodeURIComponent(id), PROBE);
      assert.equal((await encoded.ask({ do: "who" })).count, 2, "both spellings are one room");
    });
  }

  it("carry the rest of the query and the path to the room", async (t) => {
    const query = async () => ({ token: "a b", none: null, show: "request" });
    const client = await open(t, probe, "query", { ...PROBE, id: "me", query, path: "deep/er" });
    const request = await client.hears({ re: "request" });
    assert.equal(request.path, "/parties/probe/query/deep/er");
    assert.equal(request.query, "_pk=me&token=a+b&show=request");
  });

  it("take a sub-protocol that the server chooses, also after a reconnect", async (t) => {
    const options = { ...PROBE, query: { protocol: "v2" }, protocols: ["v1", "v2"] };
    const client = await open(t, probe, "protocol", options);
    assert.equal(client.socket.protocol, "v2");
    client.wire.terminate();
    await client.opened(2);
    assert.equal(client.socket.protocol, "v2");
  });

  it("serve PartySocket.fetch, also while the room sleeps", async (t) => {
    const room = "fetched", where = { ...PROBE, host: probe.host, room };
    await open(t, probe, room, PROBE);
    await probe.sleep(room);
    const seen = await (await PartySocket.fetch({ ...where, query: { token: "t" } })).json();
    assert.deepEqual([seen.method, seen.path, seen.query], ["GET", "/parties/probe/fetched", "token=t"]);
    if (!ON_WORKERD) assert.equal((await probe.stats(room)).last_wake, "request");
    const echo = await PartySocket.fetch({ ...where, path: "echo" }, { method: "POST", body: "body ☕" });
    assert.deepEqual([echo.status, await echo.text()], [202, "body ☕"]);
    assert.equal((await PartySocket.fetch({ host: relay.host, room })).status, 404, "the relay has no on_request");
    assert.equal((await PartySocket.fetch({ ...where, party: "nobody" })).status, 404);
  });
});

describe("coming back", parallel, () => {
  it("is the same client to the room, after the connection broke", async (t) => {
    const witness = await open(t, probe, "broken", PROBE);
    const client = await open(t, probe, "broken", PROBE);
    client.wire.terminate();
    client.send("while away");
    await client.opened(2);
    assert.deepEqual(await client.hasHeard(1), ["while away"]);
    const { code, clean } = await witness.hears({ event: "close", id: client.id });
    assert.deepEqual([code, clean], [1006, false]);
    await probe.counts("broken", 2);
    assert.deepEqual((await witness.ask({ do: "who" })).connections, [witness.id, client.id]);
  });

  it("follows any close by the server, unless the client says no to its code", async (t) => {
    const stays = await open(t, probe, "sent-away", PROBE);
    stays.tell({ do: "close", code: 4001, reason: "later" });
    await putToBed(stays, "sent-away");
    await stays.opened(2);
    assert.deepEqual(stays.closes, [{ code: 4001, reason: "later" }]);

    const shouldReconnectOnClose = ({ code }) => code !== 4403;
    const goes = await open(t, probe, "sent-away", { ...PROBE, shouldReconnectOnClose });
    goes.tell({ do: "close", code: 4403, reason: "banned" });
    await putToBed(goes, "sent-away");
    await until("it closes", () => goes.closes.length === 1);
    assert.deepEqual(goes.closes, [{ code: 4403, reason: "banned" }]);
    await probe.counts("sent-away", 1);
    assert.deepEqual([goes.socket.shouldReconnect, goes.made.length], [false, 1]);
  });

  it("works when the server was killed and started again on the same port", async (t) => {
    const server = await Relay.start();
    t.after(() => server.discard());
    const ada = await open(t, server, "killed");
    const grace = await open(t, server, "killed", { id: "grace" });
    const { id } = ada;
    assert.equal((await server.stop("SIGKILL")).signal, "SIGKILL");
    await until("it tries in vain", () => ada.errors.length > 1 && grace.errors.length > 1);
    assert.equal(ada.closes[0].code, 1006);
    ada.send("into the dark");
    await server.start();
    await Promise.all([ada.opened(2), grace.opened(2)]);
    assert.deepEqual([ada.id, grace.id], [id, "grace"]);
    assert.match(ada.wire.url, new RegExp(`_pk=${id}`));
    await server.counts("killed", 2);
    ada.send("and into the light");
    await until("it hears", () => grace.said.includes("and into the light"), { seen: () => grace });
  });

  it("works after a shutdown, which says 1012 to all", notOnWorkerd("no shutdown is told"), async (t) => {
    const server = await Relay.start();
    t.after(() => server.discard());
    const clients = await Promise.all(["one", "two"].map((room) => open(t, server, room)));
    await server.sleep("one"); // asleep or not, a room's clients are told
    const ended = await server.stop("SIGTERM");
    assert.deepEqual(ended, { code: 0, signal: null });
    for (const client of clients) {
      await until("it is told", () => client.closes.length > 0);
      assert.deepEqual(client.closes[0], { code: 1012, reason: "the server restarts" });
    }
    await server.start();
    await Promise.all(clients.map((client) => client.opened(2)));
    await Promise.all([server.counts("one", 1), server.counts("two", 1)]);
  });

  it("leaves two live sockets with one id beside each other", async (t) => {
    const twin = { ...PROBE, id: "twin" };
    const older = dial(t, probe, "twins", twin);
    await until("a socket is made", () => older.wire);
    let pings = 0;
    older.wire.on("ping", () => { pings += 1; });
    await older.opened();
    const newer = await open(t, probe, "twins", twin);
    if (!ON_WORKERD) await until("the older is asked whether it lives", () => pings > 0);
    assert.deepEqual((await newer.ask({ do: "who" })).connections, ["twin", "twin"]);
    newer.tell({ do: "broadcast", text: "both" });
    assert.deepEqual([await older.hasHeard(1), await newer.hasHeard(1)], [["both"], ["both"]]);
    assert.deepEqual([older.opens, newer.opens], [1, 1]);
  });

  const unasked = notOnWorkerd("the platform finds the dead");
  it("takes the place of an older socket with the same id that is dead", unasked, async (t) => {
    const dead = await bare(probe, "/parties/probe/half-open?_pk=me", { autoPong: false });
    t.after(() => dead.terminate());
    const client = await open(t, probe, "half-open", { ...PROBE, id: "me" });
    await probe.counts("half-open", 1);
    assert.deepEqual([client.opens, client.closes], [1, []]);
    assert.equal((await client.hears({ event: "close", id: "me" })).code, 1006);
  });
});

describe("closing", parallel, () => {
  for (const [what, args, code, reason] of [
    ["without arguments", [], 1000, ""],
    ["with a code and a reason", [4321, "bye"], 4321, "bye"],
  ]) {
    for (const asleep of [false, true]) {
      it(`${what} is answered with the same${asleep ? ", also by a sleeping room" : ""}`, async (t) => {
        const room = `closing ${code} ${asleep}`;
        const witness = await open(t, probe, room, PROBE);
        const client = await open(t, probe, room, PROBE);
        if (asleep) await probe.sleep(room);
        const answer = new Promise((resolve) => {
          client.wire.once("close", (code, reason) => resolve({ code, reason: reason.toString() }));
        });
        client.close(...args);
        assert.equal(client.socket.readyState, CLOSED, "at once, for the client");
        assert.deepEqual(await answer, { code, reason });
        const { id } = client;
        const told = await witness.hears({ event: "close", id });
        assert.deepEqual(told, { event: "close", id, code, reason, clean: true, count: 1, listed: false });
        assert.deepEqual([client.made.length, client.opens], [1, 1], "it does not come back");
      });
    }
  }

  it("without a code is answered without one", async (t) => {
    const witness = await open(t, probe, "no-code", PROBE);
    const wire = await bare(probe, "/parties/probe/no-code?_pk=quiet");
    wire.close();
    assert.deepEqual(await wire.closed, { code: 1005, reason: "" });
    const { code, clean } = await witness.hears({ event: "close", id: "quiet" });
    assert.deepEqual([code, clean], [1005, true]);
  });

  it("by on_connect reaches a client that was told to stay away", async (t) => {
    const shouldReconnectOnClose = () => false;
    const client = dial(t, probe, "unwelcome", { ...PROBE, query: { close: 4401 }, shouldReconnectOnClose });
    await until("it closes", () => client.closes.length > 0);
    assert.deepEqual([client.opens, client.closes], [1, [{ code: 4401, reason: "as asked" }]]);
  });
});

describe("the client's states", parallel, () => {
  it("go from connecting to open to closed, and round again", async (t) => {
    const client = dial(t, relay, "states");
    assert.equal(client.socket.readyState, CONNECTING);
    await client.opened();
    client.close();
    assert.equal(client.socket.readyState, CLOSED);
    await relay.counts("states", 0);
    client.socket.reconnect();
    assert.notEqual(client.socket.readyState, OPEN);
    await client.opened(2);
    await relay.counts("states", 1);
    client.socket.reconnect(4000, "afresh");
    await client.opened(3);
    await relay.counts("states", 1);
    assert.deepEqual(client.closes.map(({ code }) => code), [1000, 4000]);
  });

  for (const [last, connections] of [["connect", 1], ["disconnect", 0]]) {
    it(`settle at the last of 100 clicks, a ${last}, with ${connections} socket(s)`, async (t) => {
      const room = `spam ${last}`;
      const witness = await open(t, relay, room);
      const client = await open(t, relay, room);
      for (let n = 0; n < 100; n++) {
        const closes = (n % 2 === 0) === (connections === 1);
        if (closes) client.close();
        else client.socket.reconnect();
        // Some clicks in one go, some so far apart that connections come and go between them.
        for (let turns = n % 7; turns > 0; turns--) await turn();
        if (n % 9 !== 8) continue;
        await until("the click has its effect", () => {
          return closes ? client.live.length === 0 : client.socket.readyState === OPEN;
        });
      }
      assert.ok(client.made.length > 3, `only ${client.made.length} sockets were made`);
      await until("all but the last socket close", () => client.live.length === connections);
      await relay.counts(room, 1 + connections);
      if (connections) await client.opened();
      assert.equal(client.socket.readyState, connections ? OPEN : CLOSED);
      witness.send("once");
      witness.send("last");
      if (connections) assert.deepEqual(await client.hasHeard(2), ["once", "last"], "through one socket");
      const expected = connections ? { count: 2, mode: "multi" } : { count: 1, mode: "solo" };
      const told = () => witness.told({ type: "connections" }).at(-1);
      await until("the room says so", () => isDeepStrictEqual(told(), { type: "connections", ...expected }), { seen: told });
    });
  }

  it("never run into the 4 s that it waits for open, though the room sleeps", async (t) => {
    const ids = [];
    for (let n = 0; n < 5; n++) {
      const client = await open(t, relay, "patience", { connectionTimeout: 4000 });
      assert.deepEqual([client.made.length, client.errors], [1, []], "open at the first attempt");
      ids.push(client.id);
      await relay.sleep("patience");
      if (ON_WORKERD) continue;
      const { phase, connections } = await relay.stats("patience");
      assert.deepEqual([phase, connections], ["asleep", n + 1]);
    }
    assert.equal(new Set(ids).size, 5);
    await relay.counts("patience", 5);
    if (!ON_WORKERD) assert.equal((await relay.stats("patience")).last_wake.cause, "connect");
  });
});
