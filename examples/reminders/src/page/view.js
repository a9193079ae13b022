import { Room } from "./room.js";

const part = (id) => document.getElementById(id);
const name = new URLSearchParams(location.search).get("room") || "kitchen";
const room = new Room(name, show);

part("room").textContent = document.title = `Reminders of ${name}`;
part("remind").addEventListener("submit", (event) => {
  event.preventDefault();
  room.remind(part("text").value, JSON.parse(part("when").value));
  part("text").value = "";
});
setInterval(tick, 200);

function show() {
  document.body.dataset.state = room.ready ? "ready" : "away";
  part("state").textContent = room.ready ? "connected" : "connecting …";
  part("why").textContent = room.refused;
  part("reminders").replaceChildren(...room.reminders.map((reminder) => {
    const cancel = element("button", "×");
    cancel.ariaLabel = `Cancel: ${reminder.text}`;
    cancel.addEventListener("click", () => room.cancel(reminder.id));
    const how = reminder.when.every ? `every ${span(reminder.when.every)}` : "once";
    return element("li", element("p", reminder.text), element("small", how), element("time"), cancel, element("i"));
  }));
  part("rang").replaceChildren(...room.rang.map(({ text, at, missed }) =>
    element("li", element("p", text), element("small", missed ? `${missed} missed` : ""),
      element("time", new Date(at).toLocaleTimeString()))));
  tick();
}

/** Moves what shows the time. */
function tick() {
  [...part("reminders").children].forEach((item, n) => {
    const reminder = room.reminders[n];
    const left = room.left(reminder);
    const whole = reminder.when.every ?? reminder.when.after ?? left;
    item.querySelector("time").textContent = span(Math.ceil(left / 1000) * 1000);
    item.style.setProperty("--left", `${Math.min(100, 100 * left / whole)}%`);
  });
}

/** `1 h 5 min`, `5 min 3 s` or `3 s`. */
function span(millis) {
  const seconds = Math.round(millis / 1000);
  const [h, min, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const words = h ? [[h, "h"], [min, "min"]] : [[min, "min"], [s, "s"]];
  return words.filter(([number]) => number).map((word) => word.join(" ")).join(" ") || "0 s";
}

function element(name, ...content) {
  const made = document.createElement(name);
  made.append(...content);
  return made;
}
