//! What a probe does with its storage.

use std::time::Duration;

use partykit::{List, Result, Room, Timestamp, When, storage::StorageError};
use serde_json::{Value, json};

use super::{Call, Command, Range};

/// Where it stands what is done when the alarm rings.
pub(super) const ON_ALARM: &str = "on-alarm";

/// Does a command about storage, and says what there is to answer.
pub(super) async fn store(room: &Room, command: Command) -> Result<Value> {
    let storage = room.storage();
    Ok(match command {
        Command::Rows { prefix } => {
            let rows = storage.list::<Value>(List::new().prefix(prefix)).await?;
            json!({ "re": "rows", "rows": rows })
        }
        Command::List(range) if range.stream => {
            let mut rows = storage.stream::<Value>(list(range));
            let mut found = Vec::new();
            while let Some(row) = rows.next().await? {
                found.push(row);
            }
            json!({ "re": "list", "rows": found })
        }
        Command::List(range) => {
            json!({ "re": "list", "rows": storage.list::<Value>(list(range)).await? })
        }
        Command::Size { key } => {
            let value = storage.get_bytes(&key).await?;
            json!({ "re": "size", "bytes": value.map(|value| value.len()) })
        }
        Command::PutSized { key, key_bytes, bytes } => {
            let key = format!("{key:k<key_bytes$}");
            let value = format!("\"{}\"", "v".repeat(bytes.saturating_sub(2)));
            json!({ "re": "put-sized", "error": error(&storage.put_bytes(&key, value)) })
        }
        Command::Many { call, keys } => {
            let keys: Vec<String> = (0..keys).map(|n| format!("{n:04}")).collect();
            let (mut found, names) = (None, keys.iter().map(String::as_str));
            let done = match call {
                Call::Put => storage.put_many(names.map(|key| (key, true))),
                Call::Delete => storage.delete_many(names),
                Call::Get => {
                    let values = storage.get_many::<Value>(&names.collect::<Vec<_>>()).await;
                    values.map(|values| found = Some(values.iter().flatten().count()))
                }
            };
            json!({ "re": "many", "error": error(&done), "found": found })
        }
        Command::DeleteAll => {
            storage.delete_all();
            json!({ "re": "delete-all" })
        }
        Command::Sync => {
            storage.sync().await?;
            json!({ "re": "sync" })
        }
        Command::SetAlarm { within } => {
            let at = room.now().as_millis().saturating_add_signed(within);
            storage.set_alarm(Timestamp::from_millis(at))?;
            json!({ "re": "set-alarm", "at": at })
        }
        Command::SetAlarmAt { at } => {
            let set = storage.set_alarm(Timestamp::from_millis(at));
            json!({ "re": "set-alarm-at", "error": error(&set) })
        }
        Command::Alarm => {
            let at = storage.alarm().await?.map(Timestamp::as_millis);
            json!({ "re": "alarm", "at": at })
        }
        Command::DeleteAlarm => {
            storage.delete_alarm();
            json!({ "re": "delete-alarm" })
        }
        Command::Schedule { name, within, repeats, failures } => {
            let time = Duration::from_millis(within);
            let when = if repeats { When::Every(time) } else { When::After(time) };
            room.schedules().set_with(&name, when, &failures).await?;
            let next = room.schedules().get(&name).await?.and_then(|it| it.next);
            json!({ "re": "schedule", "at": next.map(Timestamp::as_millis) })
        }
        Command::Schedules => {
            let all = room.schedules().list().await?.into_iter();
            let all: Vec<_> = all.map(|it| (it.name, it.next.map(Timestamp::as_millis))).collect();
            json!({ "re": "schedules", "schedules": all })
        }
        Command::Unschedule { name } => {
            json!({ "re": "unschedule", "found": room.schedules().delete(&name).await? })
        }
        Command::OnAlarm { .. } => {
            storage.put(ON_ALARM, &command)?;
            json!({ "re": "on-alarm" })
        }
        other => return Err(format!("{other:?} is not about storage").into()),
    })
}

fn list(range: Range) -> List {
    let Range { prefix, start, start_after, end, reverse, limit, stream: _ } = range;
    let mut list = List::new().prefix(prefix);
    if let Some(key) = start {
        list = list.start(key);
    }
    if let Some(key) = start_after {
        list = list.start_after(key);
    }
    if let Some(key) = end {
        list = list.end(key);
    }
    if let Some(rows) = limit {
        list = list.limit(rows);
    }
    if reverse { list.reverse() } else { list }
}

/// What is wrong, if something is.
fn error(result: &Result<(), StorageError>) -> Option<&'static str> {
    match result {
        Ok(()) => None,
        Err(StorageError::AlarmTooLate(_)) => Some("alarm-too-late"),
        Err(StorageError::BatchTooLarge(_)) => Some("batch-too-large"),
        Err(StorageError::InvalidKey(_)) => Some("invalid-key"),
        Err(StorageError::RowTooLarge { .. }) => Some("row-too-large"),
        Err(StorageError::TooManyKeys(_)) => Some("too-many-keys"),
        Err(_) => Some("other"),
    }
}
