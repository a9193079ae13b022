// Documents of partykit beside those of y-partyserver: frames, cursors after a sleep, and the keystroke that wakes a
// large document. `cargo xtask bench --only yjs` builds the servers and starts this. `--quick`: small figures, to see
// whether it runs. `--check`: fails when a goal is missed.

import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";

import { until } from "../node/until.mjs";
import { Client, dice, pause, Traffic } from "./client.mjs";
import { each, NAMES } from "./servers.mjs";

const QUICK = process.argv.includes("--quick");
const CHECK = process.argv.includes("--check");
const CROWDS = QUICK ? [5] : [5, 20, 50];
const WAKES = QUICK ? 3 : 30;
const INSERTIONS = QUICK ? 500 : 20_000;
const ALONE_SECONDS = QUICK ? 5 : 75;

const [OURS, WORKER, ANCHOR] = NAMES;

/** Figures by row, then by server. */
const rows = new Map();
const note = (row, server, figure) => rows.set(row, { ...rows.get(row), [server]: figure });

/** What `count` clients of one room hear when they join, when one moves its cursor, types, and vanishes. */
async function frames(name, server, count) {
  const traffic = new Traffic();
  const room = `crowd of ${count}`;
  const clients = [];
  for (let n = 0; n < count; n += 1) clients.push(await Client.join(server.host, room, traffic));
  await traffic.quiet();
  note(`frames of ${count} joins`, name, traffic.received);
  const [first, second, ...others] = clients;
  const times = 5;
  const average = async (row, act) => {
    traffic.reset();
    for (let n = 0; n < times; n += 1) {
      act(n);
      await traffic.quiet();
    }
    note(row, name, traffic.received / times);
  };
  await average(`frames of a cursor's move, ${count} clients`,
    (n) => first.awareness.setLocalState({ cursor: { x: n, y: n }, name: "Ada" }));
  await average(`frames of a keystroke, ${count} clients`, () => first.text.insert(0, "x"));
  traffic.reset();
  second.vanish();
  await until("one that vanishes is missed", () => traffic.received > 0);
  await traffic.quiet();
  note(`frames of one that vanishes, ${count} clients`, name, traffic.received);
  note(`who still sees it, ${count} clients`, name, others.filter((other) => other.sees(second)).length);
  clients.forEach((client) => client.leave());
}

/** Who sees whom after a sleep. */
async function sleep(name, server) {
  const room = "sleepers";
  const [ada, grace] = [await Client.join(server.host, room), await Client.join(server.host, room)];
  ada.awareness.setLocalState({ name: "Ada" });
  grace.awareness.setLocalState({ name: "Grace" });
  ada.text.insert(0, "hello");
  await until("both know one another", () => grace.sees(ada) && ada.sees(grace) && `${grace.text}` === "hello");
  await settled(name);
  await server.sleep(room);
  const joiner = await Client.join(server.host, room);
  await pause(1000);
  note("cursors that a joiner sees after a sleep, of 2", name, [ada, grace].filter((it) => joiner.sees(it)).length);
  await settled(name);
  await server.sleep(room);
  ada.vanish();
  await pause(3000);
  note("who still sees one that vanished during a sleep", name, [grace, joiner].filter((it) => it.sees(ada)).length);
  for (const client of [ada, grace, joiner]) client.leave();
}

/** y-partyserver saves two seconds after a change, and would keep less than it has when it is evicted before. */
async function settled(name) { if (name === ANCHOR) await pause(2500); }

/** A text that was written from everywhere: the most that Yjs has to keep of it. */
function manuscript() {
  const doc = new Y.Doc();
  const text = doc.getText("text");
  const words = "some words of a text that somebody has written, yes ";
  const random = dice(1);
  doc.transact(() => {
    for (let n = 0; n < INSERTIONS; n += 1) text.insert(random(n * words.length + 1), words);
  });
  return { update: Y.encodeStateAsUpdate(doc), length: text.length };
}

/** From the keystroke of a client to its arrival at another one, in milliseconds. */
async function keystroke(from, to) {
  const begun = performance.now();
  const arrived = new Promise((resolve) => to.doc.once("update", () => resolve(performance.now() - begun)));
  from.text.insert(0, "k");
  return arrived;
}

