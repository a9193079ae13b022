// The picture of the relay's page that the guide shows. It is taken at every run, so that the page stays
// one that can be shown; `UPDATE_SCREENSHOT=1` takes its time for a trace of a minute, on the port that a
// reader will see, and writes the guide's picture anew.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { RelayPage, browser as launch } from "./page.mjs";
import { Relay } from "./server.mjs";

const UPDATE = process.env.UPDATE_SCREENSHOT === "1";
const GUIDE = path.join(import.meta.dirname, "../../docs/src/relay.png");
const MAX_BYTES = 200_000;

let browser, relay, directory;
before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "relay-"));
  relay = await Relay.start(UPDATE ? "127.0.0.1:1999" : undefined);
  browser = await launch();
});
after(async () => {
  await Promise.all([browser?.close(), relay?.stop()]);
  await rm(directory, { recursive: true });
});

/** Lets a trace grow, where it is to be looked at. */
const passes = (seconds) => pause(UPDATE ? seconds * 1000 : 0);

describe("the relay's picture", { timeout: 120_000 }, () => {
  it("shows two clients who talked, and a room that sleeps", async () => {
    const page = await RelayPage.open(browser, relay, "lobby", { colorScheme: "light", deviceScaleFactor: 1 });
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

    await page.page.mouse.move(0, 0);
    await page.page.evaluate(() => document.activeElement?.blur());
    const picture = UPDATE ? GUIDE : path.join(directory, "relay.png");
    await page.page.screenshot({ path: picture, animations: "disabled" });
    assert.equal(await page.phase(), "asleep");
    const { size } = await stat(picture);
    assert.ok(size > 10_000 && size < MAX_BYTES, `${size} bytes`);
    assert.equal(await page.page.evaluate(() => document.documentElement.scrollWidth), 1280, "nothing is cut off");
  });
});
