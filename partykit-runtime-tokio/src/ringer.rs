//! Rings the alarms of all rooms. A runtime has one task for this, which sleeps until the first alarm is due.
//! An alarm that is not due exists only as an entry in the store.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use partykit_core::{RoomAddress, Timestamp, runtime::Host};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use crate::{alarms::Alarms, host::TokioHost};

/// How many alarms ring at the same time. Further alarms wait.
const RINGING: usize = 256;

/// How many entries are read at once.
const PAGE: usize = 64;

/// The task looks at the store at least this often, because the wall clock may be set, or the machine
/// suspended, while it sleeps.
const LOOK: Duration = Duration::from_secs(30);

/// The first pause before a failed room is asked again. It doubles each time.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const BACKOFF: Duration = Duration::from_secs(30);

/// First parks the alarms of these rooms, then begins to ring the alarms in the store.
pub(crate) fn start(host: &Arc<TokioHost>, park: Vec<RoomAddress>) {
    let ringer = Ringer { park, ..Ringer::new(host.alarms(), host) };
    host.alarms().rung_by(host.tokio().spawn(ringer.run()));
}

/// The task.
struct Ringer {
    alarms: Arc<Alarms>,
    host: Weak<TokioHost>,
    /// Rooms whose alarms are parked before any alarm rings.
    park: Vec<RoomAddress>,
    rooms: HashMap<RoomAddress, Busy>,
    /// Each ends with its room, and with whether the room could be asked.
    ringing: FuturesUnordered<BoxFuture<'static, (RoomAddress, bool)>>,
    /// Each ends with a room that is to be asked again.
    resting: FuturesUnordered<BoxFuture<'static, RoomAddress>>,
    /// The last entry of the store that was read. Earlier entries are over, or in `rooms`.
    after: Option<(Timestamp, RoomAddress)>,
    /// How often the store has failed in a row.
    failures: u32,
}

/// A room whose alarm rings, or that could not be asked and will be asked again.
#[derive(Default)]
struct Busy {
    /// How often the room has failed in a row.
    failures: u32,
    /// Another alarm has become due meanwhile.
    again: bool,
}

impl Ringer {
    fn new(alarms: &Arc<Alarms>, host: &Arc<TokioHost>) -> Self {
        Self {
            alarms: alarms.clone(),
            host: Arc::downgrade(host),
            park: Vec::new(),
            rooms: HashMap::new(),
            ringing: FuturesUnordered::new(),
            resting: FuturesUnordered::new(),
            after: None,
            failures: 0,
        }
    }

    async fn run(mut self) {
        for room in std::mem::take(&mut self.park) {
            park(&self.host, room).await;
        }
        loop {
            let Some(host) = self.host.upgrade() else { return };
            let next = self.look(&host).await;
            drop(host);
            let alarms = self.alarms.clone();
            tokio::select! {
                () = sleep_or_not(next) => {}
                () = alarms.changed() => {}
                Some((room, well)) = self.ringing.next() => self.rung(room, well),
                Some(room) = self.resting.next() => self.ask(room),
            }
        }
    }

