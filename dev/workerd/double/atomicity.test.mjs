// What was told is stored: on a double of the platform that notes in which order it was asked to do what.

import assert from "node:assert/strict";
import { before, describe, it } from "node:test";

import { Platform, classes } from "./platform.mjs";

/** Three rows, an alarm, and an answer behind them. */
const WRITE = JSON.stringify({
  do: "all",
  commands: [
    ...["a", "b", "c"].map((key) => ({ do: "put", key, value: 1 })),
    { do: "set-alarm", within: 3_600_000 },
  ],
});

let Probes, hear;

describe("a batch", { timeout: 60_000 }, () => {
  before(async () => { ({ Probes, __hear: hear } = await classes()); });

  /** What the platform was asked to do for a message that writes. */
  async function written(options) {
    const platform = new Platform("room", options);
    const object = new Probes(platform.ctx, {});
    const { status, end } = await platform.connect(object, "ada");
    assert.equal(status, 101);
    assert.deepEqual(platform.notes, ["accept"]);
    platform.notes.length = 0;
    await hear(object, end, WRITE);
    await platform.settle();
    return platform.notes;
  }

  /** All of the batch is applied, alarm and all, in one transaction, and then the first frame leaves. */
  function assertAppliedFirst(notes) {
    const [begin, commit, frame] = ["begin", "commit", "send"].map((what) => notes.findIndex((note) => note.startsWith(what)));
    assert.ok(0 <= begin && begin < commit && commit < frame, notes.join(", "));
    const inside = notes.slice(begin + 1, commit);
    assert.deepEqual([...new Set(inside)].sort(), ["alarm", "write"], notes.join(", "));
    assert.ok(inside.filter((note) => note === "write").length >= 3, notes.join(", "));
    assert.equal(notes.filter((note) => note === "begin").length, 1, notes.join(", "));
  }

  it("is applied, its alarm in it, before the first frame leaves", async () => {
    assertAppliedFirst(await written());
  });

  it("that is applied after the first frame is noticed", async () => {
    const notes = await written({ hasty: true });
    assert.ok(notes.some((note) => note.startsWith("send")) && notes.includes("commit"), notes.join(", "));
    assert.throws(() => assertAppliedFirst(notes), assert.AssertionError);
  });

  it("that cannot be applied is undone as a whole, and nothing of what followed it leaves", async () => {
    const notes = await written({ alarmFails: true });
    assert.ok(notes.includes("rollback") && !notes.includes("commit"), notes.join(", "));
    assert.ok(!notes.some((note) => note.startsWith("send") && !note.includes('"event":"error"')), notes.join(", "));
  });
});
