use std::borrow::Cow;

use bytes::Bytes;
use partykit_core::{Close, Message, runtime::CloseReason};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

#[cfg(unix)]
use super::message::Unfinished;
use super::{
    encode::MAX_CONTROL,
    head::{Head, short_message},
    message::{PartialMessage, message},
    window::Window,
};

/// What one client may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest message in bytes, all fragments together. Default: 1 MiB, as Durable Objects had it.
    pub(crate) max_message: usize,
    /// The most fragments of one message. Without this limit, empty fragments could go on for ever.
    pub(crate) max_fragments: u32,
}

impl Limits {
    /// The limits for a longest message. A message may come in fragments of 64 bytes, which makes 16,384
    /// fragments for 1 MiB (the limit of the npm package `ws`). At least 16,384 fragments are always allowed.
    pub(crate) fn new(max_message: usize) -> Self {
        let pieces = u32::try_from(max_message / 64).unwrap_or(u32::MAX);
        Self { max_message, max_fragments: pieces.max(16_384) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(1 << 20)
    }
}

/// Something a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A whole message, from one or more fragments.
    Message(Message),
    /// A Ping; a Pong with the same payload is due.
    Ping(Bytes),
    /// A Pong.
    Pong(Bytes),
    /// A Close, the last thing that a client sends; [`close_reply`](super::close_reply) is due. Without a
    /// code it is [`Close::no_status`].
    Close(Close),
}

/// What one connection keeps between two reads of its socket: the part of a frame that has arrived, and the
/// fragments of an unfinished message. Usually there is neither.
///
/// Memory is used only for bytes that have arrived, never for bytes that a frame announces. All of it is plain
/// data: [`PartialFrame`] and [`PartialMessage`].
#[derive(Default)]
pub(crate) struct Decoder {
    frame: Option<Box<PartialFrame>>,
    message: Option<Box<PartialMessage>>,
    ended: bool,
}

impl Decoder {
    /// Takes the next thing that the client sent from the front of `input`. `None` when `input` is used up.
    ///
    /// After an [`Incoming::Close`] or an error, the decoder drops all further input.
    ///
    /// # Errors
    ///
    /// When the client broke the protocol or a limit.
    pub(crate) fn decode(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<Incoming>, CloseReason> {
        if self.is_blank()
            && let Some((is_text, payload)) = short_message(input, limits.max_message)
        {
            let message = message(is_text, payload).inspect_err(|_| self.end())?;
            return Ok(Some(Incoming::Message(message)));
        }
        while !self.ended && !input.is_empty() {
            let incoming = self.decode_frame(input, limits);
            if matches!(incoming, Err(_) | Ok(Some(Incoming::Close(_)))) {
                self.end();
            }
            if !matches!(incoming, Ok(None)) {
                return incoming;
            }
        }
        *input = &[];
        Ok(None)
    }

    /// Drops all further input.
    fn end(&mut self) {
        *self = Self { ended: true, ..Self::default() };
    }

    /// Whether a frame or a message has begun and not ended, so that the client owes the rest of it.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.frame.is_some() || self.message.is_some()
    }

    /// Whether it is as a new one.
    pub(crate) fn is_blank(&self) -> bool {
        !self.is_mid_message() && !self.ended
    }

    /// The bytes of memory that the decoder uses.
    pub(crate) fn memory(&self) -> usize {
        let frame = self.frame.as_ref().map_or(0, |frame| frame.bytes.capacity());
        let message = self.message.as_ref().map_or(0, |message| message.memory());
        frame + message
    }

    /// What has arrived of a frame and of a message that have not ended. All other input was decoded.
    #[cfg(unix)]
    pub(crate) fn unfinished(&self) -> (&[u8], Option<Unfinished<'_>>) {
        let frame = self.frame.as_ref().map_or(&[][..], |frame| &frame.bytes);
        (frame, self.message.as_deref().map(PartialMessage::unfinished))
    }

