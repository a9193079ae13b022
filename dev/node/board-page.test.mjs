// The board's page in headless Chromium, in two browsers at once, on Tokio and on Workers: what one does the
// other sees, and what says "saved" is there after the server was killed.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { assertClean, BoardPage, browser as launch, NOBODY_THERE } from "./page.mjs";
import { Board } from "./runtimes.mjs";
import { until } from "./until.mjs";

const EXAMPLE = path.join(import.meta.dirname, "../../examples/board/src/page");

let browsers = [], board, data;
let pages = []; // of the test that runs
let rooms = 0;

before(async () => {
  data = await mkdtemp(path.join(tmpdir(), "board-"));
  board = await Board.start(path.join(data, "shared"));
  browsers = await Promise.all([launch(), launch()]);
});
after(async () => {
  await Promise.all([...browsers.map((browser) => browser.close()), board?.stop()]);
  await rm(data, { recursive: true });
});

afterEach(async () => {
  const closed = pages;
  pages = [];
  await Promise.all(closed.map((page) => page.close()));
});

/** The pages of a board in two browsers. */
async function two({ server = board, room = `board ${(rooms += 1)}` } = {}) {
  const both = await Promise.all(browsers.map((browser) => BoardPage.open(browser, server, room)));
  pages.push(...both);
  for (const page of both) await page.shows("people", "2");
  return [...both, room];
}

