use partykit::{
    Admission, Admit, Connection, Lobby, Message, Options, OrReject, Reject, Request, RequestExt,
    Response, ResponseExt, Result, Room, Server,
};
use rusqlite::OptionalExtension;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Who has which token. A clone is the same database.
#[derive(Clone)]
struct Tokens(Arc<Mutex<rusqlite::Connection>>);

impl Tokens {
    fn open(path: impl AsRef<Path>) -> Result<Self> {
        let database = rusqlite::Connection::open(path)?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS tokens
                (token TEXT PRIMARY KEY, user TEXT NOT NULL, expires INTEGER NOT NULL)",
        )?;
        Ok(Self(Arc::new(Mutex::new(database))))
    }

    /// `None` if no user has this token, or if it has expired.
    async fn user(&self, token: String) -> Result<Option<String>> {
        let tokens = self.clone();
        // SQLite waits for the disk: on a thread that may wait.
        let found = tokio::task::spawn_blocking(move || -> Result<Option<String>> {
            let database = tokens.0.lock().map_err(|_| "a query has panicked")?;
            let question = "SELECT user FROM tokens WHERE token = ?1 AND expires > unixepoch()";
            Ok(database.query_row(question, [token], |row| row.get(0)).optional()?)
        });
        found.await?
    }
}

/// The user whose token a client has sent.
async fn user(token: Option<String>, lobby: &Lobby) -> Result<String> {
    let token = token.or_reject(Reject::unauthorized("log in first"))?;
    let user = lobby.state::<Tokens>()?.user(token).await?;
    Ok(user.or_reject(Reject::unauthorized("log in again"))?)
}

#[derive(Default)]
struct Members;

impl Server for Members {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
        let user = user(request.query("token"), lobby).await?;
        Ok(Admission::new(request).props(&user)?.into())
    }

    async fn on_before_request(request: Request, lobby: &Lobby) -> Result<Admit> {
        let user = user(request.query("token"), lobby).await?;
        Ok(Admission::new(request).props(&user)?.into())
    }

    async fn on_connect(&mut self, _: &Room, new: &Connection, request: &Request) -> Result {
        new.set_state(&request.props::<String>()?)?; // survives every sleep
        Ok(())
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let user = sender.state::<String>()?.unwrap_or_default();
        room.broadcast(format!("{user}: {}", message.text()?)).send();
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let user = request.props::<String>()?.unwrap_or_default();
        Ok(Response::text(format!("{user} asks, {} are here\n", room.count())))
    }
}
