//! The decoder against a model: whatever a client sends, however the network cuts it.

use bytes::Bytes;
use partykit_core::{Close, Message, runtime::CloseReason};
use proptest::{collection::vec, prelude::*, sample::Index};
use tungstenite::protocol::frame::{
    Frame, FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::{Decoder, Incoming, Limits};

/// Payload sizes around every boundary of the length format, and the default limit.
pub(super) const SIZES: [usize; 8] = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20];

/// A masked frame, as a client sends it.
pub(super) fn client_frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask = Some([0x1F, 0x80, 0x00, 0xE5]);
    let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
    let mut bytes = Vec::new();
    Frame::from_payload(header, Bytes::copy_from_slice(payload)).format(&mut bytes).unwrap();
    bytes
}

/// Everything that `decoder` yields for chunks of a stream, in order, with the violation at its end.
pub(super) fn decode_chunks<'a>(
    decoder: &mut Decoder,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Incoming>, Option<CloseReason>) {
    let mut events = Vec::new();
    let mut violation = None;
    for mut chunk in chunks {
        loop {
            match decoder.decode(&mut chunk, limits) {
                Ok(Some(incoming)) => events.push(incoming),
                Ok(None) => break,
                Err(error) => assert_eq!(violation.replace(error), None, "a second violation"),
            }
        }
        assert!(chunk.is_empty(), "bytes left over");
    }
    (events, violation)
}

/// What a client does, the fragments of a message and the control frames between them included.
#[derive(Clone, Debug)]
enum Action {
    Text { text: String, cuts: Vec<(Index, Vec<Signal>)> },
    Binary { bytes: Vec<u8>, cuts: Vec<(Index, Vec<Signal>)> },
    Signal(Signal),
}

