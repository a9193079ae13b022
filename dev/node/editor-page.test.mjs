// The editor's page in two browsers, on Tokio and on Workers: what one types the other sees, with cursors, through
// sleep and through the death of the server.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { assertClean, browser as launch, EditorPage, NOBODY_THERE } from "./page.mjs";
import { Editor } from "./runtimes.mjs";
import { until } from "./until.mjs";


let browsers = [], editor, data;
let pages = []; // of the test that runs
let rooms = 0;

before(async () => {
  data = await mkdtemp(path.join(tmpdir(), "editor-"));
  editor = await Editor.start(path.join(data, "shared"));
  browsers = await Promise.all([launch(), launch()]);
});
after(async () => {
  await Promise.all([...browsers.map((browser) => browser.close()), editor?.stop()]);
  await rm(data, { recursive: true });
});

afterEach(async () => {
  const closed = pages;
  pages = [];
  await Promise.all(closed.map((page) => page.close()));
});

/** The pages of a text in two browsers, as Ada and Grace. */
async function two({ server = editor, room = `text ${(rooms += 1)}` } = {}) {
  const both = await Promise.all(browsers.map((browser) => EditorPage.open(browser, server, room)));
  pages.push(...both);
  await Promise.all([both[0].name("Ada"), both[1].name("Grace")]);
  await both[0].sees("Ada (you)", "Grace");
  await both[1].sees("Ada", "Grace (you)");
  return [...both, room];
}

describe("the editor's page", { timeout: 240_000 }, () => {
  it("shows what the other types, and where", async () => {
    const [here, there] = await two();
    await here.type("Hello, wörld 🌍!\nA second line.");
    await there.reads("Hello, wörld 🌍!\nA second line.");
    await until("Ada's cursor", async () => (await there.cursors()) === 1);
    await there.type("PS: ", "ControlOrMeta+Home");
    await here.reads("PS: Hello, wörld 🌍!\nA second line.");
    await until("Grace's cursor", async () => (await here.cursors()) === 1);
    assertClean(pages, editor);
  });

  it("goes on after a sleep, and who joins then sees text and cursors", async () => {
    const [here, there, room] = await two();
    await here.type("before");
    await there.reads("before");
    await there.type("", "ControlOrMeta+Home");
    await until("Grace's cursor", async () => (await here.cursors()) === 1);
    await editor.sleep(room);
    const third = await EditorPage.open(browsers[0], editor, room);
    pages.push(third);
    await third.name("Hedy");
    await third.reads("before");
    await third.sees("Ada", "Grace", "Hedy (you)");
    await until("both cursors", async () => (await third.cursors()) === 2);
    await editor.sleep(room);
    await here.type(", after");
    for (const page of [here, there, third]) await page.reads("before, after");
    // One that leaves while the room sleeps does not stay in the list.
    await editor.sleep(room);
    await there.close();
    pages = pages.filter((page) => page !== there);
    await here.sees("Ada (you)", "Hedy");
    await third.sees("Ada", "Hedy (you)");
    assertClean(pages, editor);
  });

  it("keeps what others saw when the server is killed, and brings what was typed meanwhile", async (t) => {
    const server = await Editor.start(path.join(data, "killed"));
    t.after(() => server.stop());
    const [here, there, room] = await two({ server });
    await here.type("seen by both");
    await there.reads("seen by both");
    await server.stop("SIGKILL");
    await there.shows("state", "connecting …");
    await there.type(", and this while it was away");
    await server.start();
    for (const page of [here, there]) await page.reads("seen by both, and this while it was away");
    await here.sees("Ada (you)", "Grace");
    await until("the server has it", async () => (await server.text(room)) === "seen by both, and this while it was away");
    assertClean(pages, server, NOBODY_THERE);
  });
});
