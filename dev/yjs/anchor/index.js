// What one writes with y-partyserver: a document for each room, which sleeps, and which is saved to SQLite.

import { routePartykitRequest } from "partyserver";
import { YServer } from "y-partyserver";
import * as Y from "yjs";

export class Main extends YServer {
  static options = { hibernate: true };

  async onLoad() {
    this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, content BLOB)");
    for (const row of this.ctx.storage.sql.exec("SELECT content FROM documents WHERE id = 'document'")) {
      Y.applyUpdate(this.document, new Uint8Array(row.content));
    }
  }

  async onSave() {
    const update = Y.encodeStateAsUpdate(this.document);
    this.ctx.storage.sql.exec("INSERT OR REPLACE INTO documents VALUES ('document', ?)", update);
  }

  onRequest() {
    return new Response(this.document.getText("text").toString());
  }
}

export default {
  async fetch(request, env) {
    return (await routePartykitRequest(request, env)) || new Response("not found", { status: 404 });
  },
};
