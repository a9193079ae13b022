//! What a process does that has no descriptors left. Alone in its binary: they are the whole process's.
#![cfg(unix)]

#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "runtime/support.rs"]
mod support;
#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "runtime/transport.rs"]
mod transport;

use std::fs::File;

use partykit_core::{Connection, Message, Result, Room, Server};
use partykit_runtime_tokio::Runtime;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use support::{parse, serve, within};

const TRANSPORT: transport::Transport = transport::Transport::Tcp;

#[derive(Default)]
struct Echo;

impl Server for Echo {
    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }
}

#[tokio::test]
async fn threat_01_without_descriptors_it_waits_for_some() {
    let site = serve(Runtime::builder().party::<Echo>("main").max_connections(1000)).await;
    let mut witness = site.connect("/parties/main/a").await;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum }).unwrap();

    let socket = TcpSocket::new_v4().unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let mut late = within(socket.connect(site.addr)).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", site.addr);
    late.write_all(request.as_bytes()).await.unwrap();
    for n in 0..10 {
        witness.send(&n.to_string()).await;
        assert_eq!(witness.text().await, n.to_string());
    }
    let unheard = late.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(unheard.kind(), std::io::ErrorKind::WouldBlock, "nobody could accept it");

    drop(hoard);
    let mut answer = String::new();
    within(late.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(parse(&answer).status(), 404);
    witness.send("still here").await;
    assert_eq!(witness.text().await, "still here");
}
