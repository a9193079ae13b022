//! The parties as a Worker, under the same names as elsewhere, and one more.

use partykit::{
    Admission, Admit, Alarm, Body, Connection, List, Lobby, Message, Options, OrReject, Reject,
    Request, RequestExt, Response, Result, Room, Server, http::StatusCode,
};
use std::{collections::HashMap, time::Duration};

use crate::{ANNEX, ANNEX_PAGE, ANNEX_PREFIX, Motto, Probe, SECRET, Small, Starter, Switchboard};

partykit::workers::export! {
    Probes: Probe<true> as "probe",
    Memories: Probe<false> as "memory",
    Starter as "starter",
    Small as "small",
    Switchboard as "switchboard",
    Annex: Switchboard as "annex",
    Desk as "desk",
    Members as "members";
    |env| partykit::workers::Settings::new()
        .state(Motto(env.var("MOTTO").unwrap_or_else(|| Motto::DEFAULT.to_owned())))
        .state(Tokens::read(&env.var("TOKENS").unwrap_or_default()))
        .allow_origins(env.var("PAGES"))
        .party_prefix(ANNEX, ANNEX_PREFIX)
        .party_allow_origins(ANNEX, [ANNEX_PAGE])
        .fallback(async |_request, env| {
            let mut response = Response::new(env.var("GREETING").unwrap_or_default().into());
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response
        })
}

/// What the tests of this runtime alone need. To a message it answers by what it says:
///
/// | message | does |
/// |---|---|
/// | `alarm` | sets an alarm for as soon as possible |
/// | `failing alarm` | the same; it fails the first time |
/// | `write and fail` | writes three rows and an alarm, says so, and fails |
/// | `rows` | says what is stored |
/// | `memory` | collects garbage if it can, and says how many bytes all rooms of this isolate have together |
#[derive(Debug, Default)]
struct Desk;

impl Server for Desk {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let storage = room.storage();
        match message.as_text() {
            Some("alarm") => storage.set_alarm(room.now() + Duration::from_millis(1))?,
            Some("failing alarm") => {
                storage.put("fails", &true)?;
                storage.set_alarm(room.now() + Duration::from_millis(1))?;
            }
            Some("write and fail") => {
                for key in ["a", "b", "c"] {
                    storage.put(key, &1)?;
                }
                storage.set_alarm(room.now() + Duration::from_millis(1))?;
                sender.send("written");
                return Err(SECRET.into());
            }
            Some("rows") => {
                let rows = storage.list::<serde_json::Value>(List::new()).await?;
                let keys: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
                let alarm = storage.alarm().await?.is_some();
                sender.send(format!("{keys:?}, an alarm: {alarm}"));
            }
            #[cfg(target_arch = "wasm32")]
            Some("memory") => {
                use partykit::workers::js_sys::{Function, Reflect, global};
                const PAGE: usize = 64 * 1024;
                let gc = Reflect::get(&global(), &"gc".into()).ok().filter(|gc| gc.is_function());
                if let Some(gc) = gc {
                    let _ = Function::from(gc).call0(&global());
                }
                sender.send((core::arch::wasm32::memory_size::<0>() * PAGE).to_string());
            }
            _ => {
                room.broadcast(message).send();
            }
        }
        Ok(())
    }

    async fn on_alarm(&mut self, room: &Room, alarm: Alarm) -> Result {
        if alarm.retries == 0 && room.storage().get::<bool>("fails").await?.is_some() {
            return Err(SECRET.into());
        }
        let reason = room.start_reason();
        room.broadcast(format!("alarm, retries: {}, {reason:?}", alarm.retries)).send();
        Ok(())
    }

    async fn on_request(&mut self, _: &Room, request: Request) -> Result<Response> {
        assert_ne!(request.uri().query(), Some("panic"), "a client asked for it");
        let pieces = ["a", "b", "c"].map(|piece| Ok(piece.into()));
        Ok(Response::new(Body::stream(futures_util::stream::iter(pieces))))
    }
}

/// Who has which token: the JSON in the Worker's variable `TOKENS`.
#[derive(Debug)]
struct Tokens(HashMap<String, String>);

impl Tokens {
    /// Without that JSON, there is no token.
    fn read(json: &str) -> Self {
        Self(serde_json::from_str(json).unwrap_or_default())
    }
}

/// Lets in who has a token, as the guide's page of tokens does with a database.
#[derive(Debug, Default)]
struct Members;

impl Members {
    fn admit(request: Request, lobby: &Lobby) -> Result<Admit> {
        let token = request.query("token").or_reject(Reject::unauthorized("log in first"))?;
        let tokens = lobby.state::<Tokens>()?;
        let user = tokens.0.get(&token).or_reject(Reject::unauthorized("log in again"))?;
        Ok(Admission::new(request).props(user)?.into())
    }
}

impl Server for Members {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    async fn on_before_connect(request: Request, lobby: &Lobby) -> Result<Admit> {
        Self::admit(request, lobby)
    }

    async fn on_before_request(request: Request, lobby: &Lobby) -> Result<Admit> {
        Self::admit(request, lobby)
    }

    async fn on_connect(&mut self, _: &Room, new: &Connection, request: &Request) -> Result {
        Ok(new.set_state(&request.props::<String>()?)?)
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        let user = sender.state::<String>()?.unwrap_or_default();
        room.broadcast(format!("{user}: {}", message.as_text().unwrap_or_default())).send();
        Ok(())
    }

    async fn on_request(&mut self, room: &Room, request: Request) -> Result<Response> {
        let user = request.props::<String>()?.unwrap_or_default();
        let text = format!("{user} asks, {} are here", room.connections().len());
        Ok(Response::new(text.into()))
    }
}
