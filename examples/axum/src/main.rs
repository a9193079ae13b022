//! Rooms beside the routes of an axum server: `cargo run -p axum-rooms`.

use axum::{Router, extract::State, routing::get};
use partykit::{Connection, Message, Options, Result, Room, Runtime, Server, server::Handle};
use tokio::net::TcpListener;

#[derive(Default)]
struct Chat;

impl Server for Chat {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        room.broadcast(message).except(sender).send();
        Ok(())
    }
}

/// A route of axum. It looks at rooms from outside and wakes no room.
async fn who_is_here(State(rooms): State<Handle>) -> String {
    let lobby = rooms.room_stats("chat", "lobby");
    format!("{} in the lobby\n", lobby.map_or(0, |lobby| lobby.connections))
}

#[tokio::main]
async fn main() -> Result {
    let runtime = Runtime::builder().party::<Chat>("chat").in_memory().build()?;
    let rooms = runtime.handle();
    let app = Router::new()
        .route("/", get(who_is_here))
        .route_service("/parties/{*rest}", runtime.service())
        .with_state(rooms.clone());

    let listener = TcpListener::bind("127.0.0.1:1999").await?;
    println!("listening on http://{}", listener.local_addr()?);
    // Axum's graceful shutdown does not know the runtime's WebSockets, so shut the runtime down too.
    let told = async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            rooms.shutdown().await;
        }
    };
    Ok(axum::serve(listener, app).with_graceful_shutdown(told).await?)
}