#[derive(Clone, Debug)]
enum Signal {
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl Action {
    fn write(&self, stream: &mut Vec<u8>, events: &mut Vec<Incoming>) {
        match self {
            Self::Text { text, cuts } => {
                write_message(Data::Text, text.as_bytes(), cuts, stream, events);
                events.push(Incoming::Message(Message::from(text.as_str())));
            }
            Self::Binary { bytes, cuts } => {
                write_message(Data::Binary, bytes, cuts, stream, events);
                events.push(Incoming::Message(Message::from(bytes.as_slice())));
            }
            Self::Signal(signal) => signal.write(stream, events),
        }
    }
}

impl Signal {
    fn write(&self, stream: &mut Vec<u8>, events: &mut Vec<Incoming>) {
        let (control, payload) = match self {
            Self::Ping(payload) => (Control::Ping, payload),
            Self::Pong(payload) => (Control::Pong, payload),
        };
        stream.extend(client_frame(OpCode::Control(control), true, payload));
        let payload = Bytes::copy_from_slice(payload);
        events.push(match self {
            Self::Ping(_) => Incoming::Ping(payload),
            Self::Pong(_) => Incoming::Pong(payload),
        });
    }
}

/// Writes a message in as many fragments as `cuts` make, anywhere in a character too.
fn write_message(
    kind: Data,
    payload: &[u8],
    cuts: &[(Index, Vec<Signal>)],
    stream: &mut Vec<u8>,
    events: &mut Vec<Incoming>,
) {
    let mut cuts: Vec<_> =
        cuts.iter().map(|(cut, signals)| (cut.index(payload.len() + 1), signals)).collect();
    cuts.sort_by_key(|(cut, _)| *cut);

    let mut opcode = OpCode::Data(kind);
    let mut start = 0;
    for (cut, signals) in cuts {
        stream.extend(client_frame(opcode, false, &payload[start..cut]));
        for signal in signals {
            signal.write(stream, events);
        }
        (opcode, start) = (OpCode::Data(Data::Continue), cut);
    }
    stream.extend(client_frame(opcode, true, &payload[start..]));
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        vec(any::<u8>(), 0..=125).prop_map(Signal::Ping),
        vec(any::<u8>(), 0..=125).prop_map(Signal::Pong),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let cuts = || vec((any::<Index>(), vec(signal(), 0..3)), 0..5);
    prop_oneof![
        (".{0,100}", cuts()).prop_map(|(text, cuts)| Action::Text { text, cuts }),
        ("[a-zé]{1000,3000}", cuts()).prop_map(|(text, cuts)| Action::Text { text, cuts }),
        (vec(any::<u8>(), 0..300), cuts()).prop_map(|(bytes, cuts)| Action::Binary { bytes, cuts }),
        (any::<u8>(), 0..150_000_usize, cuts())
            .prop_map(|(byte, size, cuts)| Action::Binary { bytes: vec![byte; size], cuts }),
        signal().prop_map(Action::Signal),
    ]
}

/// The bytes of a last frame and what the decoder has to say about it.
fn ending() -> impl Strategy<Value = (Vec<u8>, Result<Vec<Incoming>, CloseReason>)> {
    let close = |payload: &[u8]| client_frame(OpCode::Control(Control::Close), true, payload);
    prop_oneof![
        Just((Vec::new(), Ok(Vec::new()))),
        Just((close(&[]), Ok(vec![Incoming::Close(Close::no_status())]))),
        (3000..5000_u16, "[a-zé]{0,60}").prop_map(move |(code, reason)| {
            let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
            (close(&payload), Ok(vec![Incoming::Close(Close::new(code, reason).unwrap())]))
        }),
        Just((client_frame(OpCode::Data(Data::Text), true, b"\xFF"), Err(CloseReason::NotUtf8))),
    ]
}

/// The stream cut after the given numbers of bytes, over and over.
fn chunks<'a>(stream: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut sizes = sizes.iter().copied().cycle();
    std::iter::from_fn(move || {
        let (chunk, after) = rest.split_at(rest.len().min(sizes.next()?));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn chunk_sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![Just(1), 1..20_usize, 1..3000_usize, Just(65_536)];
    vec(size, 1..10)
}

proptest! {
    #[test]
    fn any_cutting_of_the_stream_gives_what_the_client_said(
        actions in vec(action(), 0..8),
        (last, verdict) in ending(),
        after in vec(any::<u8>(), 0..50),
        sizes in chunk_sizes(),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for action in &actions {
            action.write(&mut stream, &mut expected);
        }
        stream.extend(&last);
        if !last.is_empty() {
            stream.extend(after);
        }

        let mut decoder = Decoder::default();
        let (events, violation) =
            decode_chunks(&mut decoder, chunks(&stream, &sizes), &Limits::default());

        expected.extend(verdict.clone().unwrap_or_default());
        prop_assert_eq!(events, expected);
        prop_assert_eq!(violation, verdict.err());
        prop_assert!(!decoder.is_mid_message());
    }

    #[test]
    fn garbage_neither_panics_nor_depends_on_its_cutting(
        stream in vec(any::<u8>(), 0..2000),
        sizes in chunk_sizes(),
    ) {
        let whole = decode_chunks(&mut Decoder::default(), [&stream[..]], &Limits::default());
        let cut =
            decode_chunks(&mut Decoder::default(), chunks(&stream, &sizes), &Limits::default());
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn damage_neither_panics_nor_depends_on_its_cutting(
        actions in vec(action(), 1..5),
        damage in vec((any::<Index>(), any::<u8>()), 1..10),
        sizes in chunk_sizes(),
        max_message in 0..5000_usize,
        max_fragments in 1..4_u32,
    ) {
        let mut stream = Vec::new();
        for action in &actions {
            action.write(&mut stream, &mut Vec::new());
        }
        for (place, byte) in damage {
            let place = place.index(stream.len().min(100));
            stream[place] = byte;
        }
        let limits = Limits { max_message, max_fragments };
        let whole = decode_chunks(&mut Decoder::default(), [&stream[..]], &limits);
        let cut = decode_chunks(&mut Decoder::default(), chunks(&stream, &sizes), &limits);
        for event in &whole.0 {
            if let Incoming::Message(message) = event {
                prop_assert!(message.len() <= max_message);
            }
        }
        prop_assert_eq!(cut, whole);
    }
    #[test]
    fn tungstenite_by_itself_says_the_same(
        actions in vec(action(), 0..5),
        (last, _) in ending(),
        damage in vec((any::<Index>(), any::<u8>()), 0..3),
        limits in (0..6000_u16, 1..6_u8, any::<u8>()),
    ) {
        let mut stream = Vec::new();
        for action in &actions {
            action.write(&mut stream, &mut Vec::new());
        }
        stream.extend(last);
        stream.extend([0x81, 0x80, 1, 2, 3, 4]);
        for (place, byte) in damage {
            let place = place.index(stream.len());
            stream[place] = byte;
        }
        let (max_message, max_fragments, piece) = limits;
        let head = [&max_message.to_le_bytes()[..], &[max_fragments, piece]].concat();
        crate::fuzzing::frames(&[&head[..], &stream].concat());
    }
}
