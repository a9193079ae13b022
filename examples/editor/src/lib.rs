//! A text that many people write at once. The page is CodeMirror over Yjs, with all cursors. The server has
//! only a few lines, because its rooms are only documents.

#[cfg(feature = "workers")]
mod page;
#[cfg(feature = "workers")]
mod workers;

use partykit::{
    Body, Request, Response, Result, Room,
    yjs::{Document, YServer, Yjs},
};

/// The server's rooms.
pub type Documents = Yjs<Editor>;

/// What the rooms do beside being documents.
#[derive(Debug, Default)]
pub struct Editor;

impl YServer for Editor {
    /// The text, without an editor: `curl localhost:1999/parties/main/notes`.
    async fn on_request(
        &mut self,
        _: &Room,
        mut document: Document<'_>,
        _: Request,
    ) -> Result<Response> {
        Ok(Response::new(Body::from(document.text("text").await?)))
    }
}
