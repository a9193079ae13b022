// The rooms of the bench on Bun's own WebSockets, everything as it is by default: they have names, echo and
// broadcast, and nothing else. Started and stopped like the servers of `dev/bench/src/server`.

const ROOMS = "/parties/main/";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    const data = { room: pathname.slice(ROOMS.length) };
    if (pathname.startsWith(ROOMS) && server.upgrade(request, { data })) return;
    return new Response("not found", { status: 404 });
  },
  websocket: {
    open(ws) { ws.subscribe(ws.data.room); },
    message(ws, message) {
      if (message[0] === "e") ws.send(`a${message.slice(1)}`);
      else if (message[0] === "b") ws.publish(ws.data.room, message);
    },
  },
});

console.log(`${server.hostname}:${server.port}`);
for await (const question of console) console.log(`unknown question ${question}`);
process.exit();
