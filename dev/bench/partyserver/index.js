// What `dev/bench/party` is, for PartyServer: its rooms sleep too, and it does what its manual shows.
import { Server, routePartykitRequest } from "partyserver";

export class Main extends Server {
  static options = { hibernate: true };

  #hasAnswered = false;

  onMessage(sender, message) {
    if (message[0] === "e") {
      sender.send(`a${this.#hasAnswered ? "." : "1"}${message.slice(2)}`);
      this.#hasAnswered = true;
    } else if (message[0] === "b") {
      this.broadcast(message, [sender.id]);
    }
  }

  onRequest() {
    return new Response("The room has answered.");
  }

  async onClose() {
    const ended = (await this.ctx.storage.get("ended")) ?? 0;
    await this.ctx.storage.put("ended", ended + 1);
  }
}

export default {
  async fetch(request, env) {
    return (await routePartykitRequest(request, env)) ?? new Response("not found", { status: 404 });
  },
};
