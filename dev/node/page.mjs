import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";

import { chromium } from "playwright-core";

import { flat } from "./server.mjs";
import { until } from "./until.mjs";

/** Nothing but the page: no sandbox (it needs privileges), no services of the browser's own. */
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-quic"];

/** The browser of the tests: what `CHROMIUM` names. */
export function browser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS });
}

/** What Chromium logs of its own accord when no server listens. */
export const NOBODY_THERE = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket connection to/;

/** Nothing went wrong on the pages but what is allowed to, and they asked nobody but their server. */
export function assertClean(pages, server, allowed) {
  for (const { errors, requests } of pages) {
    assert.deepEqual(errors.filter((error) => !allowed?.test(error)), []);
    assert.ok(requests.length > 3, "they did ask");
    assert.deepEqual([...new Set(requests.map((url) => new URL(url).host))], [server.host]);
  }
}

/** A page of a room, in a browser context of its own; its parts are found by their `data-testid`s. */
class Page {
  /** The addresses of all requests and WebSockets. */
  requests = [];
  /** What the console said of errors, and exceptions. */
  errors = [];

  /**
   * Opens the page of a room, and waits until it is ready. `prepare` does something before with the
   * browser's page; the other options are those of the browser's context.
   */
  static async open(browser, server, room, { prepare, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = new this(await context.newPage());
    await prepare?.(page.page);
    await page.page.goto(`${server.url}/?${new URLSearchParams({ room })}`);
    await page.ready();
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

  /** Waits until a part of the page has this text. */
  async shows(testid, text, within = this) {
    await until(`${testid} says ${text}`, async () => (await within.part(testid).textContent()) === text, {
      seen: async () => ({ testid, text: await within.part(testid).textContent() }),
    });
  }
}

/** The relay's page. */
export class RelayPage extends Page {
  /** Its two first clients are connected. */
  async ready() {
    await this.client(0).is("connected");
    await this.client(1).is("connected");
  }

  client(n) { return new PageClient(this, n); }

  /** Adds a client by its button, and waits until it is connected. */
  async add(n) {
    await this.part("add-client").click();
    await this.client(n).is("connected");
    return this.client(n);
  }

  phase() { return this.part("room-phase").textContent(); }

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
    return Promise.all(seen.slice(0, count).map(async (response) => flat(await response.json())));
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

/** The board's page. */
export class BoardPage extends Page {
  /** Its first items are there. */
  ready() { return this.is("All changes saved"); }

  /** Waits until it says this of its connection and its changes. */
  is(state) { return this.shows("state", state); }

  column(name) { return this.part(`column-${name}`); }

  /** The card with this text. */
  card(text) { return this.part("card").filter({ has: this.page.getByText(text, { exact: true }) }); }

  /** Types a card into a column, and sends it with the Enter key. */
  async add(column, text) {
    await this.column(column).getByRole("textbox", { name: "Add a card" }).fill(text);
    await this.column(column).getByRole("textbox", { name: "Add a card" }).press("Enter");
  }

  /** Presses one of a card's buttons. */
  async press(text, button) {
    await this.card(text).hover();
    await this.card(text).getByTestId(button).click();
  }

  /** Types another text into a card. */
  async rewrite(text, other) {
    await this.card(text).getByTestId("text").click({ position: { x: 4, y: 8 } });
    await this.page.keyboard.press("ControlOrMeta+A");
    await this.page.keyboard.insertText(other);
    await this.page.keyboard.press("Enter");
  }

  /** The columns, each with its cards as `text (colour, saved)`, the topmost first. */
  async cards() {
    return this.page.evaluate(() => Object.fromEntries(["todo", "doing", "done"].map((name) => {
      const cards = document.querySelectorAll(`[data-testid=column-${name}] .card`);
      const part = (card, name) => card.querySelector(`.${name}`).textContent;
      return [name, [...cards].map((card) => `${part(card, "text")} (${card.dataset.color}, ${part(card, "saved")})`)];
    })));
  }

  /** Waits until it has these cards, and no others. */
  async has(cards) {
    const wanted = { todo: [], doing: [], done: [], ...cards };
    await until(`has ${JSON.stringify(wanted)}`, async () => isDeepStrictEqual(await this.cards(), wanted), {
      seen: () => this.cards(),
    });
  }

  /** How many cards are drawn. */
  async count() { return this.part("card").count(); }
}

/** The editor's page. */
export class EditorPage extends Page {
  /** It has what the room has. */
  ready() { return this.shows("state", "all changes are stored"); }

  /** The text, as it is drawn. */
  async text() {
    const lines = await this.page.locator(".cm-line").evaluateAll((lines) => lines.map((line) => {
      const copy = line.cloneNode(true);
      for (const other of copy.querySelectorAll(".cm-ySelectionCaret, .cm-placeholder")) other.remove();
      return copy.textContent;
    }));
    return lines.join("\n");
  }

  /** Waits until it shows this text. */
  async reads(text) {
    await until(`reads ${JSON.stringify(text)}`, async () => (await this.text()) === text, { seen: () => this.text() });
  }

  /** Types at the end of the text, or where `at` leads to. */
  async type(text, at = "ControlOrMeta+End") {
    await this.page.locator(".cm-content").click();
    await this.page.keyboard.press(at);
    await this.page.keyboard.type(text);
  }

  /** Who it says is here. */
  async people() {
    return (await this.part("people").locator("li").allTextContents()).sort();
  }

  /** Waits until it says that these are here. */
  async sees(...people) {
    const wanted = [...people].sort();
    await until(`sees ${wanted}`, async () => isDeepStrictEqual(await this.people(), wanted), { seen: () => this.people() });
  }

  /** Takes a name. */
  name(name) { return this.part("name").fill(name); }

  /** How many cursors of others are drawn. */
  cursors() { return this.page.locator(".cm-ySelectionCaret").count(); }
}

/** The chat's page. */
export class ChatPage extends Page {
  /** It asks for a name. */
  ready() { return this.shows("state", "choose a name to join"); }

  /** Takes a name, and waits until it is in. */
  async join(name) {
    await this.part("name").fill(name);
    await this.part("join").click();
    await this.shows("state", "connected");
  }

  /** Types, and does not send. */
  async type(text) { await this.part("text").pressSequentially(text); }

  press(key) { return this.part("text").press(key); }

  /** Types and sends. */
  async say(text) {
    await this.part("text").fill(text);
    await this.press("Enter");
  }

  /** What was said and is stored, each as `name: text`. */
  async said() {
    return this.part("messages").locator("li:not(.waiting)").evaluateAll((items) => {
      let from;
      return items.map((item) => {
        from = item.querySelector("b")?.textContent ?? from;
        return `${from}: ${item.querySelector("p").textContent}`;
      });
    });
  }

  /** Waits until it shows that this was said, and that nothing waits. */
  async reads(...said) {
    const all = async () => [...await this.said(), ...await this.part("messages").locator(".waiting:not(.refused) p").allTextContents()];
    await until(`reads ${said}`, async () => isDeepStrictEqual(await all(), said), { seen: all });
  }

  /** The texts that were refused. */
  refused() { return this.part("messages").locator(".refused p").allTextContents(); }

  /** Who it says is here. */
  async people() { return (await this.part("people").locator("li").allTextContents()).sort(); }

  /** Waits until it says that these are here. */
  async sees(...people) {
    const wanted = [...people].sort();
    await until(`sees ${wanted}`, async () => isDeepStrictEqual(await this.people(), wanted), { seen: () => this.people() });
  }
}

/** The page of the reminders. */
export class RemindersPage extends Page {
  ready() { return this.shows("state", "connected"); }

  /** Sets a reminder; `when` is what the page offers. */
  async remind(text, when) {
    await this.part("text").fill(text);
    await this.part("when").selectOption({ label: when });
    await this.part("remind").click();
  }

  cancel(text) { return this.page.getByRole("button", { name: `Cancel: ${text}` }).click(); }

  /** The texts of a list: `reminders` or `rang`. */
  texts(list) { return this.part(list).locator("p").allTextContents(); }

  /** Waits until a list has these texts. */
  async has(list, ...texts) {
    await until(`${list}: ${texts}`, async () => isDeepStrictEqual(await this.texts(list), texts), {
      seen: () => this.texts(list),
    });
  }
}
