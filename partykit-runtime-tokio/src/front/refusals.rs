//! Logs refused requests, and says what to configure if they should be accepted.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::uri::Authority;
use partykit_core::{
    Refusal, Response, RoomAddress,
    runtime::front::{BadHandshake, Refused},
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::close_after;

/// A kind of refusal is logged at most once in this time.
const EVERY: Duration = Duration::from_secs(10);

/// The log names a page's origin at most once in this time.
const ORIGIN_EVERY: Duration = Duration::from_secs(3600);

/// How many origins and hosts are remembered.
const REMEMBERED: usize = 64;

/// How many characters of a client's text are logged.
const EXCERPT: usize = 256;

/// Logs refusals, each kind at most every ten seconds.
#[derive(Default)]
pub(crate) struct Refusals {
    kinds: Mutex<HashMap<&'static str, Kind>>,
    named: Mutex<HashMap<String, Instant>>,
}

#[derive(Default)]
struct Kind {
    last: Option<Instant>,
    /// How many refusals were not logged since then.
    others: u64,
}

/// The party and room of a request, for the log.
#[derive(Clone, Copy)]
struct For<'a> {
    party: &'a str,
    room: &'a str,
    host: &'a str,
}

impl Refusals {
    /// Logs a refused request and returns the answer. Most answers close the connection: a proxy that
    /// believes that it is a tunnel now could send anything on it.
    pub(super) fn answer(
        &self,
        refused: Refused,
        address: Option<&RoomAddress>,
        host: Option<&Authority>,
    ) -> Response {
        let party = address.map_or("", |address| address.party());
        let room = address.map_or("", |address| address.room().as_str());
        self.log(&refused, For { party, room, host: host.map_or("", Authority::as_str) });
        let keeps = match &refused {
            Refused::ByHook(..) | Refused::Rejected(_) | Refused::Failed(_) | Refused::NotFound => {
                true
            }
            Refused::ByRoom(refusal) => matches!(refusal, Refusal::Failed(_)),
            _ => false,
        };
        let mut response = refused.into_response();
        if !keeps {
            close_after(response.headers_mut());
        }
        response
    }

    /// Logs that the process has as many clients as it may have.
    pub(super) fn log_crowded(&self) {
        if let Some(others) = self.turn("crowded") {
            warn!(
                others,
                "refused a client: the process or the client's address has reached its limit of clients, see \
                 Builder::max_connections, max_connections_per_address and `ulimit -n`; if a proxy \
                 has this address, name it with Builder::trusted_proxies"
            );
        }
    }

    fn log(&self, refused: &Refused, whom: For<'_>) {
        let For { party, room, host } = whom;
        match refused {
            Refused::ForeignPage(origin) => {
                if let Some(others) = self.turn_of("origin", origin) {
                    warn!(
                        party,
                        room,
                        origin = origin.as_str(),
                        host,
                        others,
                        "refused a page of another site: if it is yours, list its origin with \
                         Builder::allow_origins; if a proxy passes another host on, name the host \
                         that browsers use with Builder::hosts"
                    );
                }
            }
            Refused::ForeignHost(host) => {
                if let Some(others) = self.turn_of("host", host) {
                    warn!(
                        host = host.as_str(),
                        others,
                        "refused a request for another host: if it is yours, name it with Builder::hosts"
                    );
                }
            }
            Refused::NoParty => {
                if let Some(others) = self.turn("party") {
                    warn!(
                        party = party.chars().take(EXCERPT).collect::<String>().as_str(),
                        room,
                        others,
                        "refused a request: no party has this name, see Builder::party"
                    );
                }
            }
            Refused::TooManyNewRooms(address, _) => {
                if let Some(others) = self.turn("rooms") {
                    warn!(
                        party,
                        room,
                        %address,
                        others,
                        "refused a new room: the client's address has reached \
                         Builder::max_new_rooms_per_minute"
                    );
                }
            }
            Refused::NoUpgrade | Refused::BadHandshake(BadHandshake::NoConnection) => {
                if let Some(others) = self.turn("upgrade") {
                    warn!(
                        party,
                        room,
                        others,
                        "refused a WebSocket handshake without `Upgrade: websocket` or \
                         `Connection: Upgrade`: a proxy in front of this server has to pass both on"
                    );
                }
            }
            Refused::TooManyClients => self.log_crowded(),
            Refused::ByRoom(refusal) => self.log_busy(*refusal, whom),
            Refused::ByHook(hook, response) => {
                if let Some(others) = self.turn("hook") {
                    let status = response.status().as_u16();
                    info!(party, room, hook, status, others, "a hook refused a client");
                }
            }
            // These two are logged where they happen.
            Refused::Failed(_) | Refused::Rejected(_) => {}
            _ => {
                let status = refused.status().as_u16();
                debug!(party, room, status, "refused a request: {refused}");
            }
        }
    }

