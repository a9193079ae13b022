//! Two stories that went wrong once, as they went.

use std::time::{Duration, Instant};

use partykit::BoxError;
use tokio::time::{sleep, timeout};

use super::{
    Broken,
    bell::{Nature, Stored},
    server::Stage,
    witness,
};
use crate::{
    crowd::now,
    desk::{told, told_of_each},
};

/// Kills of the first story, and how long after its start a server is killed.
const KILLS: usize = 8;
const LIFE: Duration = Duration::from_millis(250);

/// How long alarms may take to ring when nobody kills any more: far longer than they do.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the second story is.
const LOOP: Duration = Duration::from_secs(16);

/// How often a poisonous alarm may end the process in that time: the pauses are 2, 4, 8 s and longer.
const DEATHS: usize = 4;

/// 40 rooms whose handlers take 400 ms and never fail; the process is killed eight times, 250 ms after its
/// start. All have to ring when it is left alone.
pub(super) async fn killed_in_the_handler() -> Result<Vec<Broken>, BoxError> {
    let stage = Stage::new(None)?;
    let rooms: Vec<String> = (0..40).map(|number| sound(number, 400).to_string()).collect();
    let mut server = stage.start(&[])?;
    let address = server.listens().await?;
    let at = now();
    let alarms: Vec<_> = rooms.iter().map(|room| (room.clone(), at)).collect();
    told_of_each::<Stored>(address, "/set", &alarms).await?;
    for _ in 0..KILLS {
        sleep(LIFE).await;
        server.kill().await?;
        server = stage.start(&[])?;
        server.listens().await?;
    }
    server.kill().await?;
    let mut server = stage.start(&[])?;
    let address = server.listens().await?;
    let begun = Instant::now();
    while told::<usize>(address, "/pending", &()).await? > 0 && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50)).await;
    }
    let stored: Vec<Stored> = told_of_each(address, "/stored", &rooms).await?;
    let rang = stored.iter().filter(|stored| stored.done && stored.rings.len() == 1).count();
    let deaths: u32 = stored.iter().flat_map(|stored| &stored.rings).map(|ring| ring.deaths).sum();
    println!(
        "{rang} of {} alarms rang whose handlers take 400 ms, after {} kills and {deaths} deaths",
        rooms.len(),
        KILLS + 1
    );
    server.kill().await?;
    let lost = Broken { room: "all".into(), how: format!("{rang} of {} rang", rooms.len()) };
    Ok(if rang == rooms.len() { Vec::new() } else { vec![lost] })
}

/// A handler that ends the process at once, and somebody who starts it again at once. The others ring.
pub(super) async fn poison() -> Result<Vec<Broken>, BoxError> {
    let stage = Stage::new(None)?;
    let poison = Nature::Poisonous { number: 0 }.to_string();
    let rooms: Vec<String> = (0..200).map(|number| sound(number, 0).to_string()).collect();
    let mut server = stage.start(&[])?;
    let address = server.listens().await?;
    let at = now() + 1_000;
    let share = 10_000 / rooms.len() as u64;
    let mut alarms: Vec<_> = rooms.iter().cloned().zip((at..).step_by(share as usize)).collect();
    alarms.push((poison.clone(), at));
    told_of_each::<Stored>(address, "/set", &alarms).await?;
    let end = Instant::now() + LOOP;
    let mut starts = 0;
    while timeout(end.saturating_duration_since(Instant::now()), server.ended()).await.is_ok() {
        starts += 1;
        server = stage.start(&[])?;
        server.listens().await?;
    }
    server.kill().await?;
    let deaths = witness::read(&stage.witness())?;
    let deaths = deaths.iter().filter(|line| line.room == poison).count();
    let mut server = stage.start(std::slice::from_ref(&poison))?;
    let address = server.listens().await?;
    let stored: Vec<Stored> = told_of_each(address, "/stored", &rooms).await?;
    let rang = stored.iter().filter(|stored| stored.done && stored.rings.len() == 1).count();
    let alarm: Vec<Option<(bool, u32)>> =
        told(address, "/alarms", std::slice::from_ref(&poison)).await?;
    let is_kept = matches!(alarm[..], [Some((true, died))] if died as usize >= deaths);
    server.kill().await?;
    println!(
        "a poisonous alarm ended the process {deaths} times in {} s, and {rang} of {} others rang; it \
         is {}",
        LOOP.as_secs(),
        rooms.len(),
        if is_kept { "parked" } else { "not parked" },
    );
    let broken = |how: String| Broken { room: poison.clone(), how };
    let mut found = Vec::new();
    if !(1..=DEATHS).contains(&deaths) || starts != deaths {
        found.push(broken(format!("it ended the process {deaths} times, of {starts} starts")));
    }
    if rang != rooms.len() {
        found.push(broken(format!("{rang} of {} others rang meanwhile", rooms.len())));
    }
    if !is_kept {
        found.push(broken("it is not parked, or its deaths were not counted".into()));
    }
    Ok(found)
}

fn sound(number: usize, takes: u64) -> Nature {
    Nature::Sound { number, takes, fails: 0, laps: 1, syncs: false }
}
