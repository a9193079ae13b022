// Places: the digits after the point of a fraction in base 36. Between two there is always a third, so
// moving a card changes no other card.

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz";

/** A place above `low` and below `high`; without `high`, only above `low`. `low` may be empty: the bottom. */
export function between(low, high) {
  let place = "";
  let bounded = high !== undefined;
  for (let i = 0; ; i++) {
    const least = i < low.length ? DIGITS.indexOf(low[i]) : 0;
    const above = !bounded ? 36 : i < high.length ? DIGITS.indexOf(high[i]) : 0;
    if (above - least > 1) return place + DIGITS[(least + above) >> 1];
    place += DIGITS[least];
    if (above > least) bounded = false; // whatever follows is below `high` now
  }
}

/** Orders two items of a column: the greatest place on top. */
export function byPlace(a, b) {
  if (a.place !== b.place) return a.place < b.place ? 1 : -1;
  return a.id < b.id ? 1 : -1;
}

/** An id that no other item has, in the order of age, also if this clock is behind that of `newest`. */
export function newId(newest = "0") {
  const now = Math.max(Date.now(), Number.parseInt(newest.slice(0, 12), 16));
  const [chance] = crypto.getRandomValues(new Uint32Array(1));
  return now.toString(16).padStart(12, "0") + chance.toString(16).padStart(8, "0");
}

/** The place of a new item: above all that are older, and above `top`, the place of the topmost. */
export function placeOfNew(id, top) {
  const place = `${id}i`;
  return top !== undefined && top >= place ? between(top) : place;
}