describe("the board's page", { timeout: 240_000 }, () => {
  it("shows in each browser what the other does, as it does it", async () => {
    const [here, there] = await two();
    await here.add("todo", "Buy <b>milk</b> & naïve ☕");
    await there.has({ todo: ["Buy <b>milk</b> & naïve ☕ (yellow, saved)"] });
    await here.has({ todo: ["Buy <b>milk</b> & naïve ☕ (yellow, saved)"] });
    await there.add("todo", "second");
    for (const page of [here, there]) {
      await page.has({ todo: ["second (yellow, saved)", "Buy <b>milk</b> & naïve ☕ (yellow, saved)"] });
    }
    await there.press("Buy <b>milk</b> & naïve ☕", "right");
    await there.press("Buy <b>milk</b> & naïve ☕", "color");
    await here.has({ todo: ["second (yellow, saved)"], doing: ["Buy <b>milk</b> & naïve ☕ (green, saved)"] });
    await here.rewrite("second", "the second");
    await there.has({ todo: ["the second (yellow, saved)"], doing: ["Buy <b>milk</b> & naïve ☕ (green, saved)"] });
    await here.press("Buy <b>milk</b> & naïve ☕", "delete");
    for (const page of [here, there]) {
      await page.has({ todo: ["the second (yellow, saved)"] });
      await page.shows("total", "1");
    }
    assertClean(pages, board);
  });

  it("moves cards by dragging, within a column and to another", async () => {
    const [here, there] = await two();
    for (const text of ["one", "two", "three"]) await here.add("todo", text);
    await here.is("All changes saved");
    const drag = (text, onto, y) => here.card(text).dragTo(here.card(onto), {
      sourcePosition: { x: 150, y: 15 }, targetPosition: { x: 150, y },
    });
    await drag("three", "one", 3); // above it
    await there.has({ todo: ["two (yellow, saved)", "three (yellow, saved)", "one (yellow, saved)"] });
    await here.card("two").dragTo(here.column("done"), { sourcePosition: { x: 150, y: 15 } });
    await there.has({ todo: ["three (yellow, saved)", "one (yellow, saved)"], done: ["two (yellow, saved)"] });
    await here.has({ todo: ["three (yellow, saved)", "one (yellow, saved)"], done: ["two (yellow, saved)"] });
    assertClean(pages, board);
  });

  it("loads the newest cards, older ones when asked, and never all", async () => {
    const room = `board ${(rooms += 1)}`;
    for (let n = 0; n < 75; n++) {
      const body = { text: `card ${n}`, column: "doing" };
      const { status } = await board.items(room, "", { method: "POST", body });
      assert.equal(status, 201);
    }
    const [here, there] = await two({ room });
    assert.equal(await here.count(), 30);
    await here.shows("shown", "The newest 30 of 75 cards are loaded.");
    const newest = (await board.items(room)).json.items.map(({ text }) => `${text} (yellow, saved)`);
    assert.deepEqual((await here.cards()).doing, newest);
    await here.part("more").click();
    await until("30 more", async () => (await here.count()) === 60);
    assert.equal(await there.count(), 30, "each page has its own");
    await there.add("doing", "a new one");
    await here.shows("shown", "The newest 61 of 76 cards are loaded.");
    const [oldest] = (await board.items(room, "?limit=100")).json.items.slice(-1);
    const patch = { method: "PATCH", body: { text: "not here" } };
    assert.equal((await board.items(room, `/${oldest.id}`, patch)).status, 200);
    await here.add("todo", "and another");
    await there.shows("total", "32 of 77");
    assert.equal(await here.card("not here").count(), 0, "what is not loaded does not come by itself");
    await here.part("more").click();
    await here.shows("shown", "All cards are loaded.");
    assert.equal(await here.count(), 77);
    assert.equal(await here.card("not here").count(), 1);
    assert.equal(await here.part("more").isVisible(), false);
    assertClean(pages, board);
  });

  it("takes a change back that the server refuses, and says why", async () => {
    const [here, there] = await two();
    await here.add("todo", "kept");
    await there.has({ todo: ["kept (yellow, saved)"] });
    await here.rewrite("kept", "x".repeat(2001));
    await here.has({ todo: ["kept (yellow, saved)"] });
    assert.match(await here.part("toast").textContent(), /^Not done: .*a text has 1 to 2000 bytes/);
    await here.add("todo", "next");
    await there.has({ todo: ["next (yellow, saved)", "kept (yellow, saved)"] });
    assertClean(pages, board);
  });

  it("says a change again of which it hears nothing", async () => {
    let swallowed = 0;
    const prepare = async (page) => {
      await page.clock.install();
      await page.routeWebSocket(/./, (socket) => {
        const server = socket.connectToServer();
        socket.onMessage((message) => {
          if (JSON.parse(message).type === "change" && swallowed++ === 0) return;
          server.send(message);
        });
      });
    };
    const page = await BoardPage.open(browsers[0], board, `board ${(rooms += 1)}`, { prepare });
    pages.push(page);
    await page.add("todo", "hello?");
    await page.has({ todo: ["hello? (yellow, saving)"] });
    await page.is("Saving 1 change");
    await until("it is swallowed", () => swallowed === 1);
    await page.page.clock.fastForward(11_000);
    await page.has({ todo: ["hello? (yellow, saved)"] });
    await page.is("All changes saved");
    assert.equal(swallowed, 2);
  });

  it("has all that was saved after kill -9, and sends what waited", async (t) => {
    const server = await Board.start(path.join(data, "killed"));
    t.after(() => server.stop());
    const [here, there] = await two({ server });
    await here.add("todo", "before");
    await here.add("doing", "to be moved");
    await there.add("done", "to be deleted");
    await there.has({
      todo: ["before (yellow, saved)"], doing: ["to be moved (blue, saved)"], done: ["to be deleted (green, saved)"],
    });
    for (const page of [here, there]) await page.is("All changes saved");
    await server.stop("SIGKILL");
    for (const page of [here, there]) await page.is("Offline");

    // One goes on without the server, the other looks.
    await here.add("todo", "meanwhile");
    await here.press("to be moved", "left");
    await here.press("to be deleted", "delete");
    await here.has({
      todo: ["to be moved (blue, waiting)", "meanwhile (yellow, waiting)", "before (yellow, saved)"],
    });
    await here.shows("state-more", "3 changes wait here, and will be sent");
    await there.has({
      todo: ["before (yellow, saved)"], doing: ["to be moved (blue, saved)"], done: ["to be deleted (green, saved)"],
    });

    await server.start();
    const cards = { todo: ["to be moved (blue, saved)", "meanwhile (yellow, saved)", "before (yellow, saved)"] };
    for (const page of [here, there]) {
      await page.is("All changes saved");
      await page.has(cards);
      await page.shows("total", "3");
    }
    // And what a page saw last is what it sees when it is opened anew, after one more such end.
    await server.stop("SIGKILL");
    await server.start();
    await here.page.reload();
    for (const page of [here, there]) {
      await page.is("All changes saved");
      await page.has(cards);
    }
    assertClean(pages, server, NOBODY_THERE);
  });

  it("fits on a phone, and can do everything there", async () => {
    const phone = await BoardPage.open(browsers[0], board, `board ${(rooms += 1)}`,
      { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    pages.push(phone);
    await phone.add("todo", "by thumb");
    await phone.card("by thumb").getByTestId("right").tap();
    await phone.has({ doing: ["by thumb (yellow, saved)"] });
    assert.equal(await phone.page.evaluate(() => document.documentElement.scrollWidth), 390, "nothing is cut off");
    assertClean(pages, board);
  });

  it("brings the npm client partysocket, unchanged", async () => {
    const package_ = path.join(import.meta.dirname, "node_modules/partysocket");
    for (const file of ["dist/index.js", "dist/ws.js", "LICENSE.txt"]) {
      const [copy, original] = await Promise.all([
        readFile(path.join(EXAMPLE, "partysocket", path.basename(file)), "utf8"),
        readFile(path.join(package_, file), "utf8"),
      ]);
      assert.ok(copy === original, `${file} is not the one of package.json's version`);
    }
  });
});