    fn log_busy(&self, refusal: Refusal, For { party, room, .. }: For<'_>) {
        let (kind, advice) = match refusal {
            Refusal::TooManyRooms => {
                ("rooms in all", "the rooms in memory have reached Builder::max_rooms")
            }
            Refusal::Full => ("full", "its connections have reached Options::max_connections"),
            Refusal::Overloaded => ("overloaded", "its mailbox is full, see Options::mailbox"),
            Refusal::Unavailable(_) => {
                ("unavailable", "its on_start has failed several times in a row")
            }
            // The handler's failure is logged with its error.
            Refusal::Failed(_) => return,
            _ => return debug!(party, room, "refused a client: {refusal}"),
        };
        if let Some(others) = self.turn(kind) {
            warn!(party, room, others, "refused a client of a room: {advice}");
        }
    }

    /// Returns how many of this kind were not logged, if this one is to be logged. `None` if not.
    fn turn(&self, kind: &'static str) -> Option<u64> {
        let mut kinds = lock(&self.kinds);
        let kind = kinds.entry(kind).or_default();
        if kind.last.is_some_and(|last| last.elapsed() < EVERY) {
            kind.others += 1;
            return None;
        }
        kind.last = Some(Instant::now());
        Some(std::mem::take(&mut kind.others))
    }

    /// The same for each name by itself, as long as there are few names.
    fn turn_of(&self, kind: &'static str, name: &str) -> Option<u64> {
        let mut named = lock(&self.named);
        let name = format!("{kind} {name}");
        if named.len() >= REMEMBERED && !named.contains_key(&name) {
            named.retain(|_, last| last.elapsed() < ORIGIN_EVERY);
        }
        let is_known = named.contains_key(&name);
        if !is_known && named.len() >= REMEMBERED {
            drop(named);
            return self.turn(kind);
        }
        if named.get(&name).is_some_and(|last| last.elapsed() < ORIGIN_EVERY) {
            drop(named);
            lock(&self.kinds).entry(kind).or_default().others += 1;
            return None;
        }
        named.insert(name, Instant::now());
        drop(named);
        Some(std::mem::take(&mut lock(&self.kinds).entry(kind).or_default().others))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_has_its_turn_every_ten_seconds() {
        let refusals = Refusals::default();
        assert_eq!(refusals.turn("party"), Some(0));
        assert_eq!((refusals.turn("party"), refusals.turn("full")), (None, Some(0)));
        assert_eq!(refusals.turn("party"), None);
        tokio::time::advance(EVERY).await;
        assert_eq!(refusals.turn("party"), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn each_origin_is_named_once_and_many_do_not_fill_the_log() {
        let refusals = Refusals::default();
        assert_eq!(refusals.turn_of("origin", "http://a.example"), Some(0));
        for _ in 0..3 {
            assert_eq!(refusals.turn_of("origin", "http://a.example"), None);
        }
        assert_eq!(refusals.turn_of("origin", "http://b.example"), Some(3));
        let logged = (0..10_000)
            .filter(|n| refusals.turn_of("origin", &format!("http://{n}.example")).is_some());
        assert!(logged.count() <= REMEMBERED);
        assert_eq!(lock(&refusals.named).len(), REMEMBERED);
        tokio::time::advance(ORIGIN_EVERY).await;
        assert!(refusals.turn_of("origin", "http://a.example").is_some());
    }
}
