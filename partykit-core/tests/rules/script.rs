//! A server that does what it is told: every message, every request body, and whatever a test puts on
//! the [`Stage`] for the other handlers, is a program of words, run from left to right.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_channel::oneshot;
use futures_core::future::BoxFuture;
use futures_executor::block_on;
use futures_util::FutureExt;
use partykit_core::{
    Alarm, Backend, BoxError, Close, Connection, HandlerError, KeepAwake, List, MemoryBackend,
    Message, Reject, Request, RequestExt, Response, Result, Room, Server, TaskResult, Timestamp,
    testing::{FaultyBackend, TestRoom, TestRoomBuilder},
};

/// What the servers of a test share with the test: their programs, their journal, and the latches at
/// which they wait.
#[derive(Clone, Default)]
pub(crate) struct Stage(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    programs: HashMap<&'static str, String>,
    journal: Vec<String>,
    latches: HashMap<String, Vec<oneshot::Sender<()>>>,
    /// Connections that handlers gave away with `lend`.
    pub(crate) lent: Vec<Connection>,
    made: u32,
    dropped: u32,
    panics_in_drop: bool,
}

impl Stage {
    pub(crate) fn server(&self) -> Script {
        self.state().made += 1;
        Script { stage: self.clone(), seen: 0, guard: None }
    }

    /// A room of this server, which hibernates.
    pub(crate) fn room(&self) -> TestRoom<Script> {
        self.builder().build()
    }

    pub(crate) fn builder(&self) -> TestRoomBuilder<Script> {
        let stage = self.clone();
        TestRoomBuilder::new(move |_| stage.server()).options(|options| options.hibernate(true))
    }

    /// A room over a store that can be made to wait and to fail.
    pub(crate) fn faulty(&self) -> (TestRoom<Script>, FaultyBackend<MemoryBackend>) {
        let backend = FaultyBackend::new(MemoryBackend::default(), 1);
        (self.on_backend(backend.clone()), backend)
    }

    pub(crate) fn on_backend(&self, backend: impl Backend) -> TestRoom<Script> {
        self.builder().backend(Arc::new(backend)).build()
    }

    /// What `handler` does from now on: `alarm`, `start`, `connect`, `close`, `error` or `task`.
    pub(crate) fn on(&self, handler: &'static str, program: &str) {
        self.state().programs.insert(handler, program.to_owned());
    }

    /// What was noted since somebody asked.
    pub(crate) fn journal(&self) -> Vec<String> {
        std::mem::take(&mut self.state().journal)
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.state().journal.push(what.into());
    }

    /// Lets those go on who wait at a latch; whether somebody did.
    pub(crate) fn open(&self, latch: &str) -> bool {
        let waiting = self.state().latches.remove(latch).unwrap_or_default();
        waiting.into_iter().filter(|waiter| !waiter.is_canceled()).count() > 0
    }

    /// Waits until a test opens the latch.
    pub(crate) fn wait(&self, latch: &str) -> impl Future<Output = ()> + Send + use<> {
        let (waiter, opened) = oneshot::channel();
        self.state().latches.entry(latch.to_owned()).or_default().push(waiter);
        opened.map(|_| ())
    }

    /// The connections that handlers gave away.
    pub(crate) fn lent(&self) -> Vec<Connection> {
        self.state().lent.clone()
    }

    pub(crate) fn panic_in_drop(&self) {
        self.state().panics_in_drop = true;
    }

    /// How many instances were made.
    pub(crate) fn made(&self) -> u32 {
        self.state().made
    }

    pub(crate) fn dropped(&self) -> u32 {
        self.state().dropped
    }

