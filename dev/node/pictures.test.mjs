// The pictures of the examples' pages that the guide shows. Every run takes them, so that the pages stay fit to
// be shown. `UPDATE_SCREENSHOT=1` writes them into the guide: on the port that a reader will see, and with pauses
// where a picture shows time.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { BoardPage, ChatPage, RelayPage, browser as launch } from "./page.mjs";
import { Board, Chat, Relay } from "./server.mjs";

const UPDATE = process.env.UPDATE_SCREENSHOT === "1";
const HOST = UPDATE ? "127.0.0.1:1999" : undefined;
const GUIDE = path.join(import.meta.dirname, "../../docs/src");
const LOOKS = { colorScheme: "light", deviceScaleFactor: 1 };
const MAX_BYTES = 200_000;

let browser, directory;
before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "pictures-"));
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await rm(directory, { recursive: true });
});

/** Lets a trace grow, where it is to be looked at. */
const passes = (seconds) => pause(UPDATE ? seconds * 1000 : 0);

/** Takes the picture, and checks that it shows something, and all of it. */
async function take({ page }, name, { hover } = {}) {
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement?.blur());
  await hover?.hover();
  const picture = path.join(UPDATE ? GUIDE : directory, name);
  await page.screenshot({ path: picture, animations: "disabled" });
  const { size } = await stat(picture);
  assert.ok(size > 10_000 && size < MAX_BYTES, `${size} bytes`);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 1280, "nothing is cut off");
}

describe("the picture", { timeout: 120_000 }, () => {
  it("of the relay shows two clients who talked, and a room that sleeps", async (t) => {
    const relay = await Relay.start(HOST);
    t.after(() => relay.stop());
    const page = await RelayPage.open(browser, relay, "lobby", LOOKS);
    const [ada, grace] = [page.client(0), page.client(1)];
    for (const client of [ada, grace]) await client.counts(2);
    await passes(3);
    await page.putToSleep();
    await passes(11);
    await ada.say("Is anybody awake?");
    await grace.reads("← from Ada Is anybody awake?");
    await passes(3);
    await page.putToSleep();
    await passes(10);
    await grace.say("I am. The room was not, until you spoke.");
    await passes(3);
    await ada.say("I did not notice.");
    await grace.reads("← from Ada Is anybody awake?", "I am. The room was not, until you spoke. →, sent",
      "← from Ada I did not notice.");
    await passes(2);
    await page.putToSleep();
    await passes(9);
    await fetch(`${relay.url}/parties/main/lobby`);
    await page.shows("room-cause", "request");
    await passes(3);
    await page.putToSleep();
    await passes(9);
    await take(page, "relay.png");
    assert.equal(await page.phase(), "asleep");
  });

  it("of the board shows cards of two people, all saved", async (t) => {
    const board = await Board.start(path.join(directory, "board"), HOST);
    t.after(() => board.stop());
    const columns = ["todo", "doing", "done"];
    const letters = Array.from({ length: 40 }, (_, n) => [columns[n % 3], "gray", `Answer letter ${n + 1}`]);
    for (const [column, color, text] of [
      ...letters,
      ["done", "green", "Find a room"],
      ["done", "green", "Ask Radia about the projector"],
      ["doing", "blue", "Invite everybody who was there last year"],
      ["doing", "pink", "Bake a cake\nNo nuts: Barbara"],
      ["todo", "yellow", "Order drinks for forty"],
      ["todo", "yellow", "Borrow chairs from next door"],
      ["todo", "pink", "Somebody has to give a speech"],
      ["todo", "yellow", "Print the programme"],
    ]) {
      const body = { column, color, text };
      assert.equal((await board.items("lobby", "", { method: "POST", body })).status, 201);
    }
    const [here, there] = await Promise.all([0, 1].map(() => BoardPage.open(browser, board, "lobby", LOOKS)));
    await here.shows("people", "2");
    await there.press("Print the programme", "right");
    await here.press("Print the programme", "color");
    await there.add("todo", "Somebody please bring a kettle");
    await there.is("All changes saved");
    await here.is("All changes saved");
    await here.shows("total", "31 of 49");
    await passes(3);
    await take(here, "board.png", { hover: here.card("Order drinks for forty") });
    assert.equal(await here.count(), 31);
  });

  it("of the chat shows what was said while one was away, who is here, and who types", async (t) => {
    const chat = await Chat.start(path.join(directory, "chat"), HOST);
    t.after(() => chat.stop());
    const enter = async (name) => {
      const page = await ChatPage.open(browser, chat, "lounge", LOOKS);
      await page.join(name);
      return page;
    };
    const said = [];
    const says = async (name, page, text) => {
      await page.say(text);
      said.push(`${name}: ${text}`);
      await page.reads(...said);
    };
    const [ada, grace, edsger] = [await enter("Ada"), await enter("Grace"), await enter("Edsger")];
    await says("Ada", ada, "Who has seen the logbook of the Mark II?");
    await says("Grace", grace, "It is on my desk. There is a moth in it.");
    await edsger.reads(...said);
    const address = edsger.page.url();
    await edsger.page.goto("about:blank");
    await ada.sees("Ada (you)", "Grace");
    await says("Ada", ada, "A moth?");
    await says("Grace", grace, "It was in relay 70 of panel F.");
    await says("Grace", grace, "First actual case of a bug being found.");
    await edsger.page.goto(address);
    await edsger.reads(...said);
    await says("Edsger", edsger, "My train was in a tunnel. What did I miss?");
    await says("Ada", ada, "Nothing, it seems.");
    await grace.type("Glue it in");
    await ada.shows("typing", "Grace is typing …");
    await ada.sees("Ada (you)", "Edsger", "Grace");
    await take(ada, "chat.png");
  });
});
