// What `dev/bench/object` is, but for what it decides: that is wasm, as small as it can be. A room of wasm does not
// get below this: each text goes into wasm's memory, and each answer comes out of it.
import module from "./room.wasm";

const { exports: room } = new WebAssembly.Instance(module);
const memory = new Uint8Array(room.memory.buffer);
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Puts a text into wasm's memory, and returns its length in bytes. */
function put(text) {
  return encoder.encodeInto(text, memory).written;
}

/** The text that lies there. */
function take(from, to) {
  return decoder.decode(memory.subarray(from, to));
}

export class Floor {
  #hasAnswered = false;

  constructor(ctx) {
    this.ctx = ctx;
  }

  fetch(request) {
    const length = put(request.url);
    if (request.headers.get("Upgrade") !== "websocket") {
      return new Response(take(0, room.request(length)));
    }
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }

  webSocketMessage(sender, message) {
    const length = put(message);
    const asked = room.message(length, this.#hasAnswered);
    if (asked === 1) {
      this.#hasAnswered = true;
      sender.send(take(0, length));
    } else if (asked === 2) {
      const text = take(0, length);
      for (const socket of this.ctx.getWebSockets()) {
        if (socket !== sender) socket.send(text);
      }
    }
  }

  async webSocketClose(socket, code, reason) {
    const ended = (await this.ctx.storage.get("ended")) ?? 0;
    await this.ctx.storage.put("ended", ended + 1);
    socket.close(code, reason);
  }
}

export default {
  fetch(request, env) {
    const length = put(new URL(request.url).pathname);
    return env.Floor.getByName(take(room.room(length), length)).fetch(request);
  },
};
