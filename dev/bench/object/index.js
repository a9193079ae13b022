// What `dev/bench/party` is, on nothing but the platform's own interface: below this, no library gets.
export class Bare {
  #hasAnswered = false;

  constructor(ctx) {
    this.ctx = ctx;
  }

  fetch(request) {
    if (request.headers.get("Upgrade") !== "websocket") return new Response("The room has answered.");
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }

  webSocketMessage(sender, message) {
    if (message[0] === "e") {
      sender.send(`a${this.#hasAnswered ? "." : "1"}${message.slice(2)}`);
      this.#hasAnswered = true;
    } else if (message[0] === "b") {
      for (const socket of this.ctx.getWebSockets()) {
        if (socket !== sender) socket.send(message);
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
    return env.Bare.getByName(new URL(request.url).pathname.split("/").pop()).fetch(request);
  },
};
