// Beside the Worker under test, and the only one that may: puts its rooms to sleep.
//
// POST /control/evict?party=..&room=..   200 `true`, or `false` when the room was not in memory
// POST /control/mark?mark=..             writes the mark to the log, behind all that was written before
import unsafe from "workerd:unsafe";

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    if (request.method === "POST" && pathname === "/control/mark") {
      console.log(`mark <${searchParams.get("mark")}>`);
      return Response.json(true);
    }
    const party = searchParams.get("party");
    const namespace = env[`class ${env.parties[party] ?? party}`];
    const room = searchParams.get("room");
    if (request.method !== "POST" || pathname !== "/control/evict") {
      return new Response("no such control", { status: 404 });
    }
    if (!namespace || room === null) {
      return new Response(`no class for the party ${party}, or no room`, { status: 400 });
    }
    try {
      // Sockets stay: it is sleep, not the end. Waits for the handlers that run.
      await unsafe.evict(namespace.get(namespace.idFromName(room)), { webSockets: "hibernate" });
      console.log(`party=${JSON.stringify(party)} room=${JSON.stringify(room)} sleeps now`);
      return Response.json(true);
    } catch (error) {
      if (String(error).includes("not currently running")) return Response.json(false);
      return new Response(String(error), { status: 409 });
    }
  },
};
