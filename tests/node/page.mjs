import { isDeepStrictEqual } from "node:util";

import { chromium } from "playwright-core";

import { until } from "./until.mjs";

/** Nothing but the page: no sandbox (it needs privileges), no services of the browser's own. */
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-quic"];

/** The browser of the tests: what `CHROMIUM` names. */
export function browser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS });
}

/** The relay's page, in a browser context of its own, found by its `data-testid`s. */
export class RelayPage {
  /** The addresses of all requests and WebSockets. */
  requests = [];
  /** What the console said of errors, and exceptions. */
  errors = [];

  /** Opens the page of a room, and waits until its two first clients are connected. */
  static async open(browser, server, room, options) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = new RelayPage(await context.newPage());
    await page.page.goto(`${server.url}/?${new URLSearchParams({ room })}`);
    await page.client(0).is("connected");
    await page.client(1).is("connected");
    return page;
  }

  constructor(page) {
    this.page = page;
    page.on("request", (request) => this.requests.push(request.url()));
    page.on("websocket", (socket) => this.requests.push(socket.url()));
    page.on("pageerror", (error) => this.errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") this.errors.push(message.text());
    });
  }

  close() { return this.page.context().close(); }

  part(testid) { return this.page.getByTestId(testid); }

  client(n) { return new PageClient(this, n); }

  /** Adds a client by its button, and waits until it is connected. */
  async add(n) {
    await this.part("add-client").click();
    await this.client(n).is("connected");
    return this.client(n);
  }

  phase() { return this.part("room-phase").textContent(); }

  /** Waits until a part of the page has this text. */
  async shows(testid, text, within = this) {
    await until(`${testid} says ${text}`, async () => (await within.part(testid).textContent()) === text, {
      seen: async () => ({ testid, text: await within.part(testid).textContent() }),
    });
  }

  /** How much of its life the room slept, in per cent. */
  async slept() { return Number.parseFloat(await this.part("room-slept").textContent()); }

  /** Puts the room to sleep by its button. */
  async putToSleep() {
    await this.part("sleep-now").click();
    await this.shows("room-phase", "asleep");
  }

  /** The stats that the page gets with its next polls, so many. */
  async polls(count) {
    const seen = [];
    const look = (response) => { if (new URL(response.url()).pathname === "/stats") seen.push(response); };
    this.page.on("response", look);
    await until(`${count} polls`, () => seen.length >= count, { seen: () => seen.length });
    this.page.off("response", look);
    return Promise.all(seen.slice(0, count).map((response) => response.json()));
  }
}

/** One of the clients on a page. */
class PageClient {
  constructor(page, n) {
    this.page = page;
    this.panel = page.part(`client-${n}`);
  }

  part(testid) { return this.panel.getByTestId(testid); }

  /** Waits until a part of it has this text. */
  shows(testid, text) { return this.page.shows(testid, text, this); }

  /** Waits until it wants to be, and is, in this state. */
  async is(state) {
    await this.shows("intended", state);
    await this.shows("actual", state);
  }

  /** Waits until it was told so many connections, and the mode that goes with them. */
  async counts(connections) {
    await this.shows("count", String(connections));
    await this.shows("mode", connections > 1 ? "multi" : "solo");
  }

  /** How many sockets it has open or half open. */
  async sockets() { return Number(await this.panel.getAttribute("data-sockets")); }

  toggle() { return this.part("toggle").click(); }

  /** Types a message and sends it, by the button or the Enter key. */
  async say(text, { enter = false } = {}) {
    await this.part("input").fill(text);
    await (enter ? this.part("input").press("Enter") : this.part("send").click());
  }

  /** The messages in its log, as they are read out: `hello \u2192, sent`, or `\u2190 from Ada hello`. */
  async messages() {
    const lines = await this.part("log").locator("[data-kind=own], [data-kind=peer]").allTextContents();
    return lines.map((line) => line.replaceAll(/\s+/g, " ").trim());
  }

  /** What its log says of connections, lost and won. */
  news() { return this.part("log").locator("[data-kind=system]").allInnerTexts(); }

  /** Waits until its log has these messages. */
  async reads(...messages) {
    const read = async () => isDeepStrictEqual(await this.messages(), messages);
    await until(`reads ${JSON.stringify(messages)}`, read, { seen: () => this.messages() });
  }
}
