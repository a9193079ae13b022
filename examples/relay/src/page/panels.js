// ---- Which room, and its addresses -----------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const room = new URLSearchParams(location.search).get("room")?.trim() || "lobby";
const query = `room=${encodeURIComponent(room)}`;
const roomPath = `/parties/main/${encodeURIComponent(room)}`;
const share = new URL(`?${query}`, location.href).href;

$("room-name").value = room;
$("window").href = share;
$("curl").textContent = `curl -i ${location.origin}${roomPath}`;
$("stats-url").textContent = `/stats?${query}`;
$("copy").onclick = async () => {
  const done = await navigator.clipboard?.writeText(share).then(() => true, () => false);
  $("copy").textContent = done ? "Copied" : "Copy failed";
  announce(done ? "Link copied" : `The link is ${share}`);
  setTimeout(() => { $("copy").textContent = "Copy link"; }, 1500);
};

/** A new element with a class and a text. */
function make(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** Says something to a screen reader. */
function announce(text) { $("announce").textContent = text; }

/** Writes text only where it changed, so that selections and live regions are left in peace. */
function put(element, text) { if (element.textContent !== text) element.textContent = text; }

// ---- The clients' panels ---------------------------------------------------------------------------

const NAMES = ["Ada", "Grace", "Radia", "Barbara", "Frances", "Karen"];
const HUES = [212, 338, 158, 268, 24, 188];
const STATES = ["disconnected", "connecting", "connected", "disconnecting"]; // the columns of the lanes
const LOG_LINES = 200;

/** Adds the panel of a new client in the first free place, and connects it. */
function addClient() {
  const place = NAMES.findIndex((_, i) => !document.querySelector(`[data-testid=client-${i}]`));
  const name = NAMES[place];
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  const pk = `${name.toLowerCase()}-${random}`; // one id for the life of the panel, so a reconnect is the same client

  const panel = $("client-template").content.firstElementChild.cloneNode(true);
  const part = (testid) => panel.querySelector(`[data-testid=${testid}]`);
  const [intendedLane, actualLane] = panel.querySelectorAll(".lane");
  const log = part("log"), input = part("input");
  panel.dataset.testid = `client-${place}`;
  panel.style.setProperty("--h", HUES[place]);
  panel.setAttribute("aria-label", `Client ${name}`);
  log.setAttribute("aria-label", `What ${name} sent and received`);
  input.setAttribute("aria-label", `Message from ${name}`);
  input.placeholder = `Say something as ${name}`;
  part("remove").setAttribute("aria-label", `Remove ${name}`);
  panel.querySelector("h3").textContent = name;
  panel.querySelector(".pk").textContent = pk;

  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const client = new Client(`${scheme}://${location.host}${roomPath}?_pk=${pk}`, {
    change: render,
    open() { write("system", "connected"); pollSoon(); },
    message(data) { receive(data); pollSoon(); },
    close(event, wait) {
      const why = event.reason ? `${event.code} ${event.reason}` : event.code;
      if (wait === null) write("system", "disconnected");
      else write("system", `connection lost (${why}), trying again in ${(wait / 1000).toFixed(1)} s`);
      pollSoon();
    },
  });

  part("toggle").onclick = () => client.toggle();
  part("remove").onclick = () => {
    client.intend("disconnected");
    panel.remove();
    arrange();
    $("add").focus();
  };
  panel.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || !client.send(JSON.stringify({ type: "say", from: name, text }))) return;
    write("own", text);
    input.value = "";
    pollSoon();
  };

  function render() {
    const { intended, actual, sockets } = client;
    panel.dataset.sockets = sockets;
    put(part("intended"), intended);
    put(part("actual"), actual);
    light(intendedLane, intended);
    light(actualLane, actual);
    put(part("toggle"), intended === "connected" ? "Disconnect" : "Connect");
    part("toggle").classList.toggle("solid", intended === "disconnected");
    part("toggle").setAttribute("aria-label", `${part("toggle").textContent} ${name}`);
    part("send").disabled = actual !== "connected";
    if (actual !== "connected") tell("–", "–");
  }

  function tell(count, mode) {
    put(part("count"), String(count));
    put(part("mode"), mode);
    put(panel.querySelector(".unit"), count === 1 ? "connection" : "connections");
  }

  function receive(data) {
    if (typeof data !== "string") return write("peer", `${data.byteLength} bytes`, "binary");
    let said = null;
    try { said = JSON.parse(data); } catch { /* foreign text: shown as it came */ }
    if (said?.type === "connections" && Number.isInteger(said.count)) {
      tell(said.count, String(said.mode));
      write("system", `${said.count} ${said.count === 1 ? "connection" : "connections"}, ${said.mode}`);
    } else if (said?.type === "say" && typeof said.text === "string") {
      write("peer", said.text, String(said.from ?? "somebody").slice(0, 40));
    } else write("peer", data, "somebody");
  }

  /** Adds a line to the log, and keeps the end in view if it was. */
  function write(kind, text, from) {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
    const line = make("li", "");
    line.dataset.kind = kind;
    line.title = new Date().toLocaleTimeString();
    if (kind === "own") line.append(text, ...arrow(" \u2192", ", sent"));
    else if (kind === "peer") line.append(...arrow("\u2190 ", "from "), make("span", "dir", `${from}  `), text);
    else line.append(text);
    log.append(line);
    if (log.childElementCount > LOG_LINES) log.firstElementChild.remove();
    if (atEnd || kind === "own") log.scrollTop = log.scrollHeight;
  }

  $("clients").append(panel);
  arrange();
  client.intend("connected");
  return panel;
}

/** Fills the dot of a state in a lane. */
function light(lane, state) {
  const moment = state === "connecting" || state === "disconnecting";
  STATES.forEach((s, i) => { lane.children[i].className = s === state ? (moment ? "on moment" : "on") : ""; });
}

/** An arrow, with words for those who do not see it. */
function arrow(sign, words) {
  const span = make("span", "dir", sign);
  span.setAttribute("aria-hidden", "true");
  return [span, make("span", "sr", words)];
}

function arrange() {
  const n = $("clients").childElementCount;
  $("clients").dataset.n = n;
  $("add").disabled = n === NAMES.length;
}
