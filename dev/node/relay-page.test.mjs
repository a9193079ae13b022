// The relay's page in headless Chromium, clicked like a person, with two pages of one room open: on Tokio
// and on Workers, which both serve it.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { assertClean, browser as launch, NOBODY_THERE, RelayPage } from "./page.mjs";
import { ON_WORKERD, Relay, notOnWorkerd } from "./runtimes.mjs";
import { until } from "./until.mjs";

/** What Chromium logs of its own accord when a socket is closed before it is open. */
const EARLY_CLOSE = /WebSocket is closed before the connection is established/;

let browser, relay;
let pages = []; // of the test that runs
let rooms = 0;

before(async () => {
  relay = await Relay.start();
  browser = await launch();
});
after(() => Promise.all([browser?.close(), relay?.discard()]));

afterEach(async () => {
  const closed = pages;
  pages = [];
  await Promise.all(closed.map((page) => page.close()));
});

const untold = notOnWorkerd("a room that is asked how it is wakes");

/** Two pages of a new room, with two connected clients each. */
async function two({ server = relay } = {}) {
  const room = `room ${(rooms += 1)}`;
  const both = await Promise.all([0, 1].map(() => RelayPage.open(browser, server, room)));
  pages.push(...both);
  for (const page of both) for (const n of [0, 1]) await page.client(n).counts(4);
  return [...both, room];
}

