// The board's DOM: drawn again from the model at each change, at most once a frame; a card's element
// stays the same as long as its item is there, so that nobody loses the text that they are typing.

import { Model } from "./model.js";
import { between, byPlace, placeOfNew } from "./place.js";

const COLUMNS = [["todo", "To do"], ["doing", "Doing"], ["done", "Done"]];
const COLORS = ["yellow", "green", "blue", "pink", "gray"];
const $ = (id) => document.getElementById(id);
const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

const room = new URLSearchParams(location.search).get("room") || "lobby";
const model = new Model(room, { change: drawSoon, saved: flash, refused: (why) => toast(`Not done: ${why}.`) });

// ---- Drawing ---------------------------------------------------------------------------------------

const lists = new Map(); // by column: its <ol>
const cards = new Map(); // by id: its <li>
let drawing = false;

function drawSoon() {
  if (drawing) return;
  drawing = true;
  queueMicrotask(() => { drawing = false; draw(); });
}

/** The items of a column, the topmost first. */
function column(name, items = model.items) { return items.filter((item) => item.column === name).sort(byPlace); }

function draw() {
  const items = model.items;
  const known = new Set(items.map((item) => item.id));
  for (const [id, card] of cards) if (!known.has(id)) { cards.delete(id); card.remove(); }
  for (const [name, list] of lists) {
    const inside = column(name, items);
    inside.forEach((item, n) => {
      const card = cards.get(item.id) ?? makeCard(item.id);
      dress(card, item);
      if (list.children[n] !== card) list.insertBefore(card, list.children[n] ?? null);
    });
    put(list.parentElement.querySelector(".count"), String(inside.length));
    list.dataset.empty = inside.length === 0;
  }
  drawState(items.length);
}

function dress(card, item) {
  const text = card.querySelector(".text");
  card.dataset.color = item.color;
  card.dataset.saved = item.saved;
  if (!text.isContentEditable) put(text, item.text);
  put(card.querySelector(".saved"), item.saved ? "saved" : model.online ? "saving" : "waiting");
  card.querySelector("[data-do=left]").disabled = item.column === COLUMNS[0][0];
  card.querySelector("[data-do=right]").disabled = item.column === COLUMNS.at(-1)[0];
}

function drawState(shown) {
  const { online, unsaved, loaded, total, more } = model;
  const changes = unsaved === 1 ? "1 change" : `${unsaved} changes`;
  const state = !online ? (loaded ? "offline" : "connecting") : unsaved ? "saving" : "saved";
  $("state").dataset.state = state;
  const words = { offline: "Offline", connecting: "Connecting", saving: `Saving ${changes}`, saved: "All changes saved" };
  put($("state-text"), words[state]);
  const waiting = `${changes} ${unsaved === 1 ? "waits" : "wait"} here, and will be sent`;
  put($("state-more"), state !== "offline" ? "" : unsaved ? waiting : "You can go on: changes will wait here");
  put($("people"), online ? String(model.people) : "–");
  put($("total"), !loaded ? "–" : more ? `${shown} of ${total}` : String(total));
  put($("total-unit"), total === 1 ? "card" : "cards");
  const all = total ? "All cards are loaded." : "No cards yet. Add the first one.";
  put($("shown"), !loaded ? "" : more ? `The newest ${shown} of ${total} cards are loaded.` : all);
  $("more").hidden = !more;
  $("more").disabled = !online;
}

/** A card was saved: its word lights up for a moment. */
function flash(id) {
  const word = cards.get(id)?.querySelector(".saved");
  word?.animate([{ opacity: 1, color: "var(--good)" }, { opacity: 1, color: "var(--good)", offset: .6 }, {}], 1800);
}

