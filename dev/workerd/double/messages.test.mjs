// What a client says arrives as it is, and so does what it is answered: on a double of the platform, with the glue that
// writes messages into wasm's memory.

import assert from "node:assert/strict";
import { before, describe, it } from "node:test";

import { Platform, classes } from "./platform.mjs";

/** Around where a text is written in another way, where more space is asked for, and where it is given back. */
const LENGTHS = [0, 1, 127, 255, 256, 257, 1365, 1366, 4095, 4096, 4097, 65_536, 65_537, 200_000];

const TEXTS = {
  "of ASCII": (length) => "x".repeat(length),
  "of two bytes a unit": (length) => "é".repeat(length),
  "of three bytes a unit": (length) => "€".repeat(length),
  "of pairs": (length) => "😀".repeat(length / 2),
  "that ends in another letter": (length) => "x".repeat(Math.max(length - 1, 0)) + "ß",
};

/** The limit of these rooms, in bytes. */
const LIMIT = 1 << 20;

let Probes, hear;

describe("a message", { timeout: 120_000 }, () => {
  before(async () => { ({ Probes, __hear: hear } = await classes()); });

  async function room() {
    const platform = new Platform("room");
    const object = new Probes(platform.ctx, {});
    const { end } = await platform.connect(object, "ada");
    return { platform, object, end };
  }

  /** What the client is told, in order. */
  async function answers(messages) {
    const { platform, object, end } = await room();
    end.said.length = 0;
    for (const message of messages) await hear(object, end, message);
    await platform.settle();
    return end.said;
  }

  for (const [kind, make] of Object.entries(TEXTS)) {
    it(`${kind} is the same text, short or long`, async () => {
      // Each beside a short one, which finds the space as the long one has left it.
      const texts = LENGTHS.flatMap((length) => [make(length), `short ${length}`]);
      assert.deepEqual(await answers(texts), texts);
    });
  }

  it("of bytes is the same bytes, short or long", async () => {
    const all = LENGTHS.map((length) => Uint8Array.from({ length }, (_, i) => i * 7));
    const heard = await answers(all.map((bytes) => bytes.buffer));
    assert.deepEqual(heard.map((bytes) => Buffer.from(bytes)), all.map((bytes) => Buffer.from(bytes)));
  });

  it("with half of a pair has the sign for what cannot be read", async () => {
    assert.deepEqual(await answers(["a\ud800b", `${"x".repeat(300)}\udc00`]), ["a\ufffdb", `${"x".repeat(300)}\ufffd`]);
  });

  it("that begins with the mark of an order of bytes keeps it", async () => {
    assert.deepEqual(await answers(["\ufeffa"]), ["\ufeffa"]);
  });

  it("is not taken for what was heard, though it is as long", async () => {
    const put = '{"do":"put","key":"a","value":"0123456789"}';
    const answer = '{"re":"get","value":"0123456789"}';
    // As long as its answer, with the same beginning and end.
    const get = '{"do":"get",           "key":"a"}';
    assert.equal(get.length, answer.length);
    const frames = '{"do":"frames","frames":1,"bytes":37}';
    const texts = await answers([put, get, "abc", "éa", frames]);
    assert.deepEqual(texts.slice(-4), [answer, "abc", "éa", "0".repeat(frames.length)]);
  });

  it("that comes without the glue is the same, as in a Worker of worker-build", async () => {
    const { object, end } = await room();
    end.said.length = 0;
    object.webSocketMessage(end, "é".repeat(300));
    object.webSocketMessage(end, Uint8Array.of(1, 2, 3).buffer);
    assert.equal(end.said[0], "é".repeat(300));
    assert.deepEqual([...end.said[1]], [1, 2, 3]);
    assert.equal(object.webSocketMessage({}, "hello"), undefined);
  });

  it("finds its place when wasm's memory has grown", async () => {
    const { object, end } = await room();
    end.said.length = 0;
    const others = [];
    for (let turn = 0; turn < 20; turn++) {
      for (let i = 0; i < 100; i++) others.push(new Probes(new Platform(`other-${turn}-${i}`).ctx, {}));
      await hear(object, end, `text ${turn}`);
      await hear(object, end, Uint8Array.of(turn).buffer);
    }
    const told = others.flatMap((_, i) => (i % 100 ? [] : [`text ${i / 100}`, String(i / 100)]));
    assert.deepEqual(end.said.map(String), told);
  });

  it("that is too long ends its connection alone", async () => {
    const { platform, object, end } = await room();
    const other = await platform.connect(object, "grace");
    for (const message of ["x".repeat(LIMIT + 1), new ArrayBuffer(LIMIT + 1), "€".repeat(LIMIT / 3 + 1)]) {
      const { end } = await platform.connect(object, "eve");
      platform.notes.length = 0;
      await hear(object, end, message);
      await platform.settle();
      assert.ok(platform.notes.includes("close 1009"), platform.notes.join(", ").slice(0, 200));
    }
    for (const { said } of [end, other.end]) said.length = 0;
    await hear(object, end, "still here");
    assert.deepEqual(end.said, ["still here"]);
  });

  it("to a socket that is closed harms nothing", async () => {
    const { platform, object, end } = await room();
    const deaf = await platform.connect(object, "grace");
    deaf.end.send = () => { throw new TypeError("Can't call WebSocket send() after close()."); };
    await hear(object, deaf.end, "an answer to nobody");
    await hear(object, end, JSON.stringify({ do: "broadcast", text: "to all" }));
    end.said.length = 0;
    await hear(object, end, "still here");
    await platform.settle();
    assert.deepEqual(end.said, ["still here"]);
  });

  it("of a socket that is no connection's is not heard", async () => {
    const { object, platform } = await room();
    platform.notes.length = 0;
    assert.equal(hear(object, { send: () => assert.fail("it is answered") }, "hello"), undefined);
    assert.deepEqual(platform.notes, []);
  });
});
