// ---- The client: a state machine with no DOM in it, made to be copied ------------------------------
//
// `intended` is what the user wants: only `intend` changes it, and at once, so that the UI never waits.
// `actual` is what the socket does: only the socket's events and the two steps below change it.
// `reconcile` runs after every change of either and takes at most one step from actual towards intended.
// So clicks may come in any number, and the last one wins. There is never a second socket: one is opened
// only when "disconnected", and from anything else only the close of the first leads there.

class Client {
  intended = "disconnected"; // or connected
  actual = "disconnected";   // or connecting, connected, disconnecting
  #socket = null;
  #retry = null;             // the timer of the next attempt, while the client waits for one
  #failures = 0;             // in a row, since a connection last held
  #made = [];                // for `sockets` alone

  /** `on` hears: change(), open(), message(data), close(event, milliseconds to the next attempt or null). */
  constructor(url, on) { this.url = url; this.on = on; }

  intend(state) {
    this.intended = state;
    clearTimeout(this.#retry); // a click is a fresh start: nobody waits out an old backoff
    this.#retry = null;
    this.#failures = 0;
    this.#reconcile();
  }

  toggle() { this.intend(this.intended === "connected" ? "disconnected" : "connected"); }

  /** Sends if connected, and says whether it did. */
  send(text) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  /** How many WebSocket objects of this client are not closed, counted by asking them. */
  get sockets() { return (this.#made = this.#made.filter((s) => s.readyState !== WebSocket.CLOSED)).length; }

  #reconcile() {
    const { intended, actual } = this;
    if (intended === "connected" && actual === "disconnected" && !this.#retry) this.#open();
    else if (intended === "disconnected" && (actual === "connected" || actual === "connecting")) this.#close();
    // Otherwise they agree, or a step is under way whose end comes back here.
    this.on.change();
  }

  #open() {
    const socket = this.#socket = new WebSocket(this.url);
    this.actual = "connecting";
    socket.binaryType = "arraybuffer";
    this.#made.push(socket);
    let openedAt = Infinity;

    socket.onopen = () => {
      if (this.actual !== "connecting") return;
      this.actual = "connected";
      openedAt = performance.now();
      this.on.open();
      this.#reconcile();
    };
    socket.onmessage = (event) => this.on.message(event.data);
    socket.onclose = (event) => {
      const fell = this.actual !== "disconnecting"; // nobody here asked for this close
      if (performance.now() - openedAt > 5000) this.#failures = 0; // it had held
      this.actual = "disconnected";
      this.on.close(event, fell ? this.#backOff() : null);
      this.#reconcile();
    };
  }

  #close() {
    this.actual = "disconnecting";
    this.#socket.close(1000); // onclose follows, also for a socket that never opened
  }

  /** Waits 0.5 s, doubling to 10 s, minus up to half at random, so that a crowd does not return as one. */
  #backOff() {
    const wait = Math.min(10_000, 500 * 2 ** this.#failures++) * (1 - Math.random() / 2);
    this.#retry = setTimeout(() => { this.#retry = null; this.#reconcile(); }, wait);
    return wait;
  }
}
