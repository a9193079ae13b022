//! What the server of a soak is asked.

use std::net::SocketAddr;

use partykit::BoxError;
use serde::{Serialize, de::DeserializeOwned};

use super::bell::Stored;
use crate::crowd::ask;

/// So many rooms stand in one question.
const PAGE: usize = 250;

/// Sets the first alarms of rooms.
pub(super) async fn set(address: SocketAddr, alarms: &[(String, u64)]) -> Result<(), BoxError> {
    for page in alarms.chunks(PAGE) {
        let _: usize = told(address, "/set", &page).await?;
    }
    Ok(())
}

/// What rooms have stored. This starts them.
pub(super) async fn stored(address: SocketAddr, rooms: &[String]) -> Result<Vec<Stored>, BoxError> {
    let mut all: Vec<Stored> = Vec::new();
    for page in rooms.chunks(PAGE) {
        all.extend(told::<Vec<_>>(address, "/stored", &page).await?);
    }
    Ok(all)
}

/// Of alarms, whether they are parked, and how often the process has died of them. Starts no room.
pub(super) async fn alarms(
    address: SocketAddr,
    rooms: &[String],
) -> Result<Vec<Option<(bool, u32)>>, BoxError> {
    told(address, "/alarms", &rooms).await
}

/// How many rooms are to be woken.
pub(super) async fn pending(address: SocketAddr) -> Result<usize, BoxError> {
    told(address, "/pending", &()).await
}

async fn told<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    about: &impl Serialize,
) -> Result<T, BoxError> {
    let answer = ask(address, path, serde_json::to_string(about)?).await?;
    Ok(serde_json::from_slice(&answer)?)
}
