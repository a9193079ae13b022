//! The board over HTTP, for clients without a socket:
//!
//! | request | does |
//! |---|---|
//! | `GET items?after=<id>&limit=<n>` | a page: the newest, or those that follow `after` in this order |
//! | `POST items` | creates an item of `text`, and `column` and `color` if they are said |
//! | `GET`, `PATCH`, `DELETE items/<id>` | reads one, changes some of its fields, deletes it |

use partykit::{
    Request, RequestExt, Response, ResponseExt, Result, Room,
    http::{Method, StatusCode},
    runtime::{Route, RoutePrefix},
};
use serde::{Deserialize, Serialize};

use crate::{Change, Color, Column, Event, Item, ItemId, Items, Place, Refused, Text};

/// What `POST items` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    text: Text,
    #[serde(default)]
    column: Column,
    #[serde(default)]
    color: Color,
}

pub(crate) async fn answer(room: &Room, request: &Request) -> Result<Response> {
    let route = RoutePrefix::default().parse(request.uri().path())?;
    let rest = route.as_ref().map(Route::rest).unwrap_or_default();
    match (request.method(), rest.split('/').collect::<Vec<_>>().as_slice()) {
        (&Method::GET, ["items"]) => page(room, request).await,
        (&Method::POST, ["items"]) => match request.json::<Draft>() {
            Ok(Draft { text, column, color }) => {
                let id = ItemId::new(room);
                let place = Place::above_older(&id);
                let item = Item { id, text, column, color, place };
                change(room, StatusCode::CREATED, Change::Create { item }).await
            }
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error),
        },
        (method, ["items", id]) => match ItemId::try_from((*id).to_owned()) {
            Ok(id) => one(room, method, id, request).await,
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error),
        },
        (_, ["items"]) => refuse(StatusCode::METHOD_NOT_ALLOWED, &"GET or POST"),
        _ => refuse(StatusCode::NOT_FOUND, &"here are only items"),
    }
}

async fn page(room: &Room, request: &Request) -> Result<Response> {
    let after = request.query("after").map(ItemId::try_from).transpose();
    let limit = request.query("limit").map(|limit| limit.parse::<usize>()).transpose();
    match (after, limit) {
        (Ok(after), Ok(limit)) => {
            json(StatusCode::OK, &Items::of(room).page(after.as_ref(), limit).await?)
        }
        (Err(error), _) => refuse(StatusCode::BAD_REQUEST, &error),
        (_, Err(error)) => refuse(StatusCode::BAD_REQUEST, &format!("limit: {error}")),
    }
}

async fn one(room: &Room, method: &Method, id: ItemId, request: &Request) -> Result<Response> {
    match *method {
        Method::GET => match Items::of(room).find(&id).await? {
            Some(item) => json(StatusCode::OK, &item),
            None => refuse(StatusCode::NOT_FOUND, &Refused::NotFound),
        },
        Method::PATCH => match request.json() {
            Ok(changes) => change(room, StatusCode::OK, Change::Update { id, changes }).await,
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error),
        },
        Method::DELETE => change(room, StatusCode::OK, Change::Delete { id }).await,
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, &"GET, PATCH or DELETE"),
    }
}

/// Makes a change, and tells all clients. The answer says the same: it leaves when the change is on disk.
async fn change(room: &Room, done: StatusCode, change: Change) -> Result<Response> {
    match Items::of(room).apply(change).await? {
        Ok(event) => {
            room.broadcast_json(&event)?.send();
            match &event {
                Event::Item { item, .. } => json(done, item),
                event => json(done, event),
            }
        }
        Err(refused @ Refused::NotFound) => refuse(StatusCode::NOT_FOUND, &refused),
        Err(refused) => refuse(StatusCode::CONFLICT, &refused),
    }
}

fn refuse(status: StatusCode, reason: &impl ToString) -> Result<Response> {
    json(status, &Event::Refused { op: None, reason: reason.to_string() })
}

fn json(status: StatusCode, value: &impl Serialize) -> Result<Response> {
    Ok(Response::json(value)?.with_status(status))
}
