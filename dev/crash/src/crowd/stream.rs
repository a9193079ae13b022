use std::{net::SocketAddr, time::Duration};

use partykit::BoxError;
use tokio::time::sleep;

use super::{Stream, http, now, socket, text};
use crate::protocol::{Failure, STREAM, Told};

/// How many steps a client has under way at a time, at most.
const UNDER_WAY: u64 = 6;

/// How often a step fails before it succeeds, and how often a client pauses until the room sleeps: one in
/// this many.
const FAILS: u32 = 6;
const PAUSES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(60);

fn failure(random: &mut fastrand::Rng) -> Option<Failure> {
    (random.u32(..FAILS) == 0).then(|| match random.u32(..4) {
        0 => Failure::Before,
        1 => Failure::Panic,
        _ => Failure::After,
    })
}

/// Does one step after the other, over a socket or, unless it has to be one, over HTTP.
pub(super) async fn step(
    address: SocketAddr,
    stream: &Stream,
    mut random: fastrand::Rng,
    by_socket: bool,
) -> Result<(), BoxError> {
    if !by_socket && random.bool() {
        over_http(address, stream, &mut random).await
    } else {
        over_a_socket(address, stream, &mut random).await
    }
}

async fn over_http(
    address: SocketAddr,
    stream: &Stream,
    random: &mut fastrand::Rng,
) -> Result<(), BoxError> {
    let mut connection = http::connect(address).await?;
    let path = format!("/parties/{STREAM}/{}", stream.name);
    let mut number = stream.track().next();
    loop {
        while let Some(failure) = failure(random) {
            let ask = text(&stream.track().ask(number, now(), Some(failure)));
            http::fail(&mut connection, address, &path, ask).await?;
        }
        let ask = text(&stream.track().ask(number, now(), None));
        let answer = http::send(&mut connection, address, &path, ask).await?;
        match stream.hear(&answer)? {
            Told::Did(did) if did == number => number += 1,
            other => return Err(format!("asked for step {number}, and was told {other:?}").into()),
        }
        if random.u32(..PAUSES) == 0 {
            sleep(PAUSE).await;
        }
    }
}

async fn over_a_socket(
    address: SocketAddr,
    stream: &Stream,
    random: &mut fastrand::Rng,
) -> Result<(), BoxError> {
    let mut socket = socket::connect(address, STREAM, &stream.name, "stepper").await?;
    let (mut number, mut under_way) = (stream.track().next(), 0);
    let at_a_time = random.u64(1..=UNDER_WAY);
    loop {
        while under_way < at_a_time {
            // A step that fails says nothing.
            if let Some(failure) = failure(random) {
                let ask = stream.track().ask(number, now(), Some(failure));
                socket::send(&mut socket, &ask).await?;
            }
            let ask = stream.track().ask(number, now(), None);
            socket::send(&mut socket, &ask).await?;
            number += 1;
            under_way += 1;
        }
        if let Told::Did(_) = stream.hear(socket::next_text(&mut socket).await?.as_bytes())? {
            under_way -= 1;
            if random.u32(..PAUSES) == 0 {
                sleep(PAUSE).await;
            }
        }
    }
}
