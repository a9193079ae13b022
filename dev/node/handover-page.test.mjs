// Pages in headless Chromium while the relay is replaced: the npm client `partysocket`, unchanged, and the relay's
// own page, which shows which process serves it. They notice nothing else.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, it } from "node:test";

import { Client } from "./client.mjs";
import { browser as launch, RelayPage } from "./page.mjs";
import { Relay, notOnWorkerd } from "./runtimes.mjs";
import { until } from "./until.mjs";

const ROUNDS = 3;
const CLIENT = import.meta.resolve("partysocket");
const skipped = notOnWorkerd("a deploy closes sockets there");

let browser, relay;

before(async () => {
  relay = await Relay.start();
  browser = await launch();
});
after(() => Promise.all([browser?.close(), relay?.discard()]));

/** A page with one PartySocket, and what happened to it. */
async function partySocketPage(room) {
  const page = await browser.newPage();
  const route = `${relay.url}/partysocket/`;
  await page.route(`${route}**`, async (asked) => {
    const body = await readFile(new URL(asked.request().url().slice(route.length), CLIENT));
    await asked.fulfill({ contentType: "text/javascript", body });
  });
  await page.goto(`${relay.url}/stats`);
  await page.evaluate(async (room) => {
    const { PartySocket } = await import("/partysocket/index.js");
    const socket = new PartySocket({ host: location.host, room });
    window.socket = socket;
    window.seen = { opens: 0, closes: [], errors: 0, heard: [] };
    socket.onopen = () => { window.seen.opens += 1; };
    socket.onclose = ({ code }) => window.seen.closes.push(code);
    socket.onerror = () => { window.seen.errors += 1; };
    socket.onmessage = ({ data }) => { if (data.startsWith("from ")) window.seen.heard.push(data); };
  }, room);
  page.seen = () => page.evaluate(() => window.seen);
  await until("the page is connected", async () => (await page.seen()).opens === 1);
  return page;
}

it("a PartySocket of a page stays open while its server is replaced", { ...skipped, timeout: 120_000 }, async (t) => {
  const page = await partySocketPage("hall");
  const other = await Client.open(relay, "hall");
  t.after(() => other.close());
  const heard = () => other.received.filter((text) => text.startsWith("from "));
  let said = 0;
  const talk = setInterval(() => {
    other.send(`from Node ${said}`);
    said += 1;
  }, 5);
  t.after(() => clearInterval(talk));
  await page.evaluate(() => {
    let said = 0;
    window.talk = setInterval(() => {
      window.socket.send(`from the page ${said}`);
      said += 1;
    }, 5);
    window.stop = () => { clearInterval(window.talk); return said; };
  });
  for (let round = 1; round <= ROUNDS; round++) {
    await relay.replace();
    const before = [(await page.seen()).heard.length, heard().length];
    await until("both go on", async () => (await page.seen()).heard.length > before[0] + 10 && heard().length > before[1] + 10);
  }
  clearInterval(talk);
  const saidByPage = await page.evaluate(() => window.stop());
  await until("all has been heard", async () => (await page.seen()).heard.length >= said && heard().length >= saidByPage);
  const seen = await page.seen();
  assert.deepEqual(seen.heard, Array.from({ length: said }, (_, n) => `from Node ${n}`));
  assert.deepEqual(heard(), Array.from({ length: saidByPage }, (_, n) => `from the page ${n}`));
  assert.deepEqual([seen.opens, seen.closes, seen.errors], [1, [], 0]);
  assert.deepEqual([other.opens, other.closes, other.errors], [1, [], []]);
});

it("the relay's page shows the next process, and keeps its sockets", { ...skipped, timeout: 120_000 }, async (t) => {
  const page = await RelayPage.open(browser, relay, "page");
  t.after(() => page.close());
  const served = () => page.part("server").textContent();
  const by = (process) => until(`it is served by ${process}`, async () => (await served()).endsWith(`, process ${process}`), { seen: served });
  await by(relay.process);
  for (let round = 1; round <= ROUNDS; round++) {
    await relay.replace();
    await by(relay.process);
    await page.client(0).say(`message ${round}`);
    await page.client(1).reads(...Array.from({ length: round }, (_, n) => `← from Ada message ${n + 1}`));
  }
  for (const n of [0, 1]) {
    await page.client(n).is("connected");
    assert.equal(await page.client(n).sockets(), 1);
  }
  assert.equal(page.requests.filter((url) => url.startsWith("ws:")).length, 2, "each connected once");
});