describe("the relay's page", { timeout: 240_000 }, () => {
  it("carries messages between the clients of a page, and between pages", async () => {
    const [here, there] = await two();
    await here.client(0).say("good morning");
    for (const other of [here.client(1), there.client(0), there.client(1)]) {
      await other.reads("← from Ada good morning");
    }
    await there.client(1).say("<b>and</b> to you", { enter: true });
    for (const other of [here.client(1), there.client(0)]) {
      await other.reads("← from Ada good morning", "← from Grace <b>and</b> to you");
    }
    await here.client(0).reads("good morning →, sent", "← from Grace <b>and</b> to you");
    await there.client(1).reads("← from Ada good morning", "<b>and</b> to you →, sent");
    assert.equal(await there.client(1).part("input").inputValue(), "", "ready for the next one");
    assertClean(pages, relay);
  });

  it("counts connections, and says solo or multi, on both pages", async () => {
    const [here, there] = await two();
    for (const n of [0, 1]) {
      await there.client(n).toggle();
      await there.client(n).is("disconnected");
      assert.equal(await there.client(n).part("count").textContent(), "–");
      assert.equal(await there.client(n).part("send").isDisabled(), true);
    }
    for (const n of [0, 1]) await here.client(n).counts(2);
    await here.client(1).toggle();
    await here.client(0).counts(1);
    assert.equal(await here.client(0).part("mode").textContent(), "solo");
    await there.client(0).toggle();
    await there.client(0).is("connected");
    for (const client of [here.client(0), there.client(0)]) await client.counts(2);
    const third = await here.add(2);
    for (const client of [here.client(0), there.client(0), third]) await client.counts(3);
    await third.part("remove").click();
    for (const client of [here.client(0), there.client(0)]) await client.counts(2);
    assert.equal(await third.panel.count(), 0);
    assertClean(pages, relay);
  });

  it("goes to another room by its name", async () => {
    const [here, there] = await two();
    await here.part("room-name").fill("café 100%/?#");
    await here.part("room-name").press("Enter");
    await here.client(0).is("connected");
    await here.client(1).counts(2);
    await relay.counts("café 100%/?#", 2);
    await there.client(0).counts(2);
    assertClean(pages, relay);
  });

  it("shows a room asleep while all sockets stay open", untold, async () => {
    const [here, there, room] = await two();
    await here.shows("room-phase", "awake");
    assert.equal(await here.part("room-cause").textContent(), "connect");
    await here.putToSleep();
    await there.shows("room-phase", "asleep");
    const early = await there.slept();
    await until("the share of its life that it slept grows", async () => (await there.slept()) > early);
    for (const page of [here, there]) {
      for (const n of [0, 1]) {
        await page.client(n).is("connected");
        await page.client(n).counts(4);
        assert.equal(await page.client(n).sockets(), 1);
      }
    }
    const { phase, connections, sleeps, active, resident } = await relay.stats(room);
    assert.deepEqual([phase, connections, sleeps], ["asleep", 4, 1]);
    assert.ok(0 < active && active < resident, `${active} s of ${resident} s`);
    assert.equal(await here.part("room-sleeps").textContent(), "1");
    assertClean(pages, relay);
  });

  it("notices nothing of a sleep", async () => {
    const [here, there, room] = await two();
    for (const n of [1, 2]) {
      await relay.sleep(room);
      await here.client(0).say(`good morning ${n}`);
      await there.client(1).reads(...[1, 2].slice(0, n).map((it) => `← from Ada good morning ${it}`));
    }
    assert.ok((await relay.slept(room)) >= 2);
    for (const page of [here, there]) {
      for (const n of [0, 1]) {
        await page.client(n).counts(4);
        assert.equal(await page.client(n).sockets(), 1);
        assert.equal((await page.client(n).news()).filter((line) => /lost/.test(line)).length, 0);
      }
    }
    assertClean(pages, relay);
  });

  it("shows what wakes a room: a message, a disconnect, a connect", untold, async () => {
    const [here, there] = await two();
    for (const [sleep, cause, wake] of [
      [1, "message", () => here.client(0).say("wake up")],
      [2, "disconnect", () => there.client(1).toggle()],
      [3, "connect", () => there.client(1).toggle()],
    ]) {
      await here.putToSleep();
      for (const page of [here, there]) await page.shows("room-sleeps", String(sleep));
      await wake();
      for (const page of [here, there]) {
        await page.shows("room-phase", "awake");
        await page.shows("room-cause", cause);
      }
    }
    await there.client(0).reads("← from Ada wake up");
    assert.deepEqual(await Promise.all([0, 1].map((n) => here.client(n).sockets())), [1, 1]);
    assertClean(pages, relay);
  });

  it("wakes nobody by looking", untold, async () => {
    const [here, there, room] = await two();
    await here.putToSleep();
    const { starts } = await relay.stats(room);
    const seen = (await Promise.all([here.polls(4), there.polls(4)])).flat();
    assert.deepEqual(seen.map((stats) => [stats.phase, stats.starts]), seen.map(() => ["asleep", starts]));
    assert.ok(seen.at(-1).life > seen[4].life, "though time went on");
    assertClean(pages, relay);
  });

  it("settles at the last of many clicks, with one socket at most", async () => {
    const [here, there] = await two();
    const client = here.client(0);
    await here.page.evaluate(watch);
    const { x, y, width, height } = await client.part("toggle").boundingBox();
    for (const [last, connections] of [["disconnected", 3], ["connected", 4]]) {
      for (let n = 0; n < 25; n++) await here.page.mouse.click(x + width / 2, y + height / 2);
      await client.is(last);
      for (const other of [here.client(1), there.client(0)]) await other.counts(connections);
    }
    await client.counts(4);
    const { intended, sockets, overlaps, made } = await here.page.evaluate(() => globalThis.watched);
    const turns = (n) => (n % 2 === 0 ? "disconnected" : "connected");
    assert.deepEqual(intended, Array.from({ length: 50 }, (_, n) => turns(n)), "at once, each time");
    assert.ok(made > 1, `${made} sockets were made`);
    assert.deepEqual([Math.max(...sockets), overlaps], [1, 0], `sockets: ${sockets}`);
    await there.client(0).say("once");
    await client.reads("← from Ada once");
    assertClean(pages, relay, EARLY_CLOSE);
  });

  it("comes back after the server was killed, and says so meanwhile", async (t) => {
    const server = await Relay.start();
    t.after(() => server.discard());
    const [here, there] = await two({ server });
    await here.client(0).say("before");
    await there.client(0).reads("← from Ada before");
    await server.stop("SIGKILL");
    for (const page of [here, there]) {
      await page.shows("room-phase", "unreachable");
      for (const n of [0, 1]) {
        assert.equal(await page.client(n).part("intended").textContent(), "connected");
        assert.equal(await page.client(n).part("send").isDisabled(), true);
        assert.match((await page.client(n).news()).join("\n"), /connection lost \(1006\), trying again in \d\.\d s/);
      }
    }
    await server.start();
    for (const page of [here, there]) {
      for (const n of [0, 1]) {
        await page.client(n).is("connected");
        await page.client(n).counts(4);
        assert.equal(await page.client(n).sockets(), 1);
      }
      if (!ON_WORKERD) await page.shows("room-phase", "awake");
    }
    await there.client(1).say("after");
    await here.client(0).reads("before →, sent", "← from Grace after");
    assertClean(pages, server, NOBODY_THERE);
  });
});

/** Runs in the page: writes down what the first client does from now on, by what it shows and what it makes. */
function watch() {
  const panel = document.querySelector("[data-testid=client-0]");
  const part = (testid) => panel.querySelector(`[data-testid=${testid}]`);
  const pk = panel.querySelector(".pk").textContent;
  const watched = (globalThis.watched = { intended: [], sockets: [], overlaps: 0, made: 0 });
  // After the page's own listener, before anything else can happen.
  part("toggle").addEventListener("click", () => watched.intended.push(part("intended").textContent));
  new MutationObserver((changes) => {
    watched.sockets.push(...changes.map((change) => Number(change.oldValue)), Number(panel.dataset.sockets));
  }).observe(panel, { attributeFilter: ["data-sockets"], attributeOldValue: true });
  const made = [];
  globalThis.WebSocket = class extends WebSocket {
    constructor(url) {
      super(url);
      if (!url.endsWith(`_pk=${pk}`)) return;
      if (made.some((socket) => socket.readyState !== WebSocket.CLOSED)) watched.overlaps += 1;
      made.push(this);
      watched.made = made.length;
    }
  };
}
