use super::alarm;
use crate::{
    Result, Room, Server,
    connection::tags::Tags,
    machine::{Answer, Errand, Event, Job},
};

/// What has to be done before a room starts for it. `false` when it need not start any more.
///
/// An alarm's attempt is stored here, so that a start which kills the process counts for it too, and
/// what an operator wants done with an alarm is done without starting the room.
pub(crate) async fn errand(room: &Room) -> Result<bool> {
    match room.inside(|turn| turn.errand()) {
        None => return Ok(true),
        Some(Errand::Order(order)) => {
            alarm::carry_out(room, order).await?;
            return Ok(false);
        }
        Some(Errand::Alarm) => {}
    }
    let rings = alarm::begin(room).await?;
    if rings {
        room.inside(|turn| turn.errand_done());
    }
    Ok(rings)
}

/// Runs the handler of `job`. Shared by all runtimes, as is everything else that says what a handler
/// is given.
pub(crate) async fn turn<S: Server>(server: &mut S, room: &Room, job: Job) -> Result<Answer> {
    let event = match job {
        Job::Start => {
            server.on_start(room).await?;
            return Ok(Answer::Done);
        }
        Job::Handle(event) => event,
    };
    match event {
        Event::Alarm { .. } => {
            if let Some(alarm) = alarm::ring(room).await? {
                server.on_alarm(room, alarm).await?;
            }
        }
        Event::Close { connection, close } => server.on_close(room, &connection, close).await?,
        Event::Connect { connection, request, .. } => {
            let tags = server.connection_tags(room, connection.id(), &request)?;
            let tags = Tags::new(connection.id(), tags)?;
            room.inside(|turn| turn.list(&connection, tags))?;
            server.on_connect(room, &connection, &request).await?;
        }
        Event::Error(error) => server.on_error(room, error).await?,
        Event::Message { sender, message } => server.on_message(room, &sender, message).await?,
        Event::Order { order, .. } => alarm::carry_out(room, order).await?,
        Event::Request { request, .. } => {
            return server.on_request(room, *request).await.map(Answer::Response);
        }
        Event::Task { result, .. } => server.on_task(room, result).await?,
    }
    Ok(Answer::Done)
}
