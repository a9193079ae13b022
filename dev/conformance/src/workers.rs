//! The parties as a Worker, under the same names as elsewhere, and one more.

use partykit::{
    Alarm, Body, Connection, List, Message, Options, Request, Response, Result, Room, Server,
    http::StatusCode,
};
use std::time::Duration;

use crate::{ANNEX, ANNEX_PAGE, ANNEX_PREFIX, Motto, Probe, SECRET, Small, Starter, Switchboard};

partykit::workers::export! {
    Probes: Probe<true> as "probe",
    Memories: Probe<false> as "memory",
    Starter as "starter",
    Small as "small",
    Switchboard as "switchboard",
    Annex: Switchboard as "annex",
    Desk as "desk";
    |env| partykit::workers::Settings::new()
        .state(Motto(env.var("MOTTO").unwrap_or_else(|| Motto::DEFAULT.to_owned())))
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

    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        let pieces = ["a", "b", "c"].map(|piece| Ok(piece.into()));
        Ok(Response::new(Body::stream(futures_util::stream::iter(pieces))))
    }
}
