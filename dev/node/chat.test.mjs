// The chat with real clients, on Tokio and on Workers: npm `phoenix` reads who is here, and an unmodified PartySocket
// gets what it has missed, through cut connections, sleeps, and the death of the server.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { PartySocket } from "partysocket";
import { Presence } from "phoenix";
import WS from "ws";

import { Proxy } from "./proxy.mjs";
import { Chat } from "./runtimes.mjs";
import { until } from "./until.mjs";

const FAST = { party: "chat", WebSocket: WS, minReconnectionDelay: 20, maxReconnectionDelay: 200 };

let data, chat;
before(async () => {
  data = await mkdtemp(path.join(tmpdir(), "chat-"));
  chat = await Chat.start(path.join(data, "shared"));
});
after(async () => {
  await chat?.stop();
  await rm(data, { recursive: true });
});

/** A list of who is here, as the guide makes one. */
async function people(t, room, name) {
  const token = await chat.join(room, name);
  const socket = new PartySocket({ ...FAST, host: chat.host, room, query: { token } });
  t.after(() => socket.close());
  const handlers = {};
  let connects = 0;
  const presence = new Presence({ on: (event, handler) => { handlers[event] = handler; }, joinRef: () => connects });
  socket.addEventListener("open", () => { connects += 1; });
  socket.addEventListener("message", ({ data }) => {
    for (const [event, payload] of Object.entries(JSON.parse(data))) handlers[event]?.(payload);
  });
  const seen = () => presence.list((name, { metas }) => `${name} ${metas.map((meta) => meta.is_typing)}`).sort().join(", ");
  const sees = (list) => until(`${name} sees ${list}`, () => seen() === list, { seen });
  return { socket, sees, type: (typing) => socket.send(JSON.stringify({ typing })) };
}

describe("the chat", { timeout: 240_000 }, () => {
  it("tells npm phoenix who is here, through sleep and death", async (t) => {
    const room = "presence";
    const ada = await people(t, room, "Ada");
    await ada.sees("Ada false");
    const grace = await people(t, room, "Grace");
    for (const both of [ada, grace]) await both.sees("Ada false, Grace false");
    grace.type(true);
    for (const both of [ada, grace]) await both.sees("Ada false, Grace true");
    await chat.sleep(room);
    const hedy = await people(t, room, "Hedy");
    for (const all of [ada, grace, hedy]) await all.sees("Ada false, Grace true, Hedy false");
    await chat.sleep(room);
    grace.socket.close();
    for (const both of [ada, hedy]) await both.sees("Ada false, Hedy false");
    await chat.stop("SIGKILL");
    await chat.start();
    for (const both of [ada, hedy]) await both.sees("Ada false, Hedy false");
  });

  it("gives an unmodified PartySocket what it has missed, once and in order", async (t) => {
    const room = "history";
    const [LISTENERS, AUTHORS, TEXTS] = [10, 40, 5];
    const total = AUTHORS * TEXTS;
    const proxy = await Proxy.before(chat.host);
    t.after(() => proxy.stop());
    const listeners = await Promise.all(Array.from({ length: LISTENERS }, (_, n) => listen(t, proxy.host, room, `listener ${n}`)));
    await until("all listen", () => listeners.every((it) => it.begins === 1));
    let stored = 0, deaths = 0;
    // The members are made before: the server is away at times.
    const authors = await Promise.all(Array.from({ length: AUTHORS }, (_, n) => author(t, room, `author ${n}`, () => { stored += 1; })));
    for (let next = 0; stored < total; next += 1) {
      const wanted = Math.min(total, stored + 5);
      for (const one of authors) if (one.said < TEXTS && authors.indexOf(one) % 8 === next % 8) one.say();
      await until("some messages are stored", () => stored >= wanted || authors.every((one) => one.isIdle()), { seen: () => stored });
      proxy.cut(0.2);
      if (next % 10 === 4) await chat.sleep(room).catch(() => {}); // it may be busy
      if (next % 20 === 9) {
        deaths += 1;
        await chat.stop("SIGKILL");
        await chat.start();
      }
    }
    for (const listener of listeners) {
      await until(`listener has all`, () => listener.texts.length >= total, { seen: () => listener.texts.length });
    }
    const [first] = listeners;
    assert.equal(new Set(first.texts).size, total, "no message twice");
    for (const { texts, begins } of listeners) {
      assert.deepEqual(texts, first.texts);
      assert.equal(begins, 1, "no gap was told");
    }
    assert.ok(proxy.cuts >= 20 && deaths >= 1, `${proxy.cuts} cuts, ${deaths} deaths`);
  });
});

/** One who only listens, as the guide's page does. */
async function listen(t, host, room, name) {
  const token = await chat.join(room, name);
  const listener = { texts: [], begins: 0 };
  let since;
  const socket = new PartySocket({ ...FAST, host, room, query: () => ({ token, since }) });
  t.after(() => socket.close());
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    if (message.event === "begin") listener.begins += 1;
    if (message.event !== "said") return;
    listener.texts.push(message.text);
    since = message.at;
  });
  return listener;
}

/** One who says each text again until it has come back. */
async function author(t, room, name, stored) {
  const token = await chat.join(room, name);
  const waiting = new Map();
  let since;
  const socket = new PartySocket({ ...FAST, host: chat.host, room, query: () => ({ token, since }), maxEnqueuedMessages: 0 });
  t.after(() => socket.close());
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    if (message.event === "ready") for (const [id, say] of waiting) socket.send(JSON.stringify({ say, id }));
    if (message.event !== "said") return;
    since = message.at;
    if (waiting.delete(message.id)) stored();
  });
  return {
    said: 0,
    isIdle() { return waiting.size === 0; },
    say() {
      const [id, say] = [`${this.said}`, `${name}, ${this.said += 1}`];
      waiting.set(`${name} ${id}`, say);
      socket.send(JSON.stringify({ say, id: `${name} ${id}` }));
    },
  };
}
