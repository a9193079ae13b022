// The chat's page in two browsers, on Tokio and on Workers: what one says the other reads, and who types is seen,
// through sleep and through the death of the server.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { assertClean, browser as launch, ChatPage, NOBODY_THERE } from "./page.mjs";
import { Chat } from "./runtimes.mjs";
import { until } from "./until.mjs";

let browsers = [], chat, data;
let pages = []; // of the test that runs
let rooms = 0;

before(async () => {
  data = await mkdtemp(path.join(tmpdir(), "chat-"));
  chat = await Chat.start(path.join(data, "shared"));
  browsers = await Promise.all([launch(), launch()]);
});
after(async () => {
  await Promise.all([...browsers.map((browser) => browser.close()), chat?.stop()]);
  await rm(data, { recursive: true });
});

afterEach(async () => {
  const closed = pages;
  pages = [];
  await Promise.all(closed.map((page) => page.close()));
});

/** The pages of a room in two browsers, as Ada and Grace. */
async function two({ server = chat, room = `room ${(rooms += 1)}` } = {}) {
  const both = await Promise.all(browsers.map((browser) => ChatPage.open(browser, server, room)));
  pages.push(...both);
  await both[0].join("Ada");
  await both[1].join("Grace");
  await both[0].sees("Ada (you)", "Grace");
  await both[1].sees("Ada", "Grace (you)");
  return [...both, room];
}

describe("the chat's page", { timeout: 240_000 }, () => {
  it("shows what the other says, and that they type", async () => {
    const [here, there] = await two();
    await here.type("Hello, wörld 🌍!");
    await there.shows("typing", "Ada is typing …");
    await here.press("Enter");
    for (const page of [here, there]) await page.reads("Ada: Hello, wörld 🌍!");
    await there.shows("typing", "");
    await there.say("<b>not bold</b>");
    for (const page of [here, there]) await page.reads("Ada: Hello, wörld 🌍!", "Grace: <b>not bold</b>");
    assertClean(pages, chat);
  });

  it("asks for another name, and says to slow down", async () => {
    const [here, there, room] = await two();
    const third = await ChatPage.open(browsers[0], chat, room);
    pages.push(third);
    await third.part("name").fill("ada");
    await third.part("join").click();
    await until("the name is taken", async () => (await third.part("why").textContent()).includes("this name is taken"));
    for (let n = 1; n <= 6; n += 1) await here.say(`${n}`);
    await until("one is refused", async () => (await here.refused()).join() === "6");
    await there.reads("Ada: 1", "Ada: 2", "Ada: 3", "Ada: 4", "Ada: 5");
    assertClean([here, there], chat);
  });

  it("goes on after a sleep, and who comes back is known", async () => {
    const [here, there, room] = await two();
    await here.say("before");
    await there.reads("Ada: before");
    await chat.sleep(room);
    await there.type("not yet");
    await here.shows("typing", "Grace is typing …");
    await chat.sleep(room);
    await there.page.reload();
    await there.sees("Ada", "Grace (you)");
    await there.reads("Ada: before");
    await here.shows("typing", "");
    // One that leaves while the room sleeps does not stay in the list.
    await chat.sleep(room);
    await there.close();
    pages = pages.filter((page) => page !== there);
    await here.sees("Ada (you)");
    assertClean(pages, chat);
  });

  it("loses nothing when the server is killed, and says what was written meanwhile once", async (t) => {
    const server = await Chat.start(path.join(data, "killed"));
    t.after(() => server.stop());
    const [here, there] = await two({ server });
    await here.say("seen by both");
    await there.reads("Ada: seen by both");
    await server.stop("SIGKILL");
    await there.shows("state", "connecting …");
    await there.say("while it was away");
    await server.start();
    for (const page of [here, there]) await page.reads("Ada: seen by both", "Grace: while it was away");
    await here.sees("Ada (you)", "Grace");
    assert.deepEqual(await there.refused(), []);
    assertClean(pages, server, NOBODY_THERE);
  });
});
