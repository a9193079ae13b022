// A server of socket.io with connection state recovery, as its documentation sets it up: `node server.mjs`. The first
// line that it prints is the address. `POST /say` with a number tells it to everybody.

import { createServer } from "node:http";

import { Server } from "socket.io";

let last = 0;

const http = createServer((request, response) => {
  let body = "";
  request.setEncoding("utf8").on("data", (text) => { body += text; }).on("end", () => {
    // A number that is said again was told already.
    for (; last < Number(body); last += 1) io.emit("said", last + 1);
    response.end("true");
  });
});
const io = new Server(http, {
  serveClient: false,
  connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true },
});

http.listen(0, "127.0.0.1", () => {
  const { address, port } = http.address();
  console.log(`${address}:${port}`);
});
