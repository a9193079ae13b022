// Draws the room, and passes on what is done on the page.

import { Room } from "./room.js";

const QUIET = 3000; // milliseconds without a key until nobody types any more

const part = (id) => document.getElementById(id);
const name = new URLSearchParams(location.search).get("room") || "lounge";
const kept = `partykit chat ${name}`; // where the browser keeps the token of this room

let room;
let quiet;

document.title = `${name} · Chat`;
part("room").textContent = name;

/** Begins with a token, or asks for a name. */
function begin(token) {
  part("join").hidden = Boolean(token);
  part("say").hidden = !token;
  if (!token) {
    state("joining", "choose a name to join");
    part("name").focus();
    return;
  }
  room = new Room(name, token, { change: draw, rejected: () => { localStorage.removeItem(kept); room = null; begin(null); } });
  draw();
  part("text").focus();
}

part("join").addEventListener("submit", async (event) => {
  event.preventDefault();
  const url = `/parties/chat/${encodeURIComponent(name)}`;
  const body = JSON.stringify({ name: part("name").value });
  const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  if (!answer.ok) {
    part("why").textContent = await answer.text();
    return;
  }
  const { token } = await answer.json();
  localStorage.setItem(kept, token);
  part("why").textContent = "";
  begin(token);
});

part("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = part("text").value.trim();
  if (text) room.say(text);
  part("text").value = "";
  clearTimeout(quiet);
});

part("text").addEventListener("input", () => {
  room.typing(part("text").value !== "");
  clearTimeout(quiet);
  quiet = setTimeout(() => room?.typing(false), QUIET);
});

function state(kind, text) {
  document.body.dataset.state = kind;
  part("state").textContent = text;
}

function draw() {
  if (!room) return;
  if (room.ready) state("ready", "connected");
  else state("away", "connecting …");
  const names = Object.keys(room.people).sort((a, b) => a.localeCompare(b));
  part("people").replaceChildren(...names.map((name) => {
    const tabs = room.people[name].metas.length;
    const own = name === room.you ? " (you)" : "";
    return element("li", { title: tabs > 1 ? `${tabs} tabs` : "", style: `--hue:${hue(name)}` }, name + own);
  }));
  const typists = room.typists;
  part("typing").textContent = typists.length === 0 ? "" : typists.length === 1 ? `${typists[0]} is typing …`
    : typists.length === 2 ? `${typists[0]} and ${typists[1]} are typing …` : "several people are typing …";
  const list = part("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.replaceChildren(...room.said.map(message), ...room.outbox.map(waiting));
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function message({ from, text, when }, n) {
  const before = room.said[n - 1];
  const goesOn = before?.from === from && when - before.when < 60_000;
  const time = new Date(when).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return element("li", { className: `${from === room.you ? "own" : ""} ${goesOn ? "goes-on" : ""}`, style: `--hue:${hue(from)}` },
    goesOn ? null : element("b", {}, from), goesOn ? null : element("time", {}, time),
    element("p", {}, text));
}

function waiting({ text, refused }) {
  return element("li", { className: `own waiting ${refused ? "refused" : ""}` },
    element("p", {}, text), element("small", {}, refused ?? "not stored yet"));
}

function element(tag, { style, ...properties }, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (style) made.style.cssText = style;
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** The colour of a name. */
function hue(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

begin(localStorage.getItem(kept));
