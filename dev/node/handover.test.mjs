// The npm client `partysocket`, unchanged, in Node, while the relay is replaced: it notices nothing.

import assert from "node:assert/strict";
import { it } from "node:test";

import { Client } from "./client.mjs";
import { Relay, notOnWorkerd } from "./runtimes.mjs";
import { until } from "./until.mjs";

const ROUNDS = 3;

it("a socket stays open while its server is replaced", notOnWorkerd("a deploy closes sockets there"), async (t) => {
  const relay = await Relay.start();
  t.after(() => relay.discard());
  const clients = await Promise.all(Array.from({ length: 20 }, () => Client.open(relay, "hall")));
  t.after(() => clients.forEach((client) => client.close()));
  const [speaker, ...others] = clients;
  const said = [];
  const talk = setInterval(() => {
    said.push(`message ${said.length}`);
    speaker.send(said.at(-1));
  }, 1);
  t.after(() => clearInterval(talk));
  for (let round = 1; round <= ROUNDS; round++) {
    const server = relay.process;
    await relay.replace();
    assert.notEqual(relay.process, server);
    const before = said.length;
    await until("the speaker goes on", () => said.length > before + 10);
  }
  clearInterval(talk);
  for (const client of others) assert.deepEqual(await client.hasHeard(said.length), said);
  await relay.counts("hall", clients.length);
  for (const { opens, closes, errors, made } of clients) {
    assert.deepEqual([opens, closes, errors, made.length], [1, [], [], 1]);
  }
});
