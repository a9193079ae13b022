//! socket.io 4.8 and its connection state recovery in our place: `dev/crash/socket-io`.

use std::{path::Path, process::Stdio, time::Duration};

use partykit::BoxError;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Place, address_of,
    client::{Desk, Heard, PAUSE, Told},
};
use crate::crowd::ask;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/socket-io");

/// The command that starts its server.
///
/// # Errors
///
/// When its packages are not installed.
pub(super) fn server() -> Result<Command, BoxError> {
    node("server.mjs")
}

/// Starts its clients, which connect to `place`. They end when this is dropped.
pub(super) fn listen(place: &Place, heard: Vec<Heard>) -> Result<Child, BoxError> {
    let mut command = node("clients.mjs")?;
    command.arg(address_of(place).to_string()).arg(heard.len().to_string());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let said = child.stdout.take().ok_or("the clients have no output")?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(said).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((listener, told)) = read(&line)
                && let Some(heard) = heard.get(listener)
            {
                heard.hear(&told);
            }
        }
    });
    Ok(child)
}

/// Says each number, and says it again until the server has confirmed it.
pub(super) async fn publish(place: Place, rate: u64, total: u64, desk: Desk) {
    let mut ticks = interval(Duration::from_secs(1) / rate as u32);
    // A kill takes a while: then it catches up.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 1..=total {
        ticks.tick().await;
        while ask(address_of(&place), "/say", number.to_string()).await.is_err() {
            sleep(PAUSE).await;
        }
        desk.confirm(number);
    }
}

fn node(script: &str) -> Result<Command, BoxError> {
    let place = Path::new(DIRECTORY);
    if !place.join("node_modules").is_dir() {
        return Err("socket.io is not installed: run `cargo xtask crash history --beside`".into());
    }
    let mut command = Command::new("node");
    command.arg(place.join(script));
    Ok(command)
}

/// A line of the clients: which listener, and what it heard.
fn read(line: &str) -> Option<(usize, Told)> {
    let (listener, what) = line.split_once(' ')?;
    let told = match what {
        "fresh" => Told::Fresh,
        "gap" => Told::Gap,
        number => Told::Said { at: String::new(), number: number.parse().ok()? },
    };
    Some((listener.parse().ok()?, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_clients_are_read() {
        assert!(matches!(read("3 fresh"), Some((3, Told::Fresh))));
        assert!(matches!(read("0 gap"), Some((0, Told::Gap))));
        assert!(matches!(read("49 120"), Some((49, Told::Said { number: 120, .. }))));
        assert!(read("49 cake").is_none() && read("49").is_none() && read("x 1").is_none());
    }
}
