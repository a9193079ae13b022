/** Makes a member of a room of the chat; the token. */
export async function join({ url }, room, name) {
  const answer = await fetch(`${url}/parties/chat/${encodeURIComponent(room)}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name }),
  });
  if (!answer.ok) throw new Error(`${name} cannot join ${room}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()).token;
}