    fn program(&self, handler: &str) -> String {
        self.state().programs.get(handler).cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// The server.
pub(crate) struct Script {
    stage: Stage,
    /// Messages that this instance has seen.
    seen: u32,
    guard: Option<KeepAwake>,
}

impl Drop for Script {
    fn drop(&mut self) {
        self.stage.state().dropped += 1;
        let panics = std::mem::take(&mut self.stage.state().panics_in_drop);
        assert!(!panics, "a panic in drop");
    }
}

impl Server for Script {
    fn connection_tags(&mut self, _: &Room, _: &str, request: &Request) -> Result<Vec<String>> {
        let tags = request.query("tags");
        Ok(tags.map(|tags| tags.split(',').map(str::to_owned).collect()).unwrap_or_default())
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        self.stage.note(format!("start {:?}", room.start_reason()));
        self.play("start", room, None).await
    }

    async fn on_connect(&mut self, room: &Room, new: &Connection, request: &Request) -> Result {
        self.stage.note(format!("connect {}", new.id()));
        match request.query("do") {
            Some(program) => self.run(&program, room, Some(new)).await.map(drop),
            None => self.play("connect", room, Some(new)).await,
        }
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        self.seen += 1;
        let program = message.as_text().ok_or("a program is text")?;
        self.run(program, room, Some(sender)).await.map(drop)
    }

    async fn on_close(&mut self, room: &Room, gone: &Connection, close: Close) -> Result {
        let how = if close.is_clean() { "clean" } else { "unclean" };
        self.stage.note(format!("close {} {} {how}", gone.id(), close.code()));
        self.play("close", room, Some(gone)).await
    }

    async fn on_error(&mut self, room: &Room, error: HandlerError) -> Result {
        self.stage.note(format!("error {} {:?}", error.handler(), error.kind()));
        self.play("error", room, error.connection()).await
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        if let Some(Inside(act)) = request.extensions().get::<Inside>() {
            let act = act.lock().unwrap().take().ok_or("run twice")?;
            act(room).await;
            return Ok(Response::new("done".into()));
        }
        let program = request.body().bytes().cloned().unwrap_or_default();
        let said = self.run(std::str::from_utf8(&program)?, room, None).await?;
        Ok(Response::new(said.join(" ").into()))
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        let (now, due) = (seconds(room.now()), seconds(alarm.scheduled));
        let retry =
            if alarm.retries > 0 { format!(" retry {}", alarm.retries) } else { String::new() };
        let deaths =
            if alarm.deaths > 0 { format!(" deaths {}", alarm.deaths) } else { String::new() };
        self.stage.note(format!("alarm at {now} due {due}{retry}{deaths}"));
        self.play("alarm", room, None).await
    }

    #[cfg(feature = "schedules")]
    async fn on_schedule(&mut self, room: &Room, run: partykit_core::Run) -> Result {
        self.stage.note(super::timetable::line(room, &run)?);
        let program =
            format!("{} {}", self.stage.program("schedule"), self.stage.program(&run.name));
        self.run(&program, room, None).await.map(drop)
    }

    async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
        let (name, last) = (result.name(), if result.is_last() { "." } else { ".." });
        let value = result.value::<String>().unwrap_or_else(|error| error.to_string());
        self.stage.note(format!("task {name} {value}{last}"));
        self.play("task", room, None).await
    }
}

impl Script {
    async fn play(&mut self, handler: &str, room: &Room, who: Option<&Connection>) -> Result {
        let program = self.stage.program(handler);
        self.run(&program, room, who).await.map(drop)
    }

    /// Runs a program; returns what it said to nobody in particular.
    async fn run(
        &mut self,
        program: &str,
        room: &Room,
        who: Option<&Connection>,
    ) -> Result<Vec<String>> {
        let words: Vec<&str> = program.split_whitespace().collect();
        if words.first() == Some(&"awake") {
            self.guard = Some(room.keep_awake("script"));
            return Ok(Vec::new());
        }
        if words.first() == Some(&"asleep") {
            self.guard = None;
            return Ok(Vec::new());
        }
        Run { stage: &self.stage, seen: self.seen, room, who }.words(&words).await
    }
}

/// One run of a program.
#[derive(Clone, Copy)]
struct Run<'a> {
    stage: &'a Stage,
    seen: u32,
    room: &'a Room,
    who: Option<&'a Connection>,
}

