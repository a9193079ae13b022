import { once } from "node:events";
import net from "node:net";

/** A proxy before a server, that can cut the connections through it. */
export class Proxy {
  /** Each connection's two sockets. */
  #pairs = new Set();
  cuts = 0;

  constructor(host) { this.target = host; }

  static async before(host) {
    const proxy = new Proxy(host);
    proxy.listener = net.createServer((client) => proxy.#pass(client)).listen(0, "127.0.0.1");
    await once(proxy.listener, "listening");
    proxy.host = `127.0.0.1:${proxy.listener.address().port}`;
    return proxy;
  }

  #pass(client) {
    const server = net.connect(Number(this.target.split(":")[1]), "127.0.0.1");
    const pair = [client, server];
    this.#pairs.add(pair);
    for (const [from, to] of [[client, server], [server, client]]) {
      from.pipe(to);
      from.on("error", () => {});
      from.on("close", () => { to.destroy(); this.#pairs.delete(pair); });
    }
  }

  /** Cuts each connection with this probability: what is under way is lost. */
  cut(probability) {
    for (const pair of [...this.#pairs]) {
      if (Math.random() >= probability) continue;
      this.cuts += 1;
      for (const socket of pair) socket.resetAndDestroy();
    }
  }

  async stop() {
    this.cut(1);
    this.listener.close();
    await once(this.listener, "close");
  }
}
