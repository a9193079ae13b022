// ---- The room's light and readings -----------------------------------------------------------------

const MEANING = {
  absent: () => "Nobody is here, so there is no such room in memory.",
  waking: () => "An event came. Its new instance is starting.",
  awake: (s) => `Its instance is in memory, with ${sockets(s)} open.`,
  asleep: (s) => `No instance in memory. ${sockets(s)[0].toUpperCase() + sockets(s).slice(1)} still open.`,
  unknown: () => "A room on Workers that is asked how it is wakes, so nobody asks.",
};
let shown = null; // the phase on the light
let longest = 0;  // the longest idle countdown seen, which is the full ring

/** What the page shows of a room's stats. Times are seconds there, and milliseconds here. */
function readings(stats) {
  if (!stats) return { phase: "absent", connections: 0 };
  const { phase, connections, reasons, sleeps_in: left, account } = stats;
  if (!account) return { phase, connections }; // on Workers, where nobody knows more
  const wake = account.last_wake;
  return {
    phase, connections, left, reasons,
    sleeps: account.sleeps,
    starts: Object.values(account.causes).reduce((sum, times) => sum + times, 0),
    life: account.life * 1000,
    resident: account.resident * 1000,
    active: account.active * 1000,
    wake: wake && { cause: wake.cause, ago: (account.life - wake.at) * 1000 },
  };
}

function showStats(s) {
  showPhase(s.phase, MEANING[s.phase]?.(s) ?? "");
  const share = s.life > 0 ? Math.max(0, 1 - s.resident / s.life) : null;
  $("slept").dataset.share = share;
  $("slept").replaceChildren(share === null ? "–" : (Math.floor(share * 1000) / 10).toFixed(1)); // never rounds up to 100
  if (share !== null) $("slept").append(make("small", "", "%"));
  put($("sleeps"), String(s.sleeps ?? 0));
  put($("times"), s.sleeps === 1 ? "time" : "times");
  put($("cause"), s.wake?.cause ?? "–");
  put($("ago"), s.wake ? `${duration(s.wake.ago)} ago` : "no wake yet");
  put($("life"), duration(s.life));
  put($("resident"), duration(s.resident));
  put($("active"), duration(s.active));
  put($("starts"), s.phase === "absent" ? "–" : String(s.starts ?? 0));
  put($("starts-label"), s.starts === 1 ? "start" : "starts");
  showReasons(s);
}

function showPhase(phase, meaning) {
  $("room").dataset.phase = phase;
  put($("phase"), phase);
  put($("meaning"), meaning);
  $("sleep-now").disabled = ["absent", "unknown", "unreachable"].includes(phase);
  if (phase === shown) return;
  put($("refusal"), "");
  if (shown !== null) announce(`The room is ${phase}. ${meaning}`);
  document.title = `${room} is ${phase} · PartyKit for Rust`;
  shown = phase;
}

function showReasons(s) {
  const none = { asleep: "Nothing keeps it awake.", awake: "Nothing more: about to sleep." }[s.phase] ?? "–";
  const left = s.left ?? 0; // the ring round the light, if told
  const timer = s.left == null ? [] : [`idle timer: sleeps in ${left.toFixed(1)} s`];
  const told = [...s.reasons ?? [], ...timer], reasons = told.length ? told : [none];
  while ($("reasons").childElementCount > reasons.length) $("reasons").lastElementChild.remove();
  reasons.forEach((text, i) => put($("reasons").children[i] ?? $("reasons").appendChild(make("li", "")), text));

  longest = Math.max(longest, left);
  $("countdown").style.strokeDashoffset = longest ? 1 - left / longest : 1;
  $("countdown").style.opacity = left ? "" : 0;
}

function sockets(s) { return s.connections === 1 ? "one socket" : `${s.connections}\u00a0sockets`; }

