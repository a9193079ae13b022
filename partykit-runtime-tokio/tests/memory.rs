//! What hostile clients cost in memory. In a binary of its own, and one after another: it is the whole
//! process's memory that is measured.
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "runtime/support.rs"]
mod support;
#[allow(dead_code, reason = "shared with the tests of the runtime")]
#[path = "runtime/transport.rs"]
mod transport;

use std::{fs, time::Duration};

use partykit_core::{
    Connection, Message, Options, Request, Response, Result, Room, RoomId, Server,
};
use partykit_runtime_tokio::Runtime;
use tokio::io::AsyncWriteExt;

use support::{Client, Site, eventually, serve};

const TRANSPORT: transport::Transport = transport::Transport::Tcp;

#[derive(Default)]
struct Echo;

impl Server for Echo {
    async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
        sender.send(message);
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::new("here".into()))
    }
}

/// Resident memory of the process in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn memory_is_for_what_is_here() {
    let options = Options::new().hibernate(true).hibernate_after(Duration::ZERO);
    let make = |_: &RoomId| Echo;
    let site = serve(Runtime::builder().party_with_options("main", options, make)).await;
    let mut witness = site.connect("/parties/main/a").await;
    echo_ten(&mut witness).await;

    threat_08_names(&site).await;
    echo_ten(&mut witness).await;
    threat_02_and_15_announced_lengths_and_idle_sockets(&site).await;
    echo_ten(&mut witness).await;
    eventually(|| site.handle.room_stats("main", "a").unwrap().connections == 1).await;
}

/// What a name took is given back when its room has answered: as many again find space in it.
async fn threat_08_names(site: &Site) {
    let round = async |round: usize| {
        let head = format!("host: {}\r\n", site.addr);
        let name = |n| format!("GET /parties/main/{round}name{n} HTTP/1.1\r\n{head}");
        let mut requests: Vec<_> = (0..5000).map(|n| name(n) + "\r\n").collect();
        requests.push(name(5000) + "connection: close\r\n\r\n");
        let answers = site.raw(requests.concat().as_bytes()).await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 5001);
        eventually(|| site.handle.stats().parties["main"].rooms == 1).await;
    };
    round(0).await;
    let before = resident();
    for n in 1..4 {
        round(n).await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < before / 10 + 1024, "15,000 names left {grown} KiB");
}

/// 1,000 sockets cost less than 15 KiB each, both ends of them; a message of 1 MiB that is announced at
/// each and of which a byte arrives does not cost much more.
async fn threat_02_and_15_announced_lengths_and_idle_sockets(site: &Site) {
    let before = resident();
    let mut sockets = Vec::new();
    for _ in 0..1000 {
        sockets.push(site.connect("/parties/main/a").await.into_raw());
    }
    let idle = resident().saturating_sub(before);
    assert!(idle < 15_000, "1,000 idle sockets take {idle} KiB");
    let length = (1u64 << 20) - 1;
    let announced = [&[0x82, 0xFF][..], &length.to_be_bytes(), &[0, 0, 0, 0, b'x']].concat();
    for socket in &mut sockets {
        socket.write_all(&announced).await.unwrap();
    }
    let mut probe = site.connect("/parties/main/a").await;
    echo_ten(&mut probe).await;
    let grown = resident().saturating_sub(before + idle);
    assert!(grown < 20_000, "1,000 announced messages take {grown} KiB");
}

async fn echo_ten(client: &mut Client) {
    for n in 0..10 {
        client.send(&n.to_string()).await;
        assert_eq!(client.text().await, n.to_string());
    }
}
