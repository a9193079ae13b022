// Listeners that are socket.io's own clients: `node clients.mjs ADDRESS COUNT`. Prints a line for what one of them
// hears: its number, and `fresh`, `gap` or the number that was said.

import { io } from "socket.io-client";

const [address, count] = process.argv.slice(2);

for (let listener = 0; listener < Number(count); listener += 1) {
  const tell = (what) => process.stdout.write(`${listener} ${what}\n`);
  const socket = io(`http://${address}`, {
    forceNew: true,
    transports: ["websocket"],
    reconnectionDelay: 50,
    reconnectionDelayMax: 50,
    randomizationFactor: 0,
  });
  let isNew = true;
  socket.on("connect", () => {
    if (isNew) tell("fresh");
    else if (!socket.recovered) tell("gap");
    isNew = false;
  });
  socket.on("said", tell);
}
