use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use partykit::{
    Admit, Alarm, Body, BoxError, Close, Connection, HandlerError, Lobby, Message, Options, Reject,
    Request, RequestExt, Response, ResponseExt, Result, Room, Run, Server, TaskResult, Timestamp,
    error::{CallError, Handler},
    http::{Method, StatusCode, header},
    runtime::RoutePrefix,
};
use serde_json::{Value, json};

use super::{
    Arrival, Command, Motto, answering,
    arrival::seen,
    signals,
    storing::{ON_ALARM, store},
};

/// A text that the runtime answers with [`AUTO_RESPONSE`], without the room.
pub const AUTO_REQUEST: &str = "ping?";
/// The answer to [`AUTO_REQUEST`].
pub const AUTO_RESPONSE: &str = "pong!";
/// Stands in every error that a probe makes, and must never be seen by a client.
pub const SECRET: &str = "hunter2";
/// The beginning of a message, text or binary. A [`Command`] follows it. The client is at fault if none follows.
pub const STRICT: &str = "strict:";

/// Does what its clients tell it: with the query of their address ([`Arrival`]) and with
/// [`Command`]s. What is no command (binary, or text that does not begin with `{`) is echoed.
///
/// Of its own accord it tells everybody who is left when a connection ends (`{"event": "close"}` with
/// `id`, `code`, `reason`, `clean` and `count`) and when a handler has failed (`{"event": "error"}` with
/// `handler`, `kind` and `id`, whose event it was).
///
/// To requests it answers by the path behind the room: none: what it sees of the request; `do`: the
/// answer to the command in the body; `echo`: the body; `answer`: the answer that the request describes
/// (status of the query, headers `x-answer-..`, body), counted under the key `answered`; `fail` and `panic`: it does that.
///
/// When its alarm rings it tells everybody (`{"event": "alarm"}` with `scheduled`, `now`, `retries`, and
/// `at`, which is what [`Command::Alarm`] answers then, and `reason`, why the room has started) and stores
/// the same, together with those before, under `rang`. Then it does what [`Command::OnAlarm`] said.
///
/// It keeps nothing in fields but what [`Command::Who`] shows as `instance`: so whether it hibernates
/// shows nowhere else.
#[derive(Debug, Default)]
pub struct Probe<const HIBERNATES: bool> {
    instance: String,
}

impl<const HIBERNATES: bool> Server for Probe<HIBERNATES> {
    fn options() -> Options {
        Options::new().hibernate(HIBERNATES).auto_response(AUTO_REQUEST, AUTO_RESPONSE)
    }

