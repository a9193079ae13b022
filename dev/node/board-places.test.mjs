// The places of the board's cards: between any two there is a third.

import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { between, byPlace, newId, placeOfNew } from "../../examples/board/src/page/place.js";

const PLACE = /^[0-9a-z]{0,199}[1-9a-z]$/; // what the server takes

/** Whole numbers below `n`, the same in every run. */
function numbers(seed) {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

describe("a place", () => {
  it("is found anywhere in a column, however often", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const random = numbers(seed);
      const column = []; // the lowest first
      for (let n = 0; n < 200; n++) {
        const at = random(column.length + 1);
        const place = between(column[at - 1] ?? "", column[at]);
        assert.match(place, PLACE);
        if (at > 0) assert.ok(place > column[at - 1], `${place} above ${column[at - 1]}`);
        if (at < column.length) assert.ok(place < column[at], `${place} below ${column[at]}`);
        column.splice(at, 0, place);
      }
    }
  });

  it("is found 500 times at one end, before the server finds it too long", () => {
    for (const next of [(place) => between("", place), (place) => between(place), (place) => between(place, "j")]) {
      let place = "i";
      for (let n = 0; n < 500; n++) place = next(place);
      assert.match(place, PLACE);
    }
  });

  it("of a new card is above all others, also where a clock is wrong", () => {
    const id = newId();
    assert.match(id, /^[0-9a-f]{20}$/);
    const ahead = "f".repeat(20);
    assert.match(newId(ahead), /^f{12}[0-9a-f]{8}$/);
    for (const top of [undefined, "1", "zzzz", `${id}i`, between(`${id}i`)]) {
      const place = placeOfNew(id, top);
      assert.match(place, PLACE);
      assert.ok(top === undefined || place > top, `${place} above ${top}`);
    }
    assert.ok(byPlace({ id: "a", place: "b" }, { id: "b", place: "a" }) < 0, "the greatest is on top");
    assert.ok(byPlace({ id: "a", place: "a" }, { id: "b", place: "a" }) > 0, "then the newest");
  });
});