/** How long a keystroke takes in a room that is awake, and in one that it wakes. */
async function wake(name, server, { update, length }) {
  const room = "manuscript";
  const [ada, grace] = [await Client.join(server.host, room), await Client.join(server.host, room)];
  Y.applyUpdate(ada.doc, update);
  await until("the other has the text", () => grace.text.length === length, { deadline: 120_000 });
  const [warm, cold] = [[], []];
  for (let n = 0; n < WAKES; n += 1) warm.push(await keystroke(ada, grace));
  for (let n = 0; n < WAKES; n += 1) {
    await settled(name);
    await server.sleep(room);
    cold.push(await keystroke(ada, grace));
  }
  note("ms of a keystroke, 1.7 MB, awake, p50", name, quantile(warm, 0.5));
  note("ms of a keystroke that wakes 1.7 MB, p50", name, quantile(cold, 0.5));
  note("ms of a keystroke that wakes 1.7 MB, most", name, quantile(cold, 1));
  await settled(name);
  await server.sleep(room);
  const begun = performance.now();
  const joiner = await Client.join(server.host, room);
  note("ms until a joiner that wakes 1.7 MB has it", name, performance.now() - begun);
  for (const client of [ada, grace, joiner]) client.leave();
}

const quantile = (values, part) => values.sort((a, b) => a - b)[Math.floor((values.length - 1) * part)];

/** How often plain y-websocket connects that is alone in its room: it gives a silent server up after 30 s. */
async function alone(name, server) {
  let opens = 0;
  const traffic = new Traffic();
  const Socket = class extends traffic.polyfill {
    constructor(url) {
      super(url);
      this.on("open", () => { opens += 1; });
    }
  };
  const url = `ws://${server.host}/parties/main`;
  const provider = new WebsocketProvider(url, "alone", new Y.Doc(), { WebSocketPolyfill: Socket, disableBc: true });
  await pause(ALONE_SECONDS * 1000);
  note(`times that y-websocket connects in ${ALONE_SECONDS} s, alone`, name, opens);
  provider.destroy();
}

const manuscripts = manuscript();
await each(async (name, server) => {
  for (const count of CROWDS) await frames(name, server, count);
  await sleep(name, server);
  await wake(name, server, manuscripts);
  await alone(name, server);
  console.error(`${name}: measured`);
});

/** What has to hold: a row, what it says, and whether the figures keep it. */
const goals = [
  ...CROWDS.map((count) => [
    `frames of a cursor's move, ${count} clients`, `at most ${count}`,
    (it) => it[OURS] <= count && it[WORKER] <= count,
  ]),
  ...CROWDS.map((count) => [
    `frames of a keystroke, ${count} clients`, `${count - 1}`,
    (it) => it[OURS] === count - 1 && it[WORKER] === count - 1,
  ]),
  ...CROWDS.map((count) => [
    `who still sees it, ${count} clients`, "0", (it) => it[OURS] === 0 && it[WORKER] === 0,
  ]),
  ["frames of 50 joins", "at most 1500", (it) => it[OURS] <= 1500 && it[WORKER] <= 1500],
  ["cursors that a joiner sees after a sleep, of 2", "2", (it) => it[OURS] === 2 && it[WORKER] === 2],
  ["who still sees one that vanished during a sleep", "0", (it) => it[OURS] === 0 && it[WORKER] === 0],
  [
    "ms of a keystroke that wakes 1.7 MB, p50", "at most 10; 25 on workerd; a 30th of y-partyserver's",
    (it) => it[OURS] <= 10 && it[WORKER] <= 25 && it[ANCHOR] >= 30 * it[OURS],
  ],
  [`times that y-websocket connects in ${ALONE_SECONDS} s, alone`, "1", (it) => it[OURS] === 1 && it[WORKER] === 1],
];

const said = (figure) => (figure === undefined ? "" : Number(figure.toPrecision(3)).toString());
const missed = [];
console.log(`| measure | ${NAMES.join(" | ")} | goal | |\n|---|---:|---:|---:|---|---|`);
for (const [row, figures] of rows) {
  const [, goal = "", holds] = goals.find(([name]) => name === row) ?? [];
  const reached = holds && holds(figures);
  if (holds && !reached) missed.push(row);
  const verdict = holds ? (reached ? "reached" : "**missed**") : "";
  console.log(`| ${row} | ${NAMES.map((name) => said(figures[name])).join(" | ")} | ${goal} | ${verdict} |`);
}
if (CHECK && missed.length > 0) {
  console.error(`missed: ${missed.join("; ")}`);
  process.exit(1);
}
process.exit(0);
