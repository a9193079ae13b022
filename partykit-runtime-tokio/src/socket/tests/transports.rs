//! A client over a loop and the same client over a task: it hears the same, and the room is told the same.
#![cfg(unix)]

use std::time::Duration;

use partykit_core::{
    Options,
    runtime::{CloseReason, ConnectionKey},
};
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::house::{House, close_frame, eventually, frame};
use crate::socket::{
    Reactor,
    reactor::{TOGETHER, shared},
};

/// What runs the socket.
#[derive(Clone, Copy, Debug)]
enum By {
    Loop,
    Task,
}

/// What a client says, as it is on the wire.
#[derive(Clone, Debug)]
enum Said {
    Text(usize),
    Binary(usize),
    /// In two fragments, with a Ping in between.
    Halves(usize, usize),
    Ping,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    WithClose,
    WithNonsense,
    WithoutClose,
    /// In the middle of a message.
    MidMessage,
}

#[derive(Clone, Debug)]
struct Story {
    said: Vec<Said>,
    /// The lengths of the pieces in which it is sent.
    pieces: Vec<usize>,
    leaves: Leaves,
}

/// What a client heard: opcodes and payloads, those of Pongs apart, because they do not wait for the room.
#[derive(Debug, PartialEq)]
struct Heard {
    frames: Vec<(u8, Vec<u8>)>,
    pongs: usize,
    /// What `on_close` was told.
    closed: (u16, String, bool),
}

impl Said {
    fn frames(&self) -> Vec<u8> {
        match *self {
            Self::Text(length) => frame(0x81, &vec![b'x'; length]),
            Self::Binary(length) => frame(0x82, &vec![7; length]),
            Self::Halves(first, second) => [
                frame(0x01, &vec![b'a'; first]),
                frame(0x89, b"between"),
                frame(0x80, &vec![b'b'; second]),
            ]
            .concat(),
            Self::Ping => frame(0x89, b""),
        }
    }

    fn echo(&self) -> Option<(u8, Vec<u8>)> {
        match *self {
            Self::Text(length) => Some((0x81, vec![b'x'; length])),
            Self::Binary(length) => Some((0x82, vec![7; length])),
            Self::Halves(first, second) => {
                Some((0x81, [vec![b'a'; first], vec![b'b'; second]].concat()))
            }
            Self::Ping => None,
        }
    }

    fn pongs(&self) -> usize {
        usize::from(matches!(self, Self::Halves(..) | Self::Ping))
    }
}

impl Leaves {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::WithClose => close_frame(4321, "enough"),
            Self::WithNonsense => vec![0xFF; 14],
            Self::WithoutClose => vec![],
            Self::MidMessage => frame(0x81, b"half")[..7].to_vec(),
        }
    }
}

fn house(by: By) -> House {
    let options = Options::new().hibernate(true).hibernate_after(Duration::ZERO);
    House::with(options, |settings| {
        if let By::Loop = by {
            settings.reactor = Some(Reactor::start(&settings.sweeper).unwrap());
        }
    })
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    for stream in [&client, &ours] {
        stream.set_nodelay(true).unwrap();
    }
    (client, ours)
}