impl<'a> Run<'a> {
    fn words(self, words: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let mut said = Vec::new();
            let mut words = words.iter();
            while let Some(word) = words.next() {
                let (verb, rest) = word.split_once(':').unwrap_or((word, ""));
                if verb == "try" {
                    // To the matching `end`.
                    let inner = words.as_slice();
                    let mut depth = 1;
                    let end = inner.iter().position(|word| {
                        depth += i32::from(*word == "try") - i32::from(*word == "end");
                        depth == 0
                    });
                    let end = end.ok_or("a try needs an end")?;
                    words = inner[end + 1..].iter();
                    let storage = self.room.storage();
                    let tried = storage.transaction(|_| self.words(&inner[..end]));
                    self.stage.note(format!("tried {}", tried.await.is_ok()));
                    continue;
                }
                self.word(verb, rest, &mut said).await?;
            }
            Ok(said)
        })
    }

    async fn word(self, verb: &str, rest: &str, said: &mut Vec<String>) -> Result {
        let Self { stage, room, who, .. } = self;
        let storage = room.storage();
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        let somebody = || who.ok_or_else(|| BoxError::from("nobody is here"));
        match verb {
            // Outputs.
            "say" => match who {
                Some(who) => who.send(rest),
                None => said.push(rest.to_owned()),
            },
            "all" => room.broadcast(rest).send(),
            "drained" => somebody()?.drained(rest.parse()?).await,
            "buffered" => stage.note(format!("buffered {}", somebody()?.buffered())),
            "others" => room.broadcast(rest).except(somebody()?).send(),
            "tagged" => room.broadcast(value).tag(key).send(),
            "close" => somebody()?.close(rest.parse::<u16>()?, "bye")?,
            "tell" => room.party("other").room(rest).tell(Request::new("told".into()))?,
            "spawn" => {
                let (value, latch) = (value.to_owned(), stage.wait(value));
                room.spawn("spawned", async move {
                    latch.await;
                    value
                });
            }
            // State.
            "put" => storage.put(key, value)?,
            "delete" => storage.delete(key)?,
            "clear" => storage.delete_all(),
            "sync" => storage.sync().await?,
            "state" => somebody()?.set_state(rest)?,
            // An alarm this many seconds after the beginning of the test.
            "alarm" => storage.set_alarm(Timestamp::from_millis(
                EPOCH.checked_add_signed(1000 * rest.parse::<i64>()?).ok_or("a moment")?,
            ))?,
            "noalarm" => storage.delete_alarm(),
            // Looking.
            #[cfg(feature = "schedules")]
            "at" | "after" | "every" | "unset" | "schedule?" | "schedules?" => {
                super::timetable::set(stage, room, verb, rest).await?;
            }
            "alarm?" => {
                let at = storage.alarm().await?.map(|at| seconds(at).to_string());
                stage.note(format!("alarm={}", at.as_deref().unwrap_or("none")));
            }
            "get" => {
                let value = storage.get::<String>(rest).await?;
                stage.note(format!("{rest}={}", value.as_deref().unwrap_or("none")));
            }
            "list" => {
                let rows = storage.list::<String>(List::new()).await?;
                let rows: Vec<_> = rows.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
                stage.note(rows.join(" "));
            }
            "state?" => {
                let state = somebody()?.state::<String>()?;
                stage.note(format!("state {}", state.as_deref().unwrap_or("none")));
            }
            "who" => {
                let ids: Vec<_> = room.connections().map(|c| c.id().to_owned()).collect();
                stage.note(format!("here: {}", ids.join(",")));
            }
            "seen" => stage.note(format!("seen {}", self.seen)),
            "note" => stage.note(rest),
            "lend" => stage.state().lent.push(somebody()?.clone()),
            // Ends, and pauses.
            "wait" => stage.wait(rest).await,
            "reject" => return Err(Reject::conflict(rest.to_owned()).into()),
            "json" => drop(Message::from(rest).json::<u32>()?),
            "fail" => return Err("secret detail".into()),
            "panic" => panic!("secret detail"),
            "stuck" => std::future::pending().await,
            _ => return Err(format!("no such word: {verb}").into()),
        }
        Ok(())
    }
}

/// Runs real code as a request's handler and returns what it returns.
pub(crate) async fn inside<T: Send + 'static>(
    room: &TestRoom<Script>,
    code: impl for<'a> FnOnce(&'a Room) -> BoxFuture<'a, T> + Send + 'static,
) -> T {
    let (request, answer) = act(code);
    room.request(request).await.expect("the code inside does not panic");
    answer.await.expect("the code inside has run")
}

/// A request whose handler is this code, and what the code returns.
pub(crate) fn act<T: Send + 'static>(
    code: impl for<'a> FnOnce(&'a Room) -> BoxFuture<'a, T> + Send + 'static,
) -> (Request, oneshot::Receiver<T>) {
    let (answer, answered) = oneshot::channel();
    let act: Act = Box::new(|room| {
        let result = code(room);
        Box::pin(async move { drop(answer.send(result.await)) })
    });
    let mut request = Request::default();
    request.extensions_mut().insert(Inside(Arc::new(Mutex::new(Some(act)))));
    (request, answered)
}

type Act = Box<dyn for<'a> FnOnce(&'a Room) -> BoxFuture<'a, ()> + Send>;

#[derive(Clone)]
struct Inside(Arc<Mutex<Option<Act>>>);

/// Runs a test.
pub(crate) fn test(stage: impl AsyncFnOnce(Stage)) {
    block_on(stage(Stage::default()));
}

/// A request with a program.
pub(crate) fn told(program: &str) -> Request {
    Request::new(program.to_owned().into())
}

/// A request to connect.
pub(crate) fn wish(query: &str) -> Request {
    let mut request = Request::default();
    *request.uri_mut() = format!("/parties/main/room?{query}").parse().expect("a path");
    request
}

/// What was received, as text.
pub(crate) fn heard(client: &partykit_core::testing::TestConnection) -> Vec<String> {
    let received = client.received();
    received.iter().map(|m| m.as_text().expect("text").to_owned()).collect()
}

/// What was received, by a client that nobody spoke to.
pub(crate) const NOTHING: [&str; 0] = [];

/// When the clock of a test begins, in milliseconds.
pub(crate) const EPOCH: u64 = 1_704_067_200_000;

/// Seconds since the beginning of the test.
pub(crate) fn seconds(at: Timestamp) -> i64 {
    (at.as_millis().cast_signed() - EPOCH.cast_signed()) / 1000
}
