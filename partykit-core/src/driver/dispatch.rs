use std::{future::Future, pin::Pin};

use super::alarm::{self, Rang};
use crate::{
    Result, Room, Server,
    connection::tags::Tags,
    machine::{Answer, Errand, Event, Job},
};

/// Does what comes before the room's start. Returns `false` if the room need not start any more.
///
/// The attempt to ring an alarm is stored here, so that it also counts if the start ends the process.
/// Operators' orders are carried out here, so the room is not started for them.
pub(crate) async fn errand(room: &Room) -> Result<bool> {
    match room.inside(|turn| turn.errand()) {
        None => return Ok(true),
        Some(Errand::Order(order)) => {
            rarely(alarm::carry_out(room, order)).await?;
            return Ok(false);
        }
        Some(Errand::Alarm) => {}
    }
    let rings = rarely(alarm::begin(room)).await?;
    if rings {
        room.inside(|turn| turn.errand_done());
    }
    Ok(rings)
}

/// Takes the job and runs its handler. All runtimes share this code.
pub(crate) async fn turn<S: Server>(
    server: &mut S,
    room: &Room,
    job: &mut Option<Job>,
) -> Result<Answer> {
    let event = match job.take() {
        None => return Ok(Answer::NotNow),
        Some(Job::Start) => {
            server.on_start(room).await?;
            return Ok(Answer::Done);
        }
        Some(Job::Handle(event)) => event,
    };
    match event {
        Event::Alarm { .. } => match rarely(alarm::ring(room)).await? {
            Some(Rang::Alarm(alarm)) => rarely(server.on_alarm(room, alarm)).await?,
            #[cfg(feature = "schedules")]
            Some(Rang::Schedule(run)) => rarely(server.on_schedule(room, run)).await?,
            None => {}
        },
        Event::Close { connection, close } => server.on_close(room, &connection, close).await?,
        Event::Connect { connection, request, .. } => {
            let tags = server.connection_tags(room, connection.id(), &request)?;
            let tags = Tags::new(connection.id(), tags)?;
            room.inside(|turn| turn.list(&connection, tags))?;
            server.on_connect(room, &connection, &request).await?;
        }
        Event::Error(error) => rarely(server.on_error(room, error)).await?,
        Event::Message { sender, message } => server.on_message(room, &sender, message).await?,
        Event::Order { order, .. } => rarely(alarm::carry_out(room, order)).await?,
        Event::Request { request, .. } => {
            return rarely(server.on_request(room, *request)).await.map(Answer::from);
        }
        Event::Task { result, .. } => server.on_task(room, result).await?,
    }
    Ok(Answer::Done)
}

/// Has a future that few turns need wait in an allocation of its own. Without it each driver has space for it, for as
/// long as its room is awake.
fn rarely<F: Future>(future: F) -> Pin<Box<F>> {
    Box::pin(future)
}