    /// A decoder that goes on with a message that has begun: see [`Decoder::unfinished`]. The beginning of
    /// a frame is decoded as if it arrived again.
    ///
    /// # Errors
    ///
    /// When the message breaks the protocol or a limit already.
    #[cfg(unix)]
    pub(crate) fn resume(unfinished: Unfinished<'_>, limits: &Limits) -> Result<Self, CloseReason> {
        let message = PartialMessage::resume(unfinished, limits)?;
        Ok(Self { message: Some(Box::new(message)), ..Self::default() })
    }

    fn decode_frame(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<Incoming>, CloseReason> {
        match self.take_frame(input, limits)? {
            Some((head, bytes)) => self.read_frame(head, bytes, limits),
            None => Ok(None),
        }
    }

    /// One whole frame, or `None` when all of `input` has been put aside.
    fn take_frame<'a>(
        &mut self,
        input: &mut &'a [u8],
        limits: &Limits,
    ) -> Result<Option<WholeFrame<'a>>, CloseReason> {
        let Some(mut frame) = self.frame.take() else {
            let head = self.parse_head(input, limits)?;
            if let Some(head) = head.filter(|head| head.frame() <= input.len()) {
                return Ok(Some((head, Cow::Borrowed(take(input, head.frame())))));
            }
            let bytes = take(input, input.len()).to_vec();
            self.frame = Some(Box::new(PartialFrame { head, bytes }));
            return Ok(None);
        };

        while frame.head.is_none() && !input.is_empty() {
            frame.bytes.extend_from_slice(take(input, 1));
            frame.head = self.parse_head(&frame.bytes, limits)?;
        }
        if let Some(head) = frame.head {
            frame.fill(head.frame(), input);
            if frame.bytes.len() == head.frame() {
                return Ok(Some((head, Cow::Owned(frame.bytes))));
            }
        }
        self.frame = Some(frame);
        Ok(None)
    }

    /// The header of the frame at the beginning of `bytes`. `None` if it has not arrived completely. A frame
    /// that is too long is refused here, before any of its payload is kept.
    fn parse_head(&self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, CloseReason> {
        let Some(head) = Head::parse(bytes)? else { return Ok(None) };
        match (head.opcode, &self.message) {
            (OpCode::Control(_), _) if head.payload > MAX_CONTROL => {
                return Err(CloseReason::ControlTooLong);
            }
            (OpCode::Data(Data::Continue), Some(message)) => message.admit(head.payload, limits)?,
            (OpCode::Data(_), _) if head.payload > limits.max_message => {
                return Err(CloseReason::MessageTooLong);
            }
            _ => {}
        }
        Ok(Some(head))
    }

    /// Reads one whole frame: tungstenite does it for control frames. Fragments are put together here. `None`
    /// for a fragment that does not end its message.
    fn read_frame(
        &mut self,
        head: Head,
        bytes: Cow<'_, [u8]>,
        limits: &Limits,
    ) -> Result<Option<Incoming>, CloseReason> {
        let data = match head.opcode {
            OpCode::Control(control) => {
                let (prefix, payload) = bytes.split_at(head.prefix);
                let window = match control {
                    Control::Close => Window::closing(bytes.len(), limits)?,
                    _ => Window::new(bytes.len(), limits),
                };
                return window.read(prefix, payload);
            }
            OpCode::Data(data) => data,
        };
        match (data, &mut self.message) {
            (Data::Continue, None) => return Err(CloseReason::NoMessageBegun),
            (Data::Continue, Some(message)) => {
                message.add(head.unmask(bytes)?, limits)?;
                if !head.is_final {
                    return Ok(None);
                }
            }
            (_, Some(_)) => return Err(CloseReason::MessageInMessage),
            (_, None) if head.is_final => {
                let is_text = matches!(data, Data::Text);
                return message(is_text, head.unmask(bytes)?).map(|it| Some(Incoming::Message(it)));
            }
            (_, None) => {
                let mut message = PartialMessage::new(data);
                message.add(head.unmask(bytes)?, limits)?;
                self.message = Some(Box::new(message));
                return Ok(None);
            }
        }
        let message = self.message.take().map(|message| message.end());
        message.transpose().map(|message| message.map(Incoming::Message))
    }
}