    /// Rings all alarms that are due, up to the limit. Returns when to look again.
    async fn look(&mut self, host: &Arc<TokioHost>) -> Option<Instant> {
        let (due, first) = self.alarms.take();
        if self.after.as_ref().is_some_and(|(after, _)| first <= *after) {
            // The clock was set back, so new alarms may stand before the ones that have rung.
            self.after = None;
        }
        due.into_iter().for_each(|room| self.ring(room));
        loop {
            if self.ringing.len() >= RINGING {
                return None;
            }
            let now = host.now();
            let page = match host.backend().wake_ups(self.after.as_ref(), PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    let wait = backoff(self.failures);
                    self.failures += 1;
                    let error = error.to_string();
                    warn!(
                        error = error.as_str(),
                        "alarms could not be read; reading them again in {wait:?}"
                    );
                    return Some(Instant::now() + wait);
                }
            };
            self.failures = 0;
            let is_last = page.len() < PAGE;
            for (at, room) in page {
                if at > now {
                    let first = self.alarms.looks_at(at);
                    return Some(Instant::now() + first.since(now).min(LOOK));
                }
                self.after = Some((at, room.clone()));
                self.ring(room);
            }
            if is_last {
                let first = self.alarms.looks_at(Alarms::NEVER);
                let wait = first.since(now).min(LOOK);
                return (first != Alarms::NEVER).then(|| Instant::now() + wait);
            }
        }
    }

    fn ring(&mut self, room: RoomAddress) {
        match self.rooms.entry(room.clone()) {
            Entry::Occupied(busy) => busy.into_mut().again = true,
            Entry::Vacant(entry) => {
                entry.insert(Busy::default());
                self.ask(room);
            }
        }
    }

    /// Tells a room that its alarm may be due.
    fn ask(&mut self, room: RoomAddress) {
        let Some(host) = self.host.upgrade() else { return };
        let Some(party) = host.party(room.party()) else {
            let (party, room_id) = (room.party(), room.room().as_str());
            warn!(
                party,
                room = room_id,
                "an alarm waits for its party, which is not registered: see Builder::party"
            );
            self.rooms.remove(&room);
            return;
        };
        let rings = host.enter(party, &room, |cell| cell.alarm());
        self.ringing.push(Box::pin(async move {
            let well = match rings {
                Ok(rings) => rings.await.is_ok(),
                Err(_) => false,
            };
            (room, well)
        }));
    }

    fn rung(&mut self, room: RoomAddress, well: bool) {
        let Some(busy) = self.rooms.get_mut(&room) else { return };
        if !well {
            let wait = backoff(busy.failures);
            busy.failures += 1;
            return self.resting.push(Box::pin(async move {
                sleep(wait).await;
                room
            }));
        }
        let again = busy.again;
        self.rooms.remove(&room);
        if again {
            self.ring(room);
        }
    }
}

/// Parks the alarm of a room. No alarm rings before this is stored, because this alarm may end the process.
async fn park(host: &Weak<TokioHost>, address: RoomAddress) {
    let (party, room) = (address.party(), address.room().as_str());
    for failures in 0_u32.. {
        let Some(host) = host.upgrade() else { return };
        let Some(known) = host.party(party) else {
            return error!(party, room, "the alarm cannot be parked: its party is not registered");
        };
        let parked = match host.enter(known, &address, |cell| cell.park_alarm()) {
            Ok(parked) => parked.await,
            Err(refusal) => Err(refusal),
        };
        drop(host);
        match parked {
            Ok(()) => {
                return warn!(
                    party,
                    room, "parked the alarm of this room: it does not ring until a new one is set"
                );
            }
            Err(refusal) => {
                let wait = backoff(failures);
                error!(
                    party,
                    room,
                    "the alarm could not be parked: {refusal}; no alarm rings until it is; trying again in {wait:?}"
                );
                sleep(wait).await;
            }
        }
    }
}

async fn sleep_or_not(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << failures.min(5)).min(BACKOFF)
}

#[cfg(test)]
mod tests {
    use partykit_core::{Backend, Batch, MemoryBackend, RoomId, WakeUp};

    use super::*;
    use crate::{
        host::Counts,
        socket::{Outbound, OutboundLimits},
    };
    use partykit_core::runtime::Mailboxes;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_hides_no_alarm() {
        let backend = Arc::new(MemoryBackend::default());
        let outbound = Outbound::new(OutboundLimits::default());
        let counts = Counts {
            app_state: partykit_core::runtime::AppState::default(),
            outbound,
            mailboxes: Mailboxes::new(0),
        };
        let vars: partykit_core::Vars = Arc::new(|_| None);
        let host = TokioHost::new(Default::default(), backend.clone(), None, vars, 9, counts);
        let alarms = Alarms::new();
        let mut ringer = Ringer::new(&alarms, &host);
        let room = RoomAddress::new("bell", RoomId::new("r").unwrap());
        ringer.after = Some((host.now() + Duration::from_secs(3600), room.clone()));

        let (now, wait) = (host.now(), Duration::from_secs(20));
        let at = now + wait;
        let claim = backend.claim(&room).await.unwrap();
        let batch = Batch { wake_up: Some(WakeUp::At(at)), ..Batch::default() };
        backend.commit(&room, claim.epoch, batch).await.unwrap();
        alarms.set(&room, at, now);
        let next = ringer.look(&host).await.expect("it looks again");
        assert!(
            next < Instant::now() + LOOK,
            "when it is due, and not only to see what time it is"
        );
        sleep_until(next).await;
        // The wall clock counts whole milliseconds, and may want one more.
        while let Some(next) = ringer.look(&host).await {
            sleep_until(next).await;
        }
        assert_eq!(ringer.after, Some((at, room)), "it has rung");
    }
}
