import { setTimeout as pause } from "node:timers/promises";

/** Within how many milliseconds a thing must happen that a test waits for. Nothing here is a measurement. */
export const DEADLINE = 15_000;

/**
 * Asks `condition` again and again until it answers with something true, and returns that. `what` says in
 * the failure what has not happened; the last answer, or a function's view of things (`seen`), stands
 * beside it.
 */
export async function until(what, condition, { deadline = DEADLINE, seen } = {}) {
  const end = performance.now() + deadline;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    if (performance.now() > end) {
      const last = JSON.stringify(seen ? await seen() : answer);
      throw new Error(`${what}: not within ${deadline / 1000} s; last seen: ${last}`);
    }
    await pause(10);
  }
}
