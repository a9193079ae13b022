use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::wire::Wire;
use crate::socket::SocketState;

/// The format of all messages but the first. Increase it with each change of them, and of
/// [`SocketState`] and core's attachments.
const FORMAT: u16 = 1;

/// How the first message begins, in every format. The format follows, then the rest of [`Hello`].
const MAGIC: &[u8] = b"partykit hand-over ";

/// The first message, from the new process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The version of this crate, for the log.
    pub(super) release: String,
}

/// The answer. It has the listeners' descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Welcome {
    Come,
    /// Why not.
    Go(String),
}

/// The new process has done all that can fail.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) parties: Vec<String>,
    /// Where its rows are. `None` for a backend that is not the store on disk.
    pub(super) store: Option<String>,
}

/// What the old process says then.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Given {
    /// Some sockets, with their descriptors in the same order.
    Batch(Vec<Record>),
    End,
    /// The new process is on its own now.
    Yours,
    /// The hand-over is given up. The new process has to end.
    Never(String),
}

/// What the new process says at the end.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken;

/// A socket and its connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) party: String,
    pub(super) room: String,
    pub(super) attachment: Vec<u8>,
    /// Whether it is a Unix socket and not TCP.
    pub(super) is_unix: bool,
    pub(super) socket: SocketState,
}

impl Hello {
    pub(super) fn send(&self, wire: &mut Wire) -> io::Result<()> {
        let rest = postcard::to_allocvec(self).map_err(io::Error::other)?;
        wire.send(&[MAGIC, &FORMAT.to_le_bytes(), &rest].concat(), &[])
    }

    /// Waits for it. The inner error says why it was refused.
    pub(super) fn receive(wire: &mut Wire) -> io::Result<Result<Self, String>> {
        let (body, _) = wire.receive()?;
        let Some((format, rest)) =
            body.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk())
        else {
            return Ok(Err("it does not speak this protocol".to_owned()));
        };
        let format = u16::from_le_bytes(*format);
        if format != FORMAT {
            let why = format!("it speaks format {format} of the hand-over, and this is {FORMAT}");
            return Ok(Err(why));
        }
        Ok(postcard::from_bytes(rest).map_err(|error| error.to_string()))
    }
}

pub(super) fn send(
    wire: &mut Wire,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    wire.send(&postcard::to_allocvec(message).map_err(io::Error::other)?, descriptors)
}

pub(super) fn receive<T: DeserializeOwned>(wire: &mut Wire) -> io::Result<(T, Vec<OwnedFd>)> {
    let (body, descriptors) = wire.receive()?;
    Ok((postcard::from_bytes(&body).map_err(io::Error::other)?, descriptors))
}
