// The page: CodeMirror on a text of a Yjs document, which the provider keeps equal to the room's.
import { defaultKeymap, indentWithTab } from "@codemirror/commands";
import { markdown } from "@codemirror/lang-markdown";
import { bracketMatching, defaultHighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers, placeholder } from "@codemirror/view";
import { yCollab, yUndoManagerKeymap } from "y-codemirror.next";
import YProvider from "y-partyserver/provider";
import * as Y from "yjs";

const COLORS = ["#d9480f", "#2b8a3e", "#1864ab", "#862e9c", "#c2255c", "#5f3dc4", "#0b7285", "#e67700"];
const NAMES = ["Ada", "Barbara", "Edsger", "Grace", "Hedy", "Katherine", "Linus", "Margaret", "Niklaus", "Radia"];
const any = (list) => list[Math.floor(Math.random() * list.length)];
const find = (id) => document.getElementById(id);

const room = new URLSearchParams(location.search).get("room") || "notes";
find("room").textContent = room;

const name = sessionStorage.name || (sessionStorage.name = any(NAMES));
const color = sessionStorage.color || (sessionStorage.color = any(COLORS));
find("name").value = name;

const doc = new Y.Doc();
const text = doc.getText("text");
// Tabs of one browser do not talk to one another here: all that one sees of the other came through the room.
const provider = new YProvider(location.host, room, doc, { disableBc: true });
const { awareness } = provider;
awareness.setLocalStateField("user", { name, color, colorLight: `${color}33` });
find("name").addEventListener("input", ({ target }) => {
  sessionStorage.name = target.value;
  awareness.setLocalStateField("user", { name: target.value || "?", color, colorLight: `${color}33` });
});

const status = () => {
  const state = provider.wsconnected ? (provider.synced ? "synced" : "connected") : "connecting";
  document.body.dataset.state = state;
  find("state").textContent = { synced: "all changes are stored", connected: "connected", connecting: "connecting …" }[state];
};
provider.on("status", status);
provider.on("synced", status);
status();

const people = () => {
  const list = [...awareness.getStates()].filter(([, state]) => state.user);
  find("people").replaceChildren(...list.map(([client, { user }]) => {
    const item = document.createElement("li");
    item.textContent = client === doc.clientID ? `${user.name} (you)` : user.name;
    item.style.setProperty("--color", user.color);
    return item;
  }));
};
awareness.on("change", people);
people();

const undo = new Y.UndoManager(text);
const view = new EditorView({
  parent: find("editor"),
  state: EditorState.create({
    doc: text.toString(),
    extensions: [
      lineNumbers(),
      drawSelection(),
      highlightActiveLine(),
      bracketMatching(),
      syntaxHighlighting(defaultHighlightStyle, { fallback: true }),
      markdown(),
      EditorView.lineWrapping,
      placeholder("Open this page twice, and write."),
      keymap.of([...yUndoManagerKeymap, ...defaultKeymap, indentWithTab]),
      yCollab(text, awareness, { undoManager: undo }),
    ],
  }),
});
view.focus();
