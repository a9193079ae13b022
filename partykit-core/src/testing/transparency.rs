use std::{fmt, time::Duration};

use bytes::Bytes;

use super::{TestConnection, TestRoom, TestRoomBuilder};
use crate::{Body, List, Message, Request, Server};

/// Something that happens to a room under test.
///
/// ```
/// use std::time::Duration;
/// use partykit_core::testing::Step;
///
/// let steps = [
///     Step::connect("ada"),
///     Step::say("ada", "hello"),
///     Step::get("/history"),
///     Step::Advance(Duration::from_secs(60)),
///     Step::close("ada", 1000),
/// ];
/// # let _ = steps;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Time passes.
    Advance(Duration),
    /// A client closes its connection, with this code.
    Close {
        /// The client's id.
        id: String,
        /// The close code.
        code: u16,
    },
    /// A client connects under this id.
    Connect(String),
    /// An HTTP request arrives.
    Request {
        /// Its method.
        method: http::Method,
        /// What follows the room's address in its path: empty, or with a `/` or `?` first.
        path: String,
        /// Its body.
        body: Bytes,
    },
    /// A client says something.
    Say {
        /// The client's id.
        id: String,
        /// What it says.
        message: Message,
    },
    /// A client is gone without a Close.
    Vanish(String),
}

impl Step {
    /// A client connects.
    pub fn connect(id: &str) -> Self {
        Self::Connect(id.to_owned())
    }

    /// A client says something.
    pub fn say(id: &str, message: impl Into<Message>) -> Self {
        Self::Say { id: id.to_owned(), message: message.into() }
    }

    /// A GET request.
    pub fn get(path: &str) -> Self {
        Self::Request { method: http::Method::GET, path: path.to_owned(), body: Bytes::new() }
    }

    /// A client closes its connection.
    pub fn close(id: &str, code: u16) -> Self {
        Self::Close { id: id.to_owned(), code }
    }
}

/// Checks that sleep is invisible: runs the same steps in a room that never sleeps and in one that
/// sleeps after every step, and compares what comes out after each: frames, closes, answers and what
/// is stored, alarms included.
///
/// It holds for every server whose `on_start` makes its fields anew from storage and connections and
/// says nothing. A server that keeps something in a field only is found out:
///
/// ```
/// use partykit_core::{Connection, Message, Result, Room, Server};
/// use partykit_core::testing::{Step, TestRoomBuilder, transparency};
///
/// #[derive(Default)]
/// struct Forgetful {
///     messages: u32,
/// }
///
/// impl Server for Forgetful {
///     async fn on_message(&mut self, _: &Room, sender: &Connection, _: Message) -> Result {
///         self.messages += 1;
///         sender.send(self.messages.to_string());
///         Ok(())
///     }
/// }
///
/// # futures_executor::block_on(async {
/// let steps = [Step::connect("ada"), Step::say("ada", "one"), Step::say("ada", "two")];
/// let rooms = || TestRoomBuilder::new(|_| Forgetful::default());
/// let difference = transparency(rooms, &steps).await.unwrap_err();
/// assert_eq!(difference.step, 2);
/// # });
/// ```
///
/// # Errors
///
/// The first difference.
///
/// # Panics
///
/// When a step is not possible, such as a word of somebody who is not connected; or when the room
/// could not sleep because it keeps itself awake.
pub async fn transparency<S: Server>(
    rooms: impl Fn() -> TestRoomBuilder<S>,
    steps: &[Step],
) -> Result<(), Difference> {
    let awake = rooms().options(|options| options.hibernate_after(Duration::MAX / 4)).build();
    let asleep = rooms().options(|options| options.hibernate(true)).build();
    let (mut awake, mut asleep) = (Run::new(awake), Run::new(asleep));
    for (step, what) in steps.iter().enumerate() {
        let (left, right) = (awake.take(what).await, asleep.take(what).await);
        if left != right {
            return Err(Difference { step, awake: left, asleep: right });
        }
        if let Err(reasons) = asleep.room.hibernate().await {
            panic!("after step {step} the room does not sleep: {reasons:?}");
        }
    }
    Ok(())
}

/// Where sleep shows.
///
/// ```
/// use partykit_core::testing::Difference;
///
/// fn report(difference: &Difference) {
///     println!("step {}: {difference}", difference.step);
/// }
/// # let _ = report;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// After which step, counted from 0.
    pub step: usize,
    /// What came out of the room that never slept, a line for each thing.
    pub awake: Vec<String>,
    /// What came out of the room that slept after every step.
    pub asleep: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after step {} a room that slept differs from one that did not", self.step)?;
        for line in self.awake.iter().filter(|line| !self.asleep.contains(line)) {
            writeln!(f, "- {line}")?;
        }
        for line in self.asleep.iter().filter(|line| !self.awake.contains(line)) {
            writeln!(f, "+ {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Difference {}

/// One of the two rooms, with its clients.
struct Run<S> {
    room: TestRoom<S>,
    clients: Vec<TestConnection>,
}

impl<S: Server> Run<S> {
    fn new(room: TestRoom<S>) -> Self {
        Self { room, clients: Vec::new() }
    }

    /// Takes a step; returns everything that can be seen after it.
    async fn take(&mut self, step: &Step) -> Vec<String> {
        let mut seen = Vec::new();
        match step {
            Step::Advance(time) => self.room.advance(*time).await,
            Step::Close { id, code } => {
                if let Err(error) = self.client(id).close(*code, "").await {
                    panic!("{id} cannot close: {error}");
                }
            }
            Step::Connect(id) => {
                let client = self.room.connect(id).await;
                self.clients.push(client);
            }
            Step::Request { method, path, body } => {
                let mut request = Request::new(Body::from(body.clone()));
                *request.method_mut() = method.clone();
                *request.uri_mut() = self.room.path(path).parse().expect("a path");
                seen.push(match self.room.request(request).await {
                    Ok(answer) => format!("{} {:?}", answer.status(), answer.body().bytes()),
                    Err(refusal) => format!("{}", refusal.status()),
                });
            }
            Step::Say { id, message } => self.client(id).send(message.clone()).await,
            Step::Vanish(id) => self.client(id).vanish().await,
        }
        for client in &self.clients {
            let id = client.id();
            seen.extend(
                client.received().iter().map(|m| format!("{id} gets {:?}", m.clone().into_bytes())),
            );
            seen.push(match client.closed() {
                // Error ids differ from run to run.
                Some(close) => format!("{id} is closed with {}", close.code()),
                None => format!("{id} is open: {}", client.is_open()),
            });
        }
        let rows = self.room.rows(List::new()).await;
        seen.extend(
            rows.into_iter()
                .map(|(key, value)| format!("stored {key:?}: {:?}", Bytes::from(value))),
        );
        seen.extend(self.room.alarm().await.map(|at| format!("an alarm at {at}")));
        seen
    }

    /// The newest connection with this id.
    fn client(&self, id: &str) -> &TestConnection {
        let client = self.clients.iter().rev().find(|client| client.id() == id);
        client.unwrap_or_else(|| panic!("{id} is not connected"))
    }
}
