// What the guide's page `docs/src/web.md` lets its reader see, seen by headless Chromium. The page's own
// commands have started the server and Vite, and its own files are what Vite serves: `cargo xtask package`.

import assert from "node:assert/strict";

import { browser as launch } from "./page.mjs";
import { until } from "./until.mjs";

const VITE = 5173;
/** A browser takes every name under `localhost` for this machine; the server does not. */
const OTHER_SITE = `http://page.localhost:${VITE}`;

const STEPS = {
  "two windows hear each other": async (browser) => {
    const [here, there] = [await open(browser), await open(browser)];
    for (const page of [here, there]) await says(page, "connected");
    await talk(here, there);
    assert.deepEqual(asked(here), ["localhost:1999"]);
  },
  "another site is refused": async (browser) => {
    const page = await open(browser, OTHER_SITE);
    await until("the server answers 403", () => page.errors.some((error) => / 403$/.test(error)), {
      seen: () => page.errors,
    });
    await says(page, "not connected");
  },
  "another site is let in": async (browser) => {
    const [here, there] = [await open(browser, OTHER_SITE), await open(browser)];
    for (const page of [here, there]) await says(page, "connected");
    await talk(here, there);
    assert.deepEqual(asked(here), ["localhost:1999"]);
  },
  "the proxy passes on": async (browser) => {
    const [here, there] = [await open(browser), await open(browser)];
    for (const page of [here, there]) await says(page, "connected");
    await talk(here, there);
    assert.deepEqual(asked(here), [`localhost:${VITE}`]);
  },
};

/** Opens the page, and remembers what it asks for rooms and what it complains of. */
async function open(browser, url = `http://localhost:${VITE}`) {
  const page = await browser.newPage();
  page.errors = [];
  page.sockets = [];
  page.on("console", (message) => { if (message.type() === "error") page.errors.push(message.text()); });
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("websocket", (socket) => page.sockets.push(new URL(socket.url())));
  await page.goto(url);
  return page;
}

async function says(page, text) {
  const said = () => page.locator("p").textContent();
  await until(`the page says ${text}`, async () => (await said()) === text, {
    seen: async () => [await said(), page.errors],
  });
}

/** Each of the two says hello, and both hear both. */
async function talk(here, there) {
  const heard = (page) => page.locator("pre").textContent();
  for (const [speaker, text] of [[here, "hello"], [there, "hello\nhello"]]) {
    await speaker.getByRole("button", { name: "Say hello" }).click();
    for (const page of [here, there]) {
      await until(`hears ${text}`, async () => (await heard(page)) === text, { seen: () => heard(page) });
    }
  }
}

/** Which hosts the page has asked for a room. */
function asked(page) {
  const sockets = page.sockets.filter((url) => url.pathname === "/parties/echo/lobby");
  return [...new Set(sockets.map((url) => url.host))];
}

const step = STEPS[process.argv[2]];
assert.ok(step, `no such step: ${process.argv[2]}; there are: ${Object.keys(STEPS).join(", ")}`);
const browser = await launch();
try {
  await step(browser);
} finally {
  await browser.close();
}