function toast(text) {
  put($("toast"), text);
  $("toast").hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

// ---- What a card can do ----------------------------------------------------------------------------

function makeCard(id) {
  const card = $("card-template").content.firstElementChild.cloneNode(true);
  cards.set(id, card);
  const text = card.querySelector(".text");
  const item = () => model.items.find((item) => item.id === id);
  text.onclick = () => edit(card, text);
  text.onkeydown = (event) => {
    const editing = text.isContentEditable;
    if (editing && event.key === "Escape") put(text, item().text);
    const ends = event.key === "Escape" || (event.key === "Enter" && !event.shiftKey);
    if (ends) event.preventDefault();
    if (ends && editing) text.blur();
    else if (event.key === "Enter") edit(card, text);
  };
  text.onblur = () => {
    const now = text.innerText.trim();
    const edited = text.isContentEditable;
    [text.contentEditable, card.draggable] = ["false", true];
    if (edited && now && item() && now !== item().text) model.update(id, { text: now });
    drawSoon();
  };
  card.onclick = ({ target }) => {
    const { column: name, color } = item();
    const at = COLUMNS.findIndex(([column]) => column === name);
    ({
      left: () => move(id, COLUMNS[at - 1][0], 0),
      right: () => move(id, COLUMNS[at + 1][0], 0),
      color: () => model.update(id, { color: COLORS[(COLORS.indexOf(color) + 1) % COLORS.length] }),
      delete: () => model.remove(id),
    })[target.closest("[data-do]")?.dataset.do]?.();
  };
  card.ondragstart = (event) => {
    event.dataTransfer.setData("text/plain", id);
    event.dataTransfer.effectAllowed = "move";
    dragged = id;
    requestAnimationFrame(() => { card.dataset.dragged = true; });
  };
  card.ondragend = () => { dragged = null; delete card.dataset.dragged; mark(null); };
  return card;
}

/** Lets the text be changed, until it loses the focus. */
function edit(card, text) {
  if (text.isContentEditable) return;
  [text.contentEditable, card.draggable] = ["plaintext-only", false];
  text.focus();
  getSelection().selectAllChildren(text);
  getSelection().collapseToEnd();
}

/** Puts a card into a column, this many cards from the top. */
function move(id, name, from) {
  const others = column(name).filter((item) => item.id !== id);
  const [above, below] = [others[from - 1]?.place, others[from]?.place];
  const place = above === undefined ? placeOfNew(model.newId(), below) : between(below ?? "", above);
  model.update(id, { column: name, place });
}

// ---- Dragging --------------------------------------------------------------------------------------

let dragged = null; // an id

/** Which card of a list a drop at this height would stand before, as a number from the top. */
function target(list, y) {
  const others = [...list.children].filter((card) => cards.get(dragged) !== card);
  const middle = (card) => { const { top, height } = card.getBoundingClientRect(); return top + height / 2; };
  const at = others.findIndex((card) => y < middle(card));
  return { others, at: at < 0 ? others.length : at };
}

/** Shows where a dragged card would fall. */
function mark(list, y) {
  for (const card of document.querySelectorAll("[data-mark]")) delete card.dataset.mark;
  for (const other of lists.values()) delete other.dataset.over;
  if (!list) return;
  const { others, at } = target(list, y);
  list.dataset.over = true;
  if (others[at]) others[at].dataset.mark = "above";
  else if (others.length) others.at(-1).dataset.mark = "below";
}

// ---- The page --------------------------------------------------------------------------------------

for (const [name, title] of COLUMNS) {
  const section = $("column-template").content.firstElementChild.cloneNode(true);
  const [list, form, input] = ["ol", "form", "input"].map((tag) => section.querySelector(tag));
  section.dataset.testid = `column-${name}`;
  put(section.querySelector("h2 span"), title);
  form.onsubmit = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    const id = model.newId();
    const color = { todo: "yellow", doing: "blue", done: "green" }[name];
    model.create({ id, text, column: name, color, place: placeOfNew(id, column(name)[0]?.place) });
    input.value = "";
  };
  section.ondragover = (event) => { if (dragged) { event.preventDefault(); mark(list, event.clientY); } };
  section.ondragleave = (event) => { if (!section.contains(event.relatedTarget)) mark(null); };
  section.ondrop = (event) => {
    event.preventDefault();
    if (dragged) move(dragged, name, target(list, event.clientY).at);
    mark(null);
  };
  lists.set(name, list);
  $("columns").append(section);
}

$("more").onclick = () => model.loadMore();
$("room-name").value = room;
$("window").href = location.href;
$("copy").onclick = async () => {
  await navigator.clipboard?.writeText(location.href).catch(() => {});
  put($("copy"), "Copied");
  setTimeout(() => put($("copy"), "Copy link"), 1500);
};
put($("curl"), `curl '${location.origin}/parties/board/${encodeURIComponent(room)}/items?limit=2'`);
document.title = `${room} · Board · PartyKit for Rust`;
addEventListener("beforeunload", (event) => { if (model.unsaved) event.preventDefault(); });
drawSoon();