/// A frame with its header: borrowed from the input, or put together from parts.
type WholeFrame<'a> = (Head, Cow<'a, [u8]>);

/// The beginning of a frame, its payload still masked.
struct PartialFrame {
    head: Option<Head>,
    bytes: Vec<u8>,
}

impl PartialFrame {
    /// Moves the bytes of a frame of `length` bytes out of `input`.
    fn fill(&mut self, length: usize, input: &mut &[u8]) {
        let part = take(input, input.len().min(length - self.bytes.len()));
        append(&mut self.bytes, part, length);
    }
}

/// Adds `part` to bytes that become at most `most`. A full buffer doubles, so that each byte is copied only a
/// few times, but it never becomes larger than `most`.
pub(super) fn append(bytes: &mut Vec<u8>, part: &[u8], most: usize) {
    let filled = bytes.len() + part.len();
    if filled > bytes.capacity() {
        let target = filled.max(most.min(2 * bytes.len()));
        bytes.reserve_exact(target - bytes.len());
    }
    bytes.extend_from_slice(part);
}

/// Splits off the first `length` bytes.
fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(length);
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use partykit_core::CloseCode;

    use super::*;
    use crate::codec::tests::{SIZES, client_frame, decode_chunks};

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const BINARY: OpCode = OpCode::Data(Data::Binary);
    const CONTINUE: OpCode = OpCode::Data(Data::Continue);
    const CLOSE: OpCode = OpCode::Control(Control::Close);
    const PING: OpCode = OpCode::Control(Control::Ping);
    const PONG: OpCode = OpCode::Control(Control::Pong);

    /// What one client says with these bytes, read at once, and what is wrong with them.
    fn decode(bytes: &[u8]) -> (Vec<Incoming>, Option<CloseReason>) {
        decode_chunks(&mut Decoder::default(), [bytes], &Limits::default())
    }

    #[track_caller]
    fn assert_refused(bytes: &[u8], code: CloseCode) {
        let (events, violation) = decode(bytes);
        assert_eq!(events, []);
        assert_eq!(violation.map(|violation| violation.close().code()), Some(code));
    }

    #[track_caller]
    fn assert_idle(decoder: &Decoder) {
        assert!(decoder.frame.is_none() && decoder.message.is_none());
        assert!(!decoder.is_mid_message());
    }

    #[test]
    fn a_longest_message_may_come_in_pieces_of_64_bytes() {
        assert_eq!(Limits::new(1 << 20).max_fragments, 16_384);
        assert_eq!(Limits::new(16 << 20).max_fragments, 16 * 16_384);
        assert_eq!(Limits::new(100).max_fragments, 16_384);
    }

    #[test]
    fn an_idle_decoder_is_small_and_holds_nothing() {
        assert!(size_of::<Decoder>() <= 24);
        let mut decoder = Decoder::default();
        assert_idle(&decoder);
        for size in SIZES {
            let frame = client_frame(BINARY, true, &vec![1; size]);
            let (front, back) = frame.split_at(frame.len() / 2);
            decode_chunks(&mut decoder, [front], &Limits::default());
            assert!(decoder.is_mid_message());
            decode_chunks(&mut decoder, [back, &frame], &Limits::default());
            assert_idle(&decoder);
        }
    }

    #[test]
    fn a_limit_also_holds_for_short_messages() {
        let limits = Limits::new(10);
        for (length, violation) in [(10, None), (11, Some(CloseReason::MessageTooLong))] {
            let frame = client_frame(TEXT, true, &vec![b'x'; length]);
            let (events, found) = decode_chunks(&mut Decoder::default(), [&frame[..]], &limits);
            assert_eq!((events.len(), found), (usize::from(violation.is_none()), violation));
        }
    }

    #[test]
    fn messages_of_every_size_arrive() {
        for size in SIZES {
            let payload = "é".repeat(size / 2) + &"x".repeat(size % 2);
            let message = Incoming::Message(payload.as_str().into());
            let frame = client_frame(TEXT, true, payload.as_bytes());
            assert_eq!(decode(&frame), (vec![message], None), "text of {size}");

            let message = Incoming::Message(payload.as_bytes().into());
            let frame = client_frame(BINARY, true, payload.as_bytes());
            assert_eq!(decode(&frame), (vec![message], None), "binary of {size}");
        }
    }

    #[test]
    fn control_frames_of_every_size_arrive() {
        for size in [0, 1, MAX_CONTROL] {
            let payload = vec![b'p'; size];
            let ping = decode(&client_frame(PING, true, &payload));
            assert_eq!(ping, (vec![Incoming::Ping(payload.clone().into())], None));
            let pong = decode(&client_frame(PONG, true, &payload));
            assert_eq!(pong, (vec![Incoming::Pong(payload.into())], None));
        }
    }

    #[test]
    fn control_frames_come_between_fragments() {
        let stream = [
            client_frame(TEXT, false, b"caf\xC3"),
            client_frame(PING, true, b"1"),
            client_frame(CONTINUE, false, b""),
            client_frame(PONG, true, b"2"),
            client_frame(CONTINUE, true, b"\xA9"),
        ]
        .concat();
        let events = vec![
            Incoming::Ping("1".into()),
            Incoming::Pong("2".into()),
            Incoming::Message("café".into()),
        ];
        assert_eq!(decode(&stream), (events, None));
    }

    #[test]
    fn a_close_ends_everything_even_in_the_middle_of_a_message() {
        let mut decoder = Decoder::default();
        let stream = [
            client_frame(TEXT, false, b"half"),
            client_frame(CLOSE, true, b"\x03\xE8bye"),
            client_frame(CONTINUE, true, b""),
            vec![0xFF; 100],
        ]
        .concat();
        let close = Close::new(1000, "bye").unwrap();
        let decoded = decode_chunks(&mut decoder, [&stream[..]], &Limits::default());
        assert_eq!(decoded, (vec![Incoming::Close(close)], None));
        assert_idle(&decoder);
    }

    #[test]
    fn a_close_keeps_its_code_and_reason() {
        assert_eq!(
            decode(&client_frame(CLOSE, true, b"")),
            (vec![Incoming::Close(Close::no_status())], None)
        );
        // 1002 with this reason is what tungstenite makes of an invalid code.
        for (code, reason) in
            [(1000, ""), (1002, "Protocol violation"), (1014, "gateway"), (4999, "é")]
        {
            let payload = [&u16::to_be_bytes(code), reason.as_bytes()].concat();
            let close = Close::new(code, reason).unwrap();
            let frame = client_frame(CLOSE, true, &payload);
            assert_eq!(decode(&frame), (vec![Incoming::Close(close)], None));
        }
    }

    #[test]
    fn a_close_that_may_not_be_is_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_refused(&client_frame(CLOSE, true, &code.to_be_bytes()), CloseCode::PROTOCOL);
        }
        assert_refused(&client_frame(CLOSE, true, b"\x03"), CloseCode::PROTOCOL);
        let not_utf8 = client_frame(CLOSE, true, b"\x03\xE8\xFF");
        assert_refused(&not_utf8, CloseCode::INVALID_PAYLOAD);
    }

    #[test]
    fn frames_against_the_protocol_are_refused() {
        for reserved in [0x40, 0x20, 0x10] {
            let mut frame = client_frame(TEXT, true, b"x");
            frame[0] |= reserved;
            assert_refused(&frame, CloseCode::PROTOCOL);
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_refused(&[0x80 | opcode, 0x80, 0, 0, 0, 0], CloseCode::PROTOCOL);
        }
        assert_refused(b"\x81\x01x", CloseCode::PROTOCOL);
        assert_refused(b"\x88\x00", CloseCode::PROTOCOL);
        for control in [CLOSE, PING, PONG] {
            assert_refused(&client_frame(control, false, b""), CloseCode::PROTOCOL);
            assert_refused(&client_frame(control, true, &[b'x'; 126]), CloseCode::PROTOCOL);
        }
        for is_final in [true, false] {
            assert_refused(&client_frame(CONTINUE, is_final, b"x"), CloseCode::PROTOCOL);
            let inside =
                [client_frame(TEXT, false, b"x"), client_frame(BINARY, is_final, b"y")].concat();
            assert_refused(&inside, CloseCode::PROTOCOL);
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let mut long = vec![b'x'; 70_000];
        long.push(0xC3);
        for text in [b"\xFF".as_slice(), b"caf\xC3", b"\xED\xA0\x80", &long] {
            assert_refused(&client_frame(TEXT, true, text), CloseCode::INVALID_PAYLOAD);
        }
        let fragments =
            [client_frame(TEXT, false, b"caf\xC3"), client_frame(CONTINUE, true, b"x")].concat();
        assert_refused(&fragments, CloseCode::INVALID_PAYLOAD);
        let unfinished =
            [client_frame(TEXT, false, b"caf"), client_frame(CONTINUE, true, b"\xC3")].concat();
        assert_refused(&unfinished, CloseCode::INVALID_PAYLOAD);
    }

    #[test]
    fn text_that_cannot_become_utf8_is_refused_before_its_message_ends() {
        for (front, back) in [(&b"caf\xFF"[..], &b""[..]), (b"caf\xC3", b"x"), (b"\xED", b"\xA0")] {
            let fragments = [client_frame(TEXT, false, front), client_frame(CONTINUE, false, back)];
            assert_refused(&fragments.concat(), CloseCode::INVALID_PAYLOAD);
        }
    }

    #[test]
    fn half_a_message_takes_little_more_than_its_bytes() {
        let limits = Limits::default();
        let (mut decoder, mut length) = (Decoder::default(), 0);
        for (n, size) in [100, 0, 3000, 65_536, 1000, 65_536].into_iter().enumerate() {
            let opcode = if n == 0 { TEXT } else { CONTINUE };
            let fragment = client_frame(opcode, false, &vec![b'x'; size]);
            assert_eq!(decode_chunks(&mut decoder, [&fragment[..]], &limits), (vec![], None));
            length += size;
            assert!((length..=100 + 2 * length).contains(&decoder.memory()));
        }
    }

    #[test]
    fn an_announced_length_is_refused_from_the_header_alone() {
        assert_refused(&[0x89, 0xFE, 0, 126, 1, 2, 3, 4], CloseCode::PROTOCOL);
        let over = Limits::default().max_message as u64 + 1;
        for length in [over, 64 << 20, (1 << 63) - 1, u64::MAX] {
            let header = [&[0x82, 0xFF], &length.to_be_bytes()[..], &[1, 2, 3, 4]].concat();
            assert_refused(&header, CloseCode::TOO_BIG);

            let ping = [&[0x89, 0xFF], &length.to_be_bytes()[..], &[1, 2, 3, 4]].concat();
            assert_refused(&ping, CloseCode::PROTOCOL);
        }
    }

    #[test]
    fn fragments_count_together() {
        let limits = Limits { max_message: 10, ..Limits::default() };
        let six = client_frame(BINARY, false, b"123456");
        let four = client_frame(CONTINUE, true, b"7890");
        let five = client_frame(CONTINUE, true, b"78901");

        let fits = decode_chunks(&mut Decoder::default(), [&six[..], &four], &limits);
        assert_eq!(fits, (vec![Incoming::Message(b"1234567890".as_slice().into())], None));

        let mut decoder = Decoder::default();
        let header_of_five = &five[..6];
        let over = decode_chunks(&mut decoder, [&six[..], header_of_five], &limits);
        assert_eq!(over, (vec![], Some(CloseReason::MessageTooLong)));
        assert_idle(&decoder);
    }

    #[test]
    fn a_message_has_at_most_16_384_fragments() {
        let bomb = |fragments: usize| {
            let mut stream = client_frame(TEXT, false, b"");
            for _ in 2..fragments {
                stream.extend(client_frame(CONTINUE, false, b""));
                stream.extend(client_frame(PONG, true, b""));
            }
            stream.extend(client_frame(CONTINUE, true, b"end"));
            decode(&stream)
        };
        let (events, violation) = bomb(16_384);
        assert_eq!((events.last(), violation), (Some(&Incoming::Message("end".into())), None));

        let (events, violation) = bomb(16_385);
        assert!(events.iter().all(|event| *event == Incoming::Pong(Bytes::new())));
        assert_eq!(violation.unwrap().close().code(), CloseCode::POLICY);
    }

    #[test]
    fn nothing_comes_after_a_violation() {
        let mut decoder = Decoder::default();
        let limits = Limits::default();
        let (events, violation) = decode_chunks(&mut decoder, [b"\xFF\xFF".as_slice()], &limits);
        assert_eq!((events, violation), (vec![], None), "half a header");
        let (_, violation) = decode_chunks(&mut decoder, [[0xFF; 12].as_slice()], &limits);
        assert!(violation.is_some());

        let good = client_frame(TEXT, true, b"hello");
        assert_eq!(decode_chunks(&mut decoder, [&good[..]], &limits), (vec![], None));
        assert_idle(&decoder);
    }

    #[test]
    fn memory_grows_with_what_arrives_and_never_beyond_the_frame() {
        let limits = Limits::default();
        let frame = client_frame(BINARY, true, &vec![5; limits.max_message]);
        for step in [1, 1000, 65_536] {
            let mut decoder = Decoder::default();
            let (mut arrived, mut grown, mut before) = (0, 0, 0);
            for chunk in frame[..frame.len() - 1].chunks(step) {
                assert_eq!(decode_chunks(&mut decoder, [chunk], &limits), (vec![], None));
                arrived += chunk.len();
                let capacity = decoder.frame.as_ref().unwrap().bytes.capacity();
                assert!(capacity <= frame.len().min(16 + 2 * arrived), "{capacity} for {arrived}");
                grown += usize::from(capacity != before);
                before = capacity;
            }
            assert!(grown <= 24, "{grown} times moved: not a doubling");
            let last = &frame[frame.len() - 1..];
            let (events, _) = decode_chunks(&mut decoder, [last], &limits);
            assert_eq!(events, [Incoming::Message(vec![5; limits.max_message].into())]);
        }
    }

    #[test]
    fn a_payload_does_not_hold_a_larger_buffer() {
        fn wasted(mut events: Vec<Incoming>) -> usize {
            let payload = match events.pop() {
                Some(Incoming::Message(message)) => message.into_bytes(),
                Some(Incoming::Ping(payload)) => payload,
                other => panic!("{other:?}"),
            };
            let length = payload.len();
            payload.try_into_mut().expect("the only handle of the buffer").capacity() - length
        }

        for size in SIZES.into_iter().filter(|size| *size > 0) {
            for opcode in [TEXT, BINARY] {
                let payload = vec![b'x'; size];
                let most = if size < 1000 { 0 } else { 14 };
                assert!(wasted(decode(&client_frame(opcode, true, &payload)).0) <= most);

                let most = if size < 1000 { 0 } else { size / 8 };
                let (front, back) = payload.split_at(size / 3);
                let fragments =
                    [client_frame(opcode, false, front), client_frame(CONTINUE, true, back)];
                assert!(wasted(decode(&fragments.concat()).0) <= most);
            }
        }
        assert_eq!(wasted(decode(&client_frame(PING, true, b"ping")).0), 0);
    }
}
