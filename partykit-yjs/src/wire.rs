//! Frames of y-protocols, as y-partyserver, y-websocket and similar providers send them: one frame in each
//! binary message.

use yrs::encoding::{
    read::{Cursor, Read},
    write::Write,
};

use crate::scan::{MAX_INTEGER, Update, is_state_vector};

/// In y-partyserver, custom text messages begin with this.
pub(crate) const CUSTOM: &str = "__YPS:";

const SYNC: u8 = 0;
const AWARENESS: u8 = 1;
const AUTH: u8 = 2;
const QUERY: u8 = 3;

const STEP_1: u8 = 0;
const STEP_2: u8 = 1;
const UPDATE: u8 = 2;

/// A frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// The client's state vector. It wants what it lacks.
    Step1(&'a [u8]),
    /// What the server lacks, as far as the client knows.
    Step2(Update<'a>),
    /// A change of the client.
    Update(Update<'a>),
    /// States of users.
    Awareness(Vec<Entry>),
    /// An answer to an authentication. Only servers send it.
    Auth,
    /// The client asks for the states of all users.
    Query,
}

/// The state of one Yjs client. A Yjs client is a document in a browser tab, not a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) client: u64,
    /// Counts the changes of the state.
    pub(crate) clock: u32,
    /// JSON. `None` for a client that is gone.
    pub(crate) state: Option<String>,
}

/// Why bytes are not a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl<'a> Frame<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (&kind, rest) = bytes.split_first().ok_or(Malformed("an empty frame"))?;
        match kind {
            SYNC => {
                let (&step, rest) =
                    rest.split_first().ok_or(Malformed("a sync frame cut short"))?;
                let payload = payload(rest)?;
                match step {
                    STEP_1 if is_state_vector(payload) => Ok(Self::Step1(payload)),
                    STEP_1 => Err(Malformed("no state vector")),
                    STEP_2 | UPDATE => {
                        let update = Update::new(payload).ok_or(Malformed("no update"))?;
                        let is_step = step == STEP_2;
                        Ok(if is_step { Self::Step2(update) } else { Self::Update(update) })
                    }
                    _ => Err(Malformed("a sync frame of an unknown kind")),
                }
            }
            AWARENESS => Ok(Self::Awareness(entries(payload(rest)?)?)),
            AUTH => Ok(Self::Auth),
            QUERY => Ok(Self::Query),
            _ => Err(Malformed("a frame of an unknown kind")),
        }
    }
}

pub(crate) fn step_1(vector: &[u8]) -> Vec<u8> {
    sync(STEP_1, vector)
}

pub(crate) fn step_2(update: &[u8]) -> Vec<u8> {
    sync(STEP_2, update)
}

pub(crate) fn update(update: &[u8]) -> Vec<u8> {
    sync(UPDATE, update)
}

pub(crate) fn query() -> Vec<u8> {
    vec![QUERY]
}

pub(crate) fn awareness<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.write_var(entries.len());
    for Entry { client, clock, state } in entries {
        payload.write_var(*client);
        payload.write_var(*clock);
        payload.write_string(state.as_deref().unwrap_or("null"));
    }
    let mut frame = vec![AWARENESS];
    frame.write_buf(payload);
    frame
}

fn sync(step: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend([SYNC, step]);
    frame.write_buf(payload);
    frame
}

/// The bytes behind their length.
fn payload(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut cursor = Cursor::new(bytes);
    let length: u32 = cursor.read_var().map_err(|_| Malformed("a length cut short"))?;
    bytes[cursor.next..].get(..length as usize).ok_or(Malformed("a frame cut short"))
}

fn entries(bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let short = |_| Malformed("an awareness frame cut short");
    let count: u32 = cursor.read_var().map_err(short)?;
    // Nothing is reserved, because the client chooses the count. The loop ends with the bytes.
    let mut entries = Vec::new();
    for _ in 0..count {
        let client = cursor.read_var().map_err(short)?;
        if client > MAX_INTEGER {
            return Err(Malformed("an id that JavaScript cannot hold"));
        }
        let clock = cursor.read_var().map_err(short)?;
        let state = cursor.read_string().map_err(short)?;
        if serde_json::from_str::<serde::de::IgnoredAny>(state).is_err() {
            return Err(Malformed("an awareness state that is not JSON"));
        }
        let state = (state.trim() != "null").then(|| state.to_owned());
        entries.push(Entry { client, clock, state });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.split_whitespace().collect::<String>();
        (0..digits.len())
            .step_by(2)
            .map(|n| u8::from_str_radix(&digits[n..n + 2], 16).unwrap())
            .collect()
    }

    fn scanned(bytes: &[u8]) -> Update<'_> {
        Update::new(bytes).unwrap()
    }

    /// Frames as the real provider sent them.
    #[test]
    fn frames_of_the_provider_are_read_and_written() {
        assert_eq!(Frame::decode(&hex("00 00 01 00")), Ok(Frame::Step1(&[0])));
        assert_eq!(Frame::decode(&hex("00 01 02 00 00")), Ok(Frame::Step2(scanned(&[0, 0]))));
        let joined = Entry { client: 1, clock: 1, state: Some("{}".into()) };
        let bytes = hex("01 06 01 01 01 02 7b7d");
        assert_eq!(Frame::decode(&bytes), Ok(Frame::Awareness(vec![joined.clone()])));
        assert_eq!(awareness([&joined].into_iter()), bytes);
        let left = Entry { client: 1, clock: 2, state: None };
        let bytes = hex("01 08 01 01 02 04 6e756c6c");
        assert_eq!(Frame::decode(&bytes), Ok(Frame::Awareness(vec![left.clone()])));
        assert_eq!(awareness([&left].into_iter()), bytes);
        assert_eq!(step_1(&[0]), hex("00 00 01 00"));
        assert_eq!(step_2(&[0, 0]), hex("00 01 02 00 00"));
        let typed = hex("00 02 0a 01 01 01 01 84 01 00 01 69 00");
        assert_eq!(Frame::decode(&typed), Ok(Frame::Update(scanned(&typed[3..]))));
        assert_eq!(update(&typed[3..]), typed);
    }

    #[test]
    fn junk_is_refused_and_reserves_nothing() {
        for junk in ["", "00", "00 00", "00 00 05 00", "00 07 01 00", "01 05 ff ff ff ff 0f", "09"]
        {
            assert!(Frame::decode(&hex(junk)).is_err(), "{junk}");
        }
        assert!(Frame::decode(&hex("01 06 01 01 01 02 7b7b")).is_err(), "no JSON");
        assert!(Frame::decode(&hex("01 0d 01 ffffffffffffff0f 01 02 7b7d")).is_ok());
        assert!(Frame::decode(&hex("01 0d 01 ffffffffffffff1f 01 02 7b7d")).is_err(), "54 bits");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(Frame::decode(&bytes));
        }

        #[test]
        fn entries_come_back(
            all in proptest::collection::vec((any::<u64>(), any::<u32>(), proptest::option::of(0..9_u8)), 0..9)
        ) {
            let all: Vec<_> = all
                .into_iter()
                .map(|(client, clock, state)| Entry {
                    client: client >> 11,
                    clock,
                    state: state.map(|n| format!("{{\"n\":{n}}}")),
                })
                .collect();
            let bytes = awareness(all.iter());
            prop_assert_eq!(Frame::decode(&bytes), Ok(Frame::Awareness(all)));
        }
    }
}
