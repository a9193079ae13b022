/** Sends a request about the items of a board, and returns status and JSON of the answer. */
export async function items(server, room, rest = "", { method = "GET", body } = {}) {
  const answer = await fetch(`${server.url}/parties/board/${encodeURIComponent(room)}/items${rest}`,
    { method, body: body === undefined ? undefined : JSON.stringify(body) });
  return { status: answer.status, json: await answer.json() };
}
