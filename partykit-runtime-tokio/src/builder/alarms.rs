use partykit_core::{RoomAddress, RoomId, RoutePrefix, Vars};
use tracing::error;

use crate::Builder;

/// Names rooms whose alarms are parked at the start.
const PARK: &str = "PARTYKIT_PARK_ALARMS";

impl Builder {
    /// Parks the alarm of a room before any alarm rings. A parked alarm is kept and does not ring until a new
    /// alarm is set: see [`Handle::park_alarm`](crate::Handle::park_alarm). This is for an alarm that ends
    /// the process whenever it rings. The room is not started.
    ///
    /// The environment variable `PARTYKIT_PARK_ALARMS`, or a [`var`](Builder::var) of this name, does the
    /// same without a new build. It lists rooms as in their URLs, separated by white space: `main/lobby
    /// games/3%2F4`. Words that are not rooms are logged at `error` and ignored.
    ///
    /// # Panics
    ///
    /// When `room` is not a valid room id.
    ///
    /// ```
    /// use partykit_runtime_tokio::Runtime;
    ///
    /// let builder = Runtime::builder().park_alarm("main", "lobby");
    /// # let _ = builder;
    /// ```
    #[track_caller]
    pub fn park_alarm(mut self, party: &str, room: &str) -> Self {
        let room = RoomId::new(room).expect("a room id");
        self.park.push(RoomAddress::new(party, room));
        self
    }
}

/// All rooms whose alarms are to be parked: those given to the builder, and those of the variable.
pub(super) fn to_park(mut rooms: Vec<RoomAddress>, vars: &Vars) -> Vec<RoomAddress> {
    let named = vars(PARK).unwrap_or_default();
    let prefix = RoutePrefix::new("parties");
    for word in named.split_whitespace() {
        match prefix.parse(&format!("/parties/{word}")) {
            Ok(Some(route)) => rooms.push(route.address().clone()),
            _ => error!("{PARK}: {word:?} is not a room; write it as in its URL, party/room"),
        }
    }
    rooms
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn rooms_are_named_as_in_their_urls() {
        let vars: Vars = Arc::new(|name: &str| {
            (name == PARK).then(|| " main/lobby\ngames/3%2F4  nonsense /x".to_owned())
        });
        let told = vec![RoomAddress::new("a", RoomId::new("b").unwrap())];
        let rooms: Vec<String> = to_park(told, &vars).iter().map(ToString::to_string).collect();
        assert_eq!(rooms, ["a/b", "main/lobby", "games/3/4"]);
        assert!(to_park(Vec::new(), &(Arc::new(|_: &str| None) as Vars)).is_empty());
    }
}
