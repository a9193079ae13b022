//! Busy rooms and quiet ones on one thread.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use partykit_core::{Request, Response, Result, Room, Server};
use partykit_runtime_tokio::{Runtime, bind};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(60);

/// Tells itself something again and again, once it was told to.
#[derive(Default)]
struct Busy;

impl Server for Busy {
    async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
        room.party("busy").room(room.id()).tell(Request::default())?;
        Ok(Response::default())
    }
}

#[derive(Default)]
struct Quiet;

impl Server for Quiet {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new("quiet".into()))
    }
}

/// Tokio looks at its sockets after every turn of a task if it is told to. Then a room that yields must not
/// come before all that the sockets wake.
#[test]
fn busy_rooms_let_quiet_ones_run_at_every_event_interval() {
    for interval in [1, 2, 61] {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .event_interval(interval)
            .enable_all()
            .build()
            .unwrap();
        let (address, handle) = tokio.block_on(async {
            let builder = Runtime::builder().party::<Busy>("busy").party::<Quiet>("quiet");
            let runtime = builder.in_memory().build().unwrap();
            let (handle, listener) = (runtime.handle(), bind("127.0.0.1:0").await.unwrap());
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { runtime.serve_on(listener).await });
            for room in ["one", "two", "three"] {
                handle.request("busy", room, Request::default()).await.unwrap();
            }
            (address, handle)
        });
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(NEVER)).unwrap();
        for _ in 0..10 {
            client.write_all(b"GET /parties/quiet/a HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let mut answer = [0; 1024];
            let length = client.read(&mut answer).expect("an answer");
            let answer = String::from_utf8_lossy(&answer[..length]);
            assert!(answer.ends_with("quiet"), "{interval}: {answer}");
        }
        drop(client);
        let (ended, end) = std::sync::mpsc::channel();
        tokio.spawn(async move {
            handle.shutdown().await;
            ended.send(()).unwrap();
        });
        end.recv_timeout(NEVER).expect("the rooms end");
    }
}
