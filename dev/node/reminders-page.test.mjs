// The page of the reminders in two browsers, on Tokio and on Workers: what one sets rings for both, through sleep
// and through the death of the server.

import { after, afterEach, before, describe, it } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { assertClean, browser as launch, NOBODY_THERE, RemindersPage } from "./page.mjs";
import { Reminders } from "./runtimes.mjs";
import { until } from "./until.mjs";

let browsers = [], shared, data;
let pages = []; // of the test that runs
let rooms = 0;

before(async () => {
  data = await mkdtemp(path.join(tmpdir(), "reminders-"));
  shared = await Reminders.start(path.join(data, "shared"));
  browsers = await Promise.all([launch(), launch()]);
});
after(async () => {
  await Promise.all([...browsers.map((browser) => browser.close()), shared?.stop()]);
  await rm(data, { recursive: true });
});

afterEach(async () => {
  const closed = pages;
  pages = [];
  await Promise.all(closed.map((page) => page.close()));
});

/** The pages of a room in two browsers. */
async function two(server = shared) {
  const room = `room ${(rooms += 1)}`;
  const both = await Promise.all(browsers.map((browser) => RemindersPage.open(browser, server, room)));
  pages.push(...both);
  return [...both, room];
}

describe("the reminders' page", { timeout: 240_000 }, () => {
  it("shows what the other sets and cancels, and what rings", async () => {
    const [here, there] = await two();
    await here.remind("<b>bread</b>", "in an hour");
    await there.remind("tea", "in 3 seconds");
    await here.has("reminders", "tea", "<b>bread</b>");
    await there.has("rang", "tea");
    await here.has("rang", "tea");
    await there.cancel("<b>bread</b>");
    for (const page of [here, there]) await page.has("reminders");
    await here.remind(" ", "in an hour");
    await here.shows("why", "a reminder has 1 to 200 characters");
    assertClean(pages, shared);
  });

  it("rings while the room sleeps", async () => {
    const [here, there, room] = await two();
    await here.remind("stretch", "every 5 seconds");
    await here.remind("tea", "in 3 seconds");
    await there.has("reminders", "tea", "stretch");
    await shared.sleep(room);
    for (const page of [here, there]) await page.has("rang", "tea");
    await shared.sleep(room);
    for (const page of [here, there]) await page.has("rang", "stretch", "tea");
    await here.cancel("stretch");
    await there.has("reminders");
    assertClean(pages, shared);
  });

  it("rings what was due while the server was dead, once", async (t) => {
    const server = await Reminders.start(path.join(data, "killed"));
    t.after(() => server.stop());
    const [here, there] = await two(server);
    await here.remind("tea", "in 3 seconds");
    await here.remind("bread", "in an hour");
    await there.has("reminders", "tea", "bread");
    await server.stop("SIGKILL");
    await there.shows("state", "connecting …");
    // Until the reminder is due, by the page's own clock.
    const left = () => there.part("reminders").locator("time").first().textContent();
    await until("it is due", async () => (await left()) === "0 s", { seen: left });
    await server.start();
    for (const page of [here, there]) {
      await page.has("rang", "tea");
      await page.has("reminders", "bread");
    }
    assertClean(pages, server, NOBODY_THERE);
  });
});
