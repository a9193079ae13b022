use std::{num::NonZeroU32, time::Duration};

use crate::Text;

/// The options and limits of a party's rooms. The defaults are the limits of Durable Objects, where those
/// have one.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::Options;
///
/// let options = Options::new().hibernate(true).hibernate_after(Duration::from_secs(2));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) hibernate: bool,
    pub(crate) hibernate_after: Duration,
    pub(crate) auto_response: Option<(Text, Text)>,
    pub(crate) max_connections: usize,
    pub(crate) max_message: usize,
    pub(crate) message_rate: Option<(NonZeroU32, NonZeroU32)>,
    pub(crate) max_request_body: usize,
    pub(crate) mailbox_events: usize,
    pub(crate) mailbox_bytes: usize,
    pub(crate) held_bytes: usize,
    /// What one handler may send. It is equal to `held_bytes`, except in tests of the machine.
    pub(crate) said_bytes: usize,
    pub(crate) handler_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hibernate: false,
            hibernate_after: Duration::from_secs(10),
            auto_response: None,
            max_connections: 32_768,
            max_message: 1 << 20,
            message_rate: None,
            max_request_body: 2 << 20,
            mailbox_events: 1024,
            mailbox_bytes: 16 << 20,
            held_bytes: 64 << 20,
            said_bytes: 64 << 20,
            handler_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// The largest message that can be allowed, in bytes: 32 MiB, as on Cloudflare.
    pub const MAX_MESSAGE: usize = 32 << 20;
    /// The longest text of an auto-response, in bytes: 2,048 each, as on Cloudflare.
    pub const MAX_AUTO_RESPONSE: usize = 2048;

    /// The defaults: a server that does not hibernate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an idle room's instance is dropped from memory while its connections stay open. Default:
    /// `false`, as in PartyKit. Then the instance stays in memory while the room has connections. It is
    /// dropped when there was no connection for [`Options::hibernate_after`].
    #[must_use]
    pub fn hibernate(self, hibernate: bool) -> Self {
        Self { hibernate, ..self }
    }

    /// How long a room stays awake after the last thing that happened in it. Default: 10 s.
    ///
    /// A room that holds nothing is dropped sooner, because any client can bring such a room into memory with
    /// an invented name. It has no connection, has never stored anything, and no task or guard keeps it
    /// awake. It is dropped
    ///
    /// * 2 s after a request, if it had no connection since it woke, and if the party
    ///   [hibernates](Options::hibernate) or its server has no fields;
    /// * at once, while very many rooms are in memory (on Tokio a 64th of the allowed number, 1,562 by
    ///   default).
    #[must_use]
    pub fn hibernate_after(self, idle: Duration) -> Self {
        Self { hibernate_after: idle, ..self }
    }

    /// A ping of the application: each time a client sends exactly the text `request`, the runtime answers
    /// with `response` by itself. The room is not woken, and handlers never see the message.
    ///
    /// # Panics
    ///
    /// When one of the texts is longer than [`Options::MAX_AUTO_RESPONSE`] bytes.
    #[must_use]
    pub fn auto_response(self, request: impl Into<Text>, response: impl Into<Text>) -> Self {
        let pair = (request.into(), response.into());
        let fits = pair.0.len().max(pair.1.len()) <= Self::MAX_AUTO_RESPONSE;
        assert!(fits, "an auto-response text has at most {} bytes", Self::MAX_AUTO_RESPONSE);
        Self { auto_response: Some(pair), ..self }
    }

    /// How many connections a room may have. A further one is refused with 503. Default: 32,768.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        Self { max_connections: connections, ..self }
    }

    /// The longest message that a client may send, in bytes. A longer one closes its connection with 1009.
    /// Default: 1 MiB. At most [`Options::MAX_MESSAGE`].
    #[must_use]
    pub fn max_message(self, bytes: usize) -> Self {
        Self { max_message: bytes.min(Self::MAX_MESSAGE), ..self }
    }

    /// How many messages a client may send: `per_second` in a second, and up to `burst` at once after a
    /// pause. The next message is dropped and closes the connection with 1008. Texts of the
    /// [auto-response](Options::auto_response) count. Default: no limit, because a busy room slows its
    /// clients down anyway: see [`Options::mailbox`].
    ///
    /// ```
    /// use partykit_core::Options;
    ///
    /// let cursors = Options::new().max_message_rate(60, 120);
    /// # let _ = cursors;
    /// ```
    ///
    /// # Panics
    ///
    /// When one of them is 0, because then no client could say anything.
    #[must_use]
    #[track_caller]
    pub fn max_message_rate(self, per_second: u32, burst: u32) -> Self {
        let rate = NonZeroU32::new(per_second).zip(NonZeroU32::new(burst));
        assert!(rate.is_some(), "the rate and the burst of messages must be at least 1");
        Self { message_rate: rate, ..self }
    }

    /// The longest body of an HTTP request, in bytes. A longer one is answered with 413. Default: 2 MiB.
    #[must_use]
    pub fn max_request_body(self, bytes: usize) -> Self {
        Self { max_request_body: bytes, ..self }
    }

    /// How many messages may wait for the room, and how many bytes of memory they and the queue may use.
    /// Default: 1,024 messages and 16 MiB. An empty mailbox always takes one message.
    ///
    /// * **Messages.** When a limit is reached, the room's sockets are not read until there is space. They go
    ///   on in the order in which they began to wait.
    /// * **One connection** has at most an eighth of the messages (16 if that is more) and a quarter of
    ///   the bytes. Beyond that only its own socket is not read.
    /// * **Requests**, calls and tells have an eighth more of both limits, which messages cannot use. Above
    ///   that they get 503; a calling room gets `Overloaded`.
    /// * **Connects** have limits of their own, so that all clients of a room can come back at once: as many
    ///   may wait as the room may have [connections](Options::max_connections), and their requests may use
    ///   four times the bytes (64 MiB by default). Above that they get 503. A connect that waits longer than
    ///   [`Options::connect_timeout`] is closed with 1011.
    /// * **Closes and alarms** always enter.
    #[must_use]
    pub fn mailbox(self, events: usize, bytes: usize) -> Self {
        Self { mailbox_events: events.max(1), mailbox_bytes: bytes.max(1), ..self }
    }

    /// How many bytes of outputs may wait to leave the room. Each message counts 272 bytes more than its
    /// length. Default: 64 MiB.
    ///
    /// A handler that sends more fails with [`FailureKind::SaidTooMuch`](crate::FailureKind) and is rolled
    /// back. What it sent before its last `await` does not count any more, unless it waits for a commit. A
    /// handler that has more to send can wait in between: see
    /// [`Connection::drained`](crate::Connection::drained). While more than this waits for commits, the room
    /// takes no further event.
    ///
    /// Senders outside of the handlers have limits, too. A broadcast from outside is refused if a quarter of
    /// this waits already. A task that sends to a connection has it closed with 1013 if twice as much as this
    /// would wait.
    #[must_use]
    pub fn max_held(self, bytes: usize) -> Self {
        Self { held_bytes: bytes, said_bytes: bytes, ..self }
    }

    /// How long a handler may run before it is cancelled, which counts as a failure. Default: 30 s.
    #[must_use]
    pub fn handler_timeout(self, limit: Duration) -> Self {
        Self { handler_timeout: limit, ..self }
    }

    /// How long a connect may take, from its arrival to the end of `on_connect`, including the `on_start` of
    /// a sleeping room. Default: 10 s. PartySocket gives up after 4 s.
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        Self { connect_timeout: limit, ..self }
    }

    /// How long a call to another room may take. Default: 10 s.
    #[must_use]
    pub fn call_timeout(self, limit: Duration) -> Self {
        Self { call_timeout: limit, ..self }
    }
}