/// The whole frames at the beginning of `bytes`.
fn parse(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    loop {
        let (head, length) = match rest {
            [_, 127, length @ ..] if length.len() >= 8 => {
                (10, u64::from_be_bytes(*length.first_chunk().unwrap()) as usize)
            }
            [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            [_, length @ 0..=125, ..] => (2, usize::from(*length)),
            _ => return frames,
        };
        let Some(payload) = rest.get(head..head + length) else { return frames };
        frames.push((rest[0], payload.to_vec()));
        rest = &rest[head + length..];
    }
}

async fn tell(story: &Story, by: By) -> Heard {
    let mut house = house(by);
    let (client, ours) = pair().await;
    house.open_tcp(ours).await;
    let (mut reader, mut writer) = client.into_split();
    let said: Vec<u8> = story.said.iter().flat_map(Said::frames).collect();
    let answers = story.said.iter().map(|said| said.pongs() + usize::from(said.echo().is_some()));
    let answers: usize = answers.sum();
    let write = async {
        let (mut rest, mut pieces) = (&said[..], story.pieces.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
            writer.write_all(piece).await.unwrap();
            rest = behind;
        }
    };
    let mut bytes = Vec::new();
    let read = async {
        bytes.reserve(1 << 20);
        while parse(&bytes).len() < answers {
            assert!(reader.read_buf(&mut bytes).await.unwrap() > 0, "{by:?} hung up");
        }
    };
    tokio::join!(write, read);
    writer.write_all(&story.leaves.bytes()).await.unwrap();
    if matches!(story.leaves, Leaves::WithoutClose | Leaves::MidMessage) {
        writer.shutdown().await.unwrap();
    }
    let closed = house.closed().await;
    drop(writer);
    reader.read_to_end(&mut bytes).await.unwrap();
    let (pongs, frames): (Vec<_>, Vec<_>) =
        parse(&bytes).into_iter().partition(|(first, _)| *first == 0x8A);
    Heard { frames, pongs: pongs.len(), closed }
}

fn story() -> impl Strategy<Value = Story> {
    let length = prop_oneof![4 => 0..300_usize, 1 => 0..60_000_usize];
    let said = prop_oneof![
        length.clone().prop_map(Said::Text),
        length.clone().prop_map(Said::Binary),
        (length.clone(), length).prop_map(|(first, second)| Said::Halves(first, second)),
        Just(Said::Ping),
    ];
    let piece = prop_oneof![1..10_usize, 100..70_000_usize];
    let leaves = prop_oneof![
        Just(Leaves::WithClose),
        Just(Leaves::WithNonsense),
        Just(Leaves::WithoutClose),
        Just(Leaves::MidMessage),
    ];
    (vec(said, 0..12), vec(piece, 1..8), leaves)
        .prop_filter("not byte by byte for long", |(said, pieces, _)| {
            let bytes: usize = said.iter().map(|said| said.frames().len()).sum();
            bytes / pieces.iter().sum::<usize>() < 50
        })
        .prop_map(|(said, pieces, leaves)| Story { said, pieces, leaves })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_loop_and_a_task_do_the_same(story in story()) {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (by_loop, by_task) = tokio.block_on(async {
            (tell(&story, By::Loop).await, tell(&story, By::Task).await)
        });
        prop_assert_eq!(&by_loop, &by_task);
        let echoes: Vec<_> = story.said.iter().filter_map(Said::echo).collect();
        prop_assert_eq!(&by_loop.frames[..echoes.len()], &echoes[..]);
        prop_assert_eq!(by_loop.pongs, story.said.iter().map(Said::pongs).sum::<usize>());
    }
}

/// The operating system tells of both at once. A read of the message alone must not hide the end.
#[tokio::test]
async fn an_end_that_comes_with_the_last_message_is_heard() {
    let mut house = house(By::Loop);
    let (mut client, ours) = pair().await;
    client.write_all(&frame(0x81, b"the last one")).await.unwrap();
    client.shutdown().await.unwrap();
    house.open_tcp(ours).await;
    let (code, reason, _) = house.closed().await;
    let close = CloseReason::HungUp.close();
    assert_eq!((code, &*reason), (1006, close.reason()));
    house.handled(1).await;
}

/// The loop ends with the last handle of the reactor and the last socket.
#[tokio::test]
async fn no_loop_is_left_without_handles_and_sockets() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut house = house(By::Loop);
    let (client, ours) = pair().await;
    house.open_tcp(ours).await;
    drop(client);
    house.closed().await;
    drop(house);
    eventually(|| tasks() == 0).await;
}

#[tokio::test]
async fn connections_that_come_one_after_another_share_a_loop() {
    let house = House::new();
    let number = |order| shared(&house.room, ConnectionKey::new(order));
    assert_eq!(number(0), number(TOGETHER - 1));
    assert_eq!(number(0) + 1, number(TOGETHER), "a large room has all loops");
    // Rooms are at different addresses, so some of them are on different loops.
    let houses: Vec<_> = (0..64).map(|_| House::new()).collect();
    let on_first = |house: &&House| shared(&house.room, ConnectionKey::new(0)).is_multiple_of(2);
    assert!((1..64).contains(&houses.iter().filter(on_first).count()));
}