function duration(ms) {
  if (ms == null || (ms === 0 && shown === "absent")) return "–";
  const s = Math.floor(ms / 1000), pair = (a, ua, b, ub) => `${a} ${ua} ${b} ${ub}`;
  if (ms < 1000) return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
  if (s < 60) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (s < 3600) return pair(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return pair(Math.floor(s / 3600), "h", Math.floor(s / 60) % 60, "min");
  return pair(Math.floor(s / 86400), "d", Math.floor(s / 3600) % 24, "h");
}

$("sleep-now").onclick = async () => {
  const answer = await fetch(`/sleep?${query}`, { method: "POST" }).catch(() => null);
  if (answer && !answer.ok) refuse(`Not now: ${(await answer.text()).trim() || answer.status}`);
  pollSoon();
};

/** Shows, in the place of what the light means, why the room may not sleep. */
function refuse(reasons) {
  put($("refusal"), reasons);
  announce(reasons);
  clearTimeout(refuse.timer);
  refuse.timer = setTimeout(() => put($("refusal"), ""), 6000);
}

// ---- The trace of the last minute, built from the polls --------------------------------------------
//
// Bands and flags stand at fixed times on a strip whose width is a minute; each poll lengthens the last
// band and moves the strip, and a CSS transition as long as the pause between polls makes it glide.

const MINUTE = 60_000;
const epoch = performance.now();
const bands = []; // { phase, from, to, element }, the oldest first, and so the flags: { at, element }
const flags = [];
let starts = null; // as of the last poll

function trace(s, now) {
  const wokeAt = s.wake ? now - s.wake.ago : -Infinity;
  const woke = starts === null ? wokeAt > now - MINUTE : s.starts !== starts;
  if (woke && s.wake) plant(wokeAt, s.wake.cause);
  starts = s.starts;

  const last = bands.at(-1);
  const seamless = last && now - last.to < 2000; // else the page was hidden or the server away: leave a gap
  if (!seamless || last.phase !== s.phase) {
    // The server dates a wake, so that edge is exact; the others are as exact as the polls.
    const from = s.phase === "awake" ? Math.min(now, Math.max(wokeAt, last?.to ?? 0, now - MINUTE)) : now;
    if (seamless) stretch(last, from);
    bands.push({ phase: s.phase, from, to: now, element: place("i", from) });
    bands.at(-1).element.dataset.phase = s.phase;
  }
  stretch(bands.at(-1), now);
  while (bands[0].to < now - 2 * MINUTE) bands.shift().element.remove();
  while (flags[0]?.at < now - 2 * MINUTE) flags.shift().element.remove();

  $("strip").style.transition = seamless ? "" : "none";
  $("strip").style.transform = `translateX(${-percent(now - MINUTE - epoch)}%)`;
  describe(now - MINUTE);
}

function percent(ms) { return (ms / MINUTE) * 100; }

function place(tag, time) {
  const element = $("strip").appendChild(make(tag, ""));
  element.style.left = `${percent(time - epoch)}%`;
  return element;
}

function stretch(band, to) {
  band.to = to;
  band.element.style.width = `${percent(to - band.from)}%`;
}

function plant(time, cause) {
  const before = flags.at(-1); // its label may reach up to this flag
  if (before) before.element.style.width = `${percent(time - before.at)}%`;
  const flag = { at: time, element: place("b", time) };
  flag.element.append(make("span", "", cause));
  flags.push(flag);
}

function describe(since) {
  const seconds = (phase) => Math.round(bands.filter((b) => b.phase === phase && b.to > since)
    .reduce((sum, b) => sum + b.to - Math.max(b.from, since), 0) / 1000);
  const wakes = flags.filter((flag) => flag.at > since).length;
  $("tape").setAttribute("aria-label",
    `The last 60 seconds: asleep ${seconds("asleep")} s, awake ${seconds("awake")} s, wakes: ${wakes}`);
}

// ---- Polling: twice a second while somebody looks --------------------------------------------------

const PERIOD = 500;
let timer = null;
let soon = false; // the timer is a short one
let polling = false;
let failures = 0;

async function poll() {
  clearTimeout(timer);
  soon = false;
  if (polling || document.hidden) return;
  polling = true;
  let pause = PERIOD;
  try {
    const answer = await fetch(`/stats?${query}`, { cache: "no-store", signal: AbortSignal.timeout(3000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const stats = readings(await answer.json()), server = answer.headers.get("relay-server");
    put($("server"), server ? `Served by version ${server}` : ""); // on Workers nobody says it
    failures = 0;
    showStats(stats);
    if (stats.phase === "unknown") pause = 10 * PERIOD; // it will hardly say anything else
    trace(stats, performance.now());
  } catch {
    pause = Math.min(10_000, PERIOD * 2 ** ++failures);
    showPhase("unreachable", `The server does not answer. Asking again in ${pause / 1000} s.`);
  }
  polling = false;
  timer = setTimeout(poll, pause);
}

/** Something happened that may have woken the room: look now rather than within half a second. */
function pollSoon() {
  if (polling || failures || soon) return;
  soon = true;
  clearTimeout(timer);
  timer = setTimeout(poll, 50);
}

document.addEventListener("visibilitychange", poll);
$("add").onclick = () => addClient().querySelector("input").focus();
addClient();
addClient();
poll();