/// What a runtime reads of a server's options, each under the name of the function that sets it. What only the core
/// reads is not here.
///
/// ```
/// use partykit_core::{Options, runtime::Chosen};
///
/// let options = Options::new().max_message(4096).hibernate(true);
/// let chosen = Chosen::of(&options);
/// assert_eq!((chosen.max_message, chosen.hibernate), (4096, true));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Chosen<'a> {
    /// Whether the party hibernates: [`Options::hibernate`].
    pub hibernate: bool,
    /// The request and the response: [`Options::auto_response`]. `None` if there is no such pair.
    pub auto_response: Option<(&'a Text, &'a Text)>,
    /// In bytes: [`Options::max_message`].
    pub max_message: usize,
    /// Messages per second, and burst: [`Options::max_message_rate`]. `None` if there is no limit.
    pub max_message_rate: Option<(NonZeroU32, NonZeroU32)>,
    /// In bytes: [`Options::max_request_body`].
    pub max_request_body: usize,
}

impl<'a> Chosen<'a> {
    /// Reads these options.
    pub fn of(options: &'a Options) -> Self {
        Self {
            hibernate: options.hibernate,
            auto_response: options
                .auto_response
                .as_ref()
                .map(|(request, response)| (request, response)),
            max_message: options.max_message,
            max_message_rate: options.message_rate,
            max_request_body: options.max_request_body,
        }
    }
}
