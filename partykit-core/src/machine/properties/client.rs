//! Who is outside: clients that connect, and those that ask for something.

use bytes::Bytes;

use super::world::Answered;
use crate::Connection;

pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) tagged: bool,
    /// Its `on_connect` succeeded, and the commit of it has not failed.
    pub(super) in_room: bool,
    pub(super) listed: bool,
    /// The socket has ended.
    pub(super) ended: bool,
    /// Accepted, refused, or neither yet.
    pub(super) answers: u32,
    pub(super) refused: bool,
    pub(super) closing: Option<u64>,
    pub(super) on_close: u32,
    /// Lost in a crash or a shutdown: nothing is owed to it.
    pub(super) lost: bool,
    /// The states that it was given, each with the last write before it.
    pub(super) states: Vec<(u64, Option<Bytes>)>,
    /// The order of what it got last.
    pub(super) got: u64,
}

pub(super) struct Request {
    pub(super) answer: Option<Answered>,
    pub(super) done: bool,
    /// It asks whether the alarm is due.
    pub(super) alarm: bool,
}

impl Client {
    pub(super) fn new(connection: Connection, tagged: bool) -> Self {
        Self {
            connection,
            tagged,
            in_room: false,
            listed: false,
            ended: false,
            answers: 0,
            refused: false,
            closing: None,
            on_close: 0,
            lost: false,
            states: vec![(0, None)],
            got: 0,
        }
    }
}
