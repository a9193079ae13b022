//! A crowd in one room (`dev/bench/party`), which sleeps under it: nobody is lost, and nobody hears anything
//! twice.

use std::{net::TcpStream, path::Path, thread};

use partykit_workerd::{Project, Workerd};
use tungstenite::{Message, WebSocket, client::client_with_config, protocol::WebSocketConfig};

use crate::support::PATIENCE;

/// `workerd` needs two descriptors for each, and a common limit is 20,000.
const CROWD: usize = 5_000;

/// This many connect at once.
const DOORS: usize = 20;

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn five_thousand_sleep_wake_hear_and_leave() {
    let workerd = start();
    let mut crowd = gather(&workerd);
    assert_eq!(ask(&mut crowd[0], "e."), "a1");
    assert_eq!(ask(&mut crowd[0], "e."), "a.");

    assert!(workerd.evict("main", "hall").unwrap(), "it was awake");
    assert!(!workerd.evict("main", "hall").unwrap(), "and sleeps");
    assert_eq!(ask(&mut crowd[4_999], "e."), "a1", "a new instance answers");
    assert_eq!(ask(&mut crowd[0], "c"), "c5000 open, 0 ended");

    // From an instance that is awake, and from one that wakes for it.
    say(&mut crowd[1], "b awake");
    assert_eq!(ask(&mut crowd[1], "e."), "a.");
    assert!(workerd.evict("main", "hall").unwrap(), "it was awake");
    say(&mut crowd[2], "b woken");
    for (index, client) in crowd.iter_mut().enumerate() {
        for (speaker, message) in [(1, "b awake"), (2, "b woken")] {
            if index != speaker {
                assert_eq!(hear(client), message, "client {index}");
            }
        }
    }
    // What comes next for all is this answer: nothing came twice.
    for (index, client) in crowd.iter_mut().enumerate() {
        // The instance that woke for the second message is still there.
        let answer = if index == 0 { "a1" } else { "a." };
        assert_eq!(ask(client, "e."), answer, "client {index}");
    }

    let mut last = crowd.pop().expect("a crowd");
    assert!(workerd.evict("main", "hall").unwrap(), "it was awake");
    for client in &mut crowd {
        client.close(None).expect("an open socket");
    }
    for client in &mut crowd {
        let closed = loop {
            match client.read() {
                Ok(message) => assert!(message.is_close(), "{message}"),
                Err(closed) => break closed,
            }
        };
        assert!(matches!(closed, tungstenite::Error::ConnectionClosed), "{closed}");
    }
    // Their handlers have all run: it asks behind them.
    assert_eq!(ask(&mut last, "c"), "c1 open, 4999 ended");
}

fn start() -> Workerd {
    let party = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/party");
    let project = Project::open(party).expect("a project").party("main", "Talk");
    Workerd::start(&project).expect("`cargo xtask workerd` builds the party first")
}

/// Several at a time: one after another, they would wait for each other's round trips.
fn gather(workerd: &Workerd) -> Vec<WebSocket<TcpStream>> {
    let some = || (0..CROWD / DOORS).map(|_| connect(workerd)).collect::<Vec<_>>();
    thread::scope(|scope| {
        let doors: Vec<_> = (0..DOORS).map(|_| scope.spawn(some)).collect();
        doors.into_iter().flat_map(|door| door.join().expect("all come in")).collect()
    })
}

fn connect(workerd: &Workerd) -> WebSocket<TcpStream> {
    let address = workerd.address();
    let stream = TcpStream::connect(address).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let url = format!("ws://{address}/parties/main/hall");
    // By default, 128 KiB for each.
    let config = WebSocketConfig::default().read_buffer_size(1024);
    client_with_config(url, stream, Some(config)).expect("an upgrade").0
}

fn say(client: &mut WebSocket<TcpStream>, text: &str) {
    client.send(Message::text(text)).expect("an open socket");
}

fn hear(client: &mut WebSocket<TcpStream>) -> String {
    client.read().expect("a message").into_text().expect("text").to_string()
}

fn ask(client: &mut WebSocket<TcpStream>, text: &str) -> String {
    say(client, text);
    hear(client)
}