    async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
        Arrival::of(&request)?.admit(request, lobby)
    }

    async fn on_before_request(request: Request, lobby: &Lobby) -> Result<Admit> {
        Arrival::of(&request)?.admit(request, lobby)
    }

    fn connection_tags(&mut self, _: &Room, _: &str, request: &Request) -> Result<Vec<String>> {
        Ok(Arrival::of(request)?.tags)
    }

    async fn on_start(&mut self, room: &Room) -> Result {
        yields(20).await;
        self.instance = instance(room);
        Ok(())
    }

    async fn on_connect(
        &mut self,
        room: &Room,
        connection: &Connection,
        request: &Request,
    ) -> Result {
        let arrival = Arrival::of(request)?;
        if let Some(key) = &arrival.put {
            room.storage().put(key, &true)?;
        }
        for n in 0..arrival.greet {
            connection.send(format!("greet {n}"));
        }
        if arrival.show {
            connection.send_json(&seen(request)?)?;
        }
        if let Some(code) = arrival.close {
            connection.close(code, "as asked")?;
        }
        assert!(!arrival.panics, "{SECRET}");
        if arrival.rejects == Some(Handler::OnConnect) {
            return Err(Reject::forbidden("not you").into());
        }
        if arrival.fails { Err(SECRET.into()) } else { Ok(()) }
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        if let Some(strict) = message.as_bytes().strip_prefix(STRICT.as_bytes()) {
            let command = Message::from(strict.to_vec()).json()?;
            self.perform(room, Some(sender), command).await?;
            return Ok(());
        }
        if !message.as_text().is_some_and(|text| text.starts_with('{')) {
            sender.send(message);
            return Ok(());
        }
        let answer = match message.json() {
            Ok(command) => self.perform(room, Some(sender), command).await?,
            Err(error) => Some(json!({ "error": error.to_string() })),
        };
        if let Some(answer) = answer {
            sender.send_json(&answer)?;
        }
        Ok(())
    }

    async fn on_close(&mut self, room: &Room, connection: &Connection, close: Close) -> Result {
        let event = json!({
            "event": "close", "id": connection.id(), "code": u16::from(close.code()),
            "reason": close.reason(), "clean": close.is_clean(), "count": room.count(),
            "listed": room.connections().any(|other| other == *connection),
        });
        room.broadcast_json(&event)?.send();
        Ok(())
    }

    async fn on_error(&mut self, room: &Room, error: HandlerError) -> Result {
        let kind = format!("{:?}", error.kind());
        let id = error.connection().map(Connection::id);
        let event = json!({
            "event": "error", "handler": error.handler().name(), "kind": kind, "id": id,
        });
        room.broadcast_json(&event)?.send();
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        match rest(&request).as_str() {
            "do" => {
                let answer = self.perform(room, None, request.json()?).await?;
                Ok(Response::json(&answer.unwrap_or_else(|| json!({ "re": "done" })))?)
            }
            "echo" => {
                let mut response = Response::new(Body::empty());
                if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
                }
                *response.status_mut() = StatusCode::ACCEPTED;
                *response.body_mut() = request.into_body();
                Ok(response)
            }
            "answer" => answering::as_asked(room, request).await,
            "fail" => Err(SECRET.into()),
            "panic" => panic!("{SECRET}"),
            _ => Ok(Response::json(&seen(&request)?)?),
        }
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        let storage = room.storage();
        let event = json!({
            "event": "alarm", "scheduled": alarm.scheduled.as_millis(), "retries": alarm.retries,
            "now": room.now().as_millis(), "at": storage.alarm().await?.map(Timestamp::as_millis),
            "reason": format!("{:?}", room.start_reason()),
        });
        room.broadcast_json(&event)?.send();
        let mut rang = storage.get::<Vec<Value>>("rang").await?.unwrap_or_default();
        rang.push(event);
        storage.put("rang", &rang)?;
        let Some(then) = storage.get(ON_ALARM).await? else { return Ok(()) };
        let Command::OnAlarm { commands, failures } = then else { return Ok(()) };
        self.perform_all(room, None, commands).await?;
        if alarm.retries < failures { Err(SECRET.into()) } else { Ok(()) }
    }

    async fn on_schedule(&mut self, room: &Room, run: Run) -> Result {
        let event = json!({
            "event": "schedule", "name": run.name, "scheduled": run.scheduled.as_millis(),
            "missed": run.missed, "retries": run.retries, "now": room.now().as_millis(),
            "reason": format!("{:?}", room.start_reason()),
        });
        room.broadcast_json(&event)?.send();
        if run.retries < run.payload::<u32>()? {
            room.storage().put("half", &true)?;
            return Err(SECRET.into());
        }
        Ok(())
    }

    async fn on_task(&mut self, room: &Room, result: TaskResult) -> Result {
        let event = json!({ "event": "task", "value": result.value::<String>()? });
        room.broadcast_json(&event)?.send();
        Ok(())
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<const HIBERNATES: bool> Probe<HIBERNATES> {
    /// Does what it is told, and says what there is to answer.
    async fn perform(
        &self,
        room: &Room,
        sender: Option<&Connection>,
        command: Command,
    ) -> Result<Option<Value>> {
        let storage = room.storage();
        let answer = match command {
            Command::Who => json!({
                "re": "who", "party": room.address().party(), "room": room.id(),
                "instance": self.instance, "reason": format!("{:?}", room.start_reason()),
                "count": room.count(), "connections": ids(room.connections()),
            }),
            Command::Tagged { tag } => json!({ "re": "tagged", "ids": ids(room.tagged(&tag)) }),
            Command::Find { id } => match room.connection(&id) {
                None => json!({ "re": "find", "found": false }),
                Some(it) => json!({
                    "re": "find", "found": true, "tags": it.tags().collect::<Vec<_>>(),
                    "uri": it.uri(), "said": it.state::<u32>()?,
                }),
            },
            Command::Broadcast { text, tag, except_me } => {
                let mut broadcast = room.broadcast(text);
                if let Some(tag) = tag {
                    broadcast = broadcast.tag(tag);
                }
                if let (true, Some(sender)) = (except_me, sender) {
                    broadcast = broadcast.except(sender);
                }
                broadcast.send();
                return Ok(None);
            }
            Command::Frames { frames, bytes } => {
                let sender = by_message(sender)?;
                (0..frames).for_each(|n| sender.send(Command::frame(n, bytes)));
                return Ok(None);
            }
            Command::Count => {
                let sender = by_message(sender)?;
                let said = sender.state::<u32>()?.unwrap_or(0) + 1;
                sender.set_state(&said)?;
                json!({ "re": "count", "said": said })
            }
            Command::Close { code, reason } => {
                by_message(sender)?.close(code, reason)?;
                return Ok(None);
            }
            Command::Put { key, value } => {
                storage.put(&key, &value)?;
                json!({ "re": "put" })
            }
            Command::Get { key } => {
                json!({ "re": "get", "value": storage.get::<Value>(&key).await? })
            }
            Command::Delete { key } => {
                storage.delete(&key)?;
                json!({ "re": "delete" })
            }
            Command::All { commands, fail } => {
                let answers = self.perform_all(room, sender, commands).await?;
                if fail {
                    return Err(SECRET.into());
                }
                json!({ "re": "all", "answers": answers })
            }
            Command::Transaction { commands, fail } => {
                let kept = storage.transaction(async |_| {
                    self.perform_all(room, sender, commands).await?;
                    if fail { Err(BoxError::from(SECRET)) } else { Ok(()) }
                });
                json!({ "re": "transaction", "kept": kept.await.is_ok() })
            }
            Command::Fail { put } => {
                self.write_and_say(room, sender, put)?;
                return Err(SECRET.into());
            }
            Command::Reject { put } => {
                self.write_and_say(room, sender, put)?;
                return Err(Reject::conflict("taken").into());
            }
            Command::Panic { put } => {
                self.write_and_say(room, sender, put)?;
                panic!("{SECRET}");
            }
            Command::Slow { yields: times } => {
                yields(times).await;
                json!({ "re": "slow" })
            }
            Command::Motto => json!({ "re": "motto", "motto": room.state::<Motto>()?.0 }),
            Command::Pause { millis } => {
                let before = room.now();
                room.sleep(Duration::from_millis(millis)).await;
                let waited = room.now().since(before).as_millis() as u64;
                json!({ "re": "pause", "waited": waited })
            }
            Command::PauseBeside { millis } => {
                let clock = room.clock();
                room.spawn("pause", async move {
                    let before = clock.now();
                    clock.sleep(Duration::from_millis(millis)).await;
                    clock.now().since(before).as_millis().to_string()
                });
                json!({ "re": "pause-beside" })
            }
            Command::Spawn { value } => {
                room.spawn("probe", async move {
                    yields(5).await;
                    value
                });
                json!({ "re": "spawn" })
            }
            Command::Call { party, room: id, command, put } => {
                if let Some(key) = put {
                    storage.put(&key, &true)?;
                }
                let request = order(&party, &id, &command)?;
                match room.party(party).room(&id).request(request).await {
                    Ok(response) => {
                        let answer =
                            response.body().bytes().map(|body| serde_json::from_slice(body));
                        json!({ "re": "call", "answer": answer.transpose()?.unwrap_or(Value::Null) })
                    }
                    Err(error) => json!({ "re": "call", "error": kind(&error) }),
                }
            }
            Command::Await { signal } => {
                signals::wait(&signal).await?;
                storage.put(&signal, &true)?;
                json!({ "re": "await" })
            }
            Command::Signal { signal } => {
                json!({ "re": "signal", "heard": signals::signal(&signal) })
            }
            Command::Ask { party, room: id, wanted } => {
                answering::ask(room, &party, &id, &wanted).await?
            }
            Command::Tell { party, room: id, command } => {
                let request = order(&party, &id, &command)?;
                room.party(party).room(&id).tell(request)?;
                json!({ "re": "tell" })
            }
            command => store(room, command).await?,
        };
        Ok(Some(answer))
    }

    /// The same for several commands: what each of them answers.
    fn perform_all<'a>(
        &'a self,
        room: &'a Room,
        sender: Option<&'a Connection>,
        commands: Vec<Command>,
    ) -> Boxed<'a, Result<Vec<Option<Value>>>> {
        Box::pin(async move {
            let mut answers = Vec::new();
            for command in commands {
                answers.push(self.perform(room, sender, command).await?);
            }
            Ok(answers)
        })
    }

    fn write_and_say(
        &self,
        room: &Room,
        sender: Option<&Connection>,
        put: Option<String>,
    ) -> Result {
        if let Some(key) = put {
            room.storage().put(&key, &true)?;
            if let Some(sender) = sender {
                sender.send("after the write");
            }
        }
        Ok(())
    }
}

