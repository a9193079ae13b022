use std::{fmt, time::Duration};

use bytes::Bytes;

use super::{
    NotConnected, Step, TestConnection, TestRoom, TestRoomBuilder, host::line, step::What,
};
use crate::{AwakeReason, CloseCode, List, Server};

/// How long a task may keep the room awake after a step, in seconds.
const WAITS: u32 = 60;
const WAIT: Duration = Duration::from_secs(1);

/// Checks that sleep is invisible. It runs the same steps in a room that never sleeps and in a room that
/// sleeps after every step. After each step it compares everything that leaves the room: frames, closes, answers
/// with their headers, what other rooms are told and asked, and what is stored, including alarms.
///
/// It succeeds for every server whose `on_start` rebuilds its fields from storage and connections and sends
/// nothing. It finds a server that keeps something only in a field:
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
/// A step that is refused, closed or dropped, or whose handler fails, checks nothing. So it is an error too,
/// unless it [may fail](Step::may_fail). [`transparency_random`](super::transparency_random) makes random
/// stories.
///
/// # Errors
///
/// The first difference, or the first step that did not happen.
///
/// # Panics
///
/// When a step is of a client that has never connected, or when the room does not sleep because it keeps
/// itself awake. A task may do that for a minute: if needed, this much time passes in both rooms.
pub async fn transparency<S: Server>(
    rooms: impl Fn() -> TestRoomBuilder<S>,
    steps: &[Step],
) -> Result<(), Difference> {
    tell(&rooms, steps, true).await
}

/// Runs a story in both rooms. If `strict`, every step has to happen.
pub(super) async fn tell<S: Server>(
    rooms: &impl Fn() -> TestRoomBuilder<S>,
    steps: &[Step],
    strict: bool,
) -> Result<(), Difference> {
    let awake = rooms().options(|options| options.hibernate_after(Duration::MAX / 4)).build();
    let asleep = rooms().options(|options| options.hibernate(true)).build();
    let (mut awake, mut asleep) = (Run::new(awake), Run::new(asleep));
    for (number, step) in steps.iter().enumerate() {
        if !strict && !awake.can_take(step) {
            continue;
        }
        let ((left, failed), (right, _)) = (awake.take(step).await, asleep.take(step).await);
        if left != right {
            return Err(Difference { step: number, failed: None, awake: left, asleep: right });
        }
        if let Some(failed) = failed.filter(|_| strict && !step.may_fail) {
            let failed = Some(format!("{step}: {failed}"));
            return Err(Difference { step: number, failed, awake: left, asleep: right });
        }
        // Tasks keep a room awake, and those that wait for a time end when it passes.
        let mut waits = WAITS;
        while let Err(reasons) = asleep.room.hibernate().await {
            let is_waiting = reasons.iter().any(|why| matches!(why, AwakeReason::Task { .. }));
            if waits == 0 || !is_waiting {
                panic!("after step {number} ({step}) the room does not sleep: {reasons:?}");
            }
            waits -= 1;
            let wait = Step::advance(WAIT);
            let ((left, _), (right, _)) = (awake.take(&wait).await, asleep.take(&wait).await);
            if left != right {
                return Err(Difference { step: number, failed: None, awake: left, asleep: right });
            }
        }
    }
    Ok(())
}

