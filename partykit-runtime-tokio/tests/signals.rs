//! What a process does that is told to end. Alone in its binary: signals are the whole process's.
#![cfg(unix)]

use std::{process::Command, sync::Arc, time::Duration};

use partykit_core::{Request, Response, Result, Room, Server};
use partykit_runtime_tokio::Runtime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

/// Answers when it gets a permit.
struct Busy {
    entered: Arc<Semaphore>,
    permits: Arc<Semaphore>,
}

impl Server for Busy {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        self.entered.add_permits(1);
        self.permits.acquire().await?.forget();
        Ok(Response::new("done".into()))
    }
}

#[tokio::test]
async fn the_first_signal_lets_handlers_end_and_the_second_does_not() {
    for signals in [1, 2] {
        let (entered, permits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (e, p) = (entered.clone(), permits.clone());
        let make = move |_: &_| Busy { entered: e.clone(), permits: p.clone() };
        let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let builder = Runtime::builder().party_with("busy", make).in_memory();
        let mut serving = tokio::spawn(async move { builder.serve(addr).await });

        let mut client = connect(addr).await;
        let request = format!("GET /parties/busy/a HTTP/1.1\r\nhost: {addr}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        timeout(NEVER, entered.acquire()).await.unwrap().unwrap().forget();

        tell("-TERM");
        let deaf = async {
            while TcpStream::connect(addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(NEVER, deaf).await.expect("it listens still");
        assert!(!serving.is_finished(), "a handler runs");
        if signals == 2 {
            tell("-INT");
            timeout(NEVER, &mut serving).await.unwrap().unwrap().unwrap();
            continue;
        }
        permits.add_permits(1);
        let mut answer = String::new();
        timeout(NEVER, client.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        timeout(NEVER, &mut serving).await.unwrap().unwrap().unwrap();
    }
}

/// Connects as soon as somebody listens.
async fn connect(addr: std::net::SocketAddr) -> TcpStream {
    let connecting = async {
        loop {
            match TcpStream::connect(addr).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(NEVER, connecting).await.expect("nobody listens")
}

/// Sends this process a signal for which it has a handler by now.
fn tell(signal: &str) {
    let pid = std::process::id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}