/// Lets everybody else run, so often.
pub(super) async fn yields(times: u32) {
    for _ in 0..times {
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// A fresh name for an instance.
pub(super) fn instance(room: &Room) -> String {
    format!("{:016x}", u64::from_le_bytes(room.random()))
}

/// The request that makes another probe do something.
pub(super) fn order(party: &str, room: &str, command: &Command) -> Result<Request> {
    let mut request = Request::new(serde_json::to_vec(command)?.into());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("/parties/{party}/{room}/do").parse()?;
    Ok(request)
}

/// The path behind the room.
fn rest(request: &Request) -> String {
    let route = RoutePrefix::default().parse(request.uri().path());
    route.ok().flatten().map(|route| route.rest().to_owned()).unwrap_or_default()
}

fn ids(connections: impl Iterator<Item = Connection>) -> Vec<String> {
    connections.map(|connection| connection.id().to_owned()).collect()
}

fn by_message(sender: Option<&Connection>) -> Result<&Connection, BoxError> {
    sender.ok_or_else(|| "only a connection can ask for this".into())
}

fn kind(error: &CallError) -> &'static str {
    match error {
        CallError::Cycle(_) => "cycle",
        CallError::UncommittedWrites(_) => "uncommitted-writes",
        CallError::UnknownParty(_) => "unknown-party",
        CallError::InvalidRoom(_) => "invalid-room",
        CallError::Refused(..) => "refused",
        _ => "other",
    }
}