/// A difference between a room that sleeps and one that does not.
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
    /// The step after which the rooms differ, counted from 0.
    pub step: usize,
    /// Why the step did not happen: `ada connects: on_before_connect answered 401`. `None` if it happened and
    /// the rooms differ.
    pub failed: Option<String>,
    /// The outputs of the room that never slept, one line each.
    pub awake: Vec<String>,
    /// The outputs of the room that slept after every step.
    pub asleep: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(failed) = &self.failed {
            return write!(f, "step {} did not happen, so nothing is checked. {failed}", self.step);
        }
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

    /// Whether the client that acts in `step` is connected.
    fn can_take(&self, step: &Step) -> bool {
        step.client().is_none_or(|id| {
            let client = self.clients.iter().rev().find(|client| client.id() == id);
            client.is_some_and(TestConnection::is_open)
        })
    }

    /// Takes a step. Returns everything that can be seen after it, and why it did not happen (`None` if it
    /// did).
    async fn take(&mut self, step: &Step) -> (Vec<String>, Option<String>) {
        let mut seen = Vec::new();
        let mut failed = None;
        let rejected = self.room.stats().account.rejected;
        match &step.what {
            What::Advance(time) => self.room.advance(*time).await,
            What::Close { id, code } => match self.client(id).close(*code, "").await {
                Ok(()) => {}
                Err(error) => panic!("{id} cannot close: {error}"),
            },
            What::Connect { id } => {
                let request = step.as_request(&self.room.path(""));
                match self.room.try_connect(id, request).await {
                    Ok(client) => {
                        if let Some(close) = client.closed() {
                            failed = Some(format!("closed with {close}"));
                        }
                        self.clients.push(client);
                    }
                    Err(why) => {
                        failed = Some(why.to_string());
                        seen.push(format!("{id} is not let in: {}", kind(&why)));
                    }
                }
            }
            What::Request { .. } => {
                let request = step.as_request(&self.room.path(""));
                let (answer, is_rejected) = self.room.ask(request).await;
                match answer {
                    Ok(answer) => {
                        if is_rejected {
                            failed = Some(format!("rejected: {}", answer.status()));
                        }
                        seen.push(format!("{} {:?}", answer.status(), answer.body().bytes()));
                        let headers = answer.headers().iter();
                        seen.extend(headers.map(|(name, value)| format!("with {name}: {value:?}")));
                    }
                    Err(refusal) => {
                        failed = Some(refusal.to_string());
                        seen.push(refusal.status().to_string());
                    }
                }
            }
            What::Say { id, message } => {
                let client = self.client(id);
                if !client.is_open() {
                    failed = Some("the connection is closed".to_owned());
                }
                client.send(message.clone()).await;
                if self.room.stats().account.rejected > rejected {
                    failed = Some("the message was rejected".to_owned());
                }
            }
            What::Vanish { id } => self.client(id).vanish().await,
        }
        let errors = self.room.errors();
        if !errors.is_empty() {
            let before = failed.map(|why| why + "; ").unwrap_or_default();
            failed = Some(before + &errors.join("; "));
        }
        self.look(&mut seen).await;
        (seen, failed)
    }

    /// What can be seen now.
    async fn look(&self, seen: &mut Vec<String>) {
        for client in &self.clients {
            let id = client.id();
            let received = client.received().into_iter();
            seen.extend(received.map(|message| format!("{id} gets {:?}", message.into_bytes())));
            seen.push(match client.closed() {
                // Its reason is an error id, which differs from run to run.
                Some(close) if close.code() == CloseCode::INTERNAL => {
                    format!("{id} is closed with {}", close.code())
                }
                Some(close) => format!("{id} is closed with {close}"),
                None => format!("{id} is open: {}", client.is_open()),
            });
        }
        seen.extend(self.room.asked().iter().map(|asked| format!("asks {asked}")));
        let told = self.room.told().into_iter();
        seen.extend(told.map(|(to, request)| format!("tells {}", line(&to, &request))));
        let rows = self.room.rows(List::new()).await;
        seen.extend(
            rows.into_iter()
                .map(|(key, value)| format!("stored {key:?}: {:?}", Bytes::from(value))),
        );
        seen.extend(self.room.alarm().await.map(|at| format!("an alarm at {at}")));
        #[cfg(feature = "schedules")]
        for schedule in self.room.schedules().await {
            seen.push(format!("a schedule: {schedule:?}"));
        }
    }

    /// The newest connection with this id.
    fn client(&self, id: &str) -> &TestConnection {
        let client = self.clients.iter().rev().find(|client| client.id() == id);
        client.unwrap_or_else(|| panic!("{id} is not connected"))
    }
}

/// What a client sees, without error ids, which differ in each run.
fn kind(why: &NotConnected) -> String {
    match why {
        NotConnected::Answered(response) => response.status().to_string(),
        NotConnected::Failed(_) => "500".to_owned(),
        NotConnected::Refused(refusal) => refusal.status().to_string(),
        NotConnected::Rejected(reject) => reject.close().to_string(),
    }
}
