//! The words of a [`script`](super::script) that set schedules and look at them.

use std::time::Duration;

use partykit_core::{Result, Room, Run, Timestamp, When};

use super::script::{EPOCH, Stage, seconds};

/// What a run says of itself.
pub(crate) fn line(room: &Room, run: &Run) -> Result<String> {
    let (now, due, name) = (seconds(room.now()), seconds(run.scheduled), &run.name);
    let mut line = format!("run {name} at {now} due {due}");
    for (what, count) in [("missed", run.missed), ("retry", run.retries), ("deaths", run.deaths)] {
        if count > 0 {
            line += &format!(" {what} {count}");
        }
    }
    if let Some(payload) = run.payload::<Option<String>>()? {
        line += &format!(" with {payload}");
    }
    Ok(line)
}

/// Moments are seconds after the beginning of the test, times seconds from now.
pub(crate) async fn set(stage: &Stage, room: &Room, word: &str, rest: &str) -> Result {
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    match word {
        "at" => {
            let at = EPOCH.checked_add_signed(1000 * value.parse::<i64>()?).ok_or("a moment")?;
            room.schedules().set(key, When::At(Timestamp::from_millis(at))).await?;
        }
        "after" => {
            let (time, payload) = value.split_once('=').unwrap_or((value, ""));
            let after = When::After(Duration::from_secs(time.parse()?));
            match payload {
                "" => room.schedules().set(key, after).await?,
                payload => room.schedules().set_with(key, after, payload).await?,
            }
        }
        "every" => {
            let every = Duration::from_secs(value.parse()?);
            room.schedules().set(key, When::Every(every)).await?;
        }
        "unset" => {
            stage.note(format!("unset {rest}: {}", room.schedules().delete(rest).await?));
        }
        "schedule?" => {
            let schedule = room.schedules().get(rest).await?;
            let next = schedule.map(|it| it.next.map_or(-1, seconds).to_string());
            stage.note(format!("{rest} runs {}", next.as_deref().unwrap_or("never")));
        }
        "schedules?" => {
            let all = room.schedules().list().await?;
            let all = all.iter().map(|it| format!("{}={}", it.name, it.next.map_or(-1, seconds)));
            stage.note(format!("schedules: {}", all.collect::<Vec<_>>().join(" ")));
        }
        word => return Err(format!("{word} is no word").into()),
    }
    Ok(())
}
