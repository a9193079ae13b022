use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use partykit::BoxError;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{PARTY, Place, ROOM, Recovered, address_of, lock};

/// How long a client waits until it connects again.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// What the server says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// A message.
    Said {
        /// Where it stands.
        at: String,
        /// Its number: 1, 2, ..
        number: u64,
    },
    /// The client has begun to listen.
    Fresh,
    /// It has missed something.
    Gap,
}

/// What a listener has heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Ears>>);

#[derive(Debug, Default)]
struct Ears {
    has_begun: bool,
    last: u64,
    /// Those that were missing when a later one came.
    missing: BTreeSet<u64>,
    heard: u64,
    doubled: u64,
    disordered: u64,
    gaps: u64,
}

impl Heard {
    pub(super) fn has_begun(&self) -> bool {
        lock(&self.0).has_begun
    }

    pub(super) fn last(&self) -> u64 {
        lock(&self.0).last
    }

    pub(super) fn add_to(&self, found: &mut Recovered, total: u64) {
        let ears = lock(&self.0);
        found.heard += ears.heard;
        found.lost += ears.missing.len() as u64 + total.saturating_sub(ears.last);
        found.doubled += ears.doubled;
        found.disordered += ears.disordered;
        found.gaps += ears.gaps;
    }

    pub(super) fn hear(&self, told: &Told) {
        let mut ears = lock(&self.0);
        match *told {
            Told::Fresh => ears.has_begun = true,
            Told::Gap => ears.gaps += 1,
            Told::Said { number, .. } => {
                ears.heard += 1;
                if number > ears.last {
                    let skipped = ears.last + 1..number;
                    ears.missing.extend(skipped);
                    ears.last = number;
                } else if ears.missing.remove(&number) {
                    ears.disordered += 1;
                } else {
                    ears.doubled += 1;
                }
            }
        }
    }
}

/// A client that only listens, as a page does: it says the last position that it has when it connects again.
pub(super) struct Listener {
    id: String,
    place: Place,
    heard: Heard,
    since: Option<String>,
}

impl Listener {
    pub(super) fn new(number: usize, place: Place, heard: Heard) -> Self {
        Self { id: format!("listener-{number}"), place, heard, since: None }
    }

    pub(super) async fn run(mut self) {
        loop {
            // Its connection was cut, or the server is away.
            let _ = self.listen().await;
            sleep(PAUSE).await;
        }
    }

    async fn listen(&mut self) -> Result<(), BoxError> {
        let mut socket = connect(&self.place, &self.id, self.since.as_deref()).await?;
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let told: Told = serde_json::from_str(&text)?;
            self.heard.hear(&told);
            if let Told::Said { at, .. } = told {
                self.since = Some(at);
            }
        }
        Ok(())
    }
}

/// What a publisher and those who wait for it tell each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk(Arc<(AtomicU64, AtomicBool)>);

impl Desk {
    /// How many messages were confirmed.
    pub(super) fn confirmed(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    pub(super) fn confirm(&self, number: u64) {
        self.0.0.fetch_max(number, Ordering::Relaxed);
    }

    /// Whether it is to wait: a room to which something is always said cannot be put to sleep. It says the
    /// rest later.
    pub(super) fn hold(&self, holds: bool) {
        self.0.1.store(holds, Ordering::Relaxed);
    }

    fn holds(&self) -> bool {
        self.0.1.load(Ordering::Relaxed)
    }
}

/// Publishes this many messages a second, directly at the server. A message is confirmed when it comes back;
/// after a kill, those that were not are said again.
pub(super) struct Publisher {
    place: Place,
    rate: u64,
    total: u64,
    /// How many messages it should have said by now, and has.
    due: u64,
    said: u64,
    since: Option<String>,
    desk: Desk,
}

impl Publisher {
    pub(super) fn new(place: Place, rate: u64, total: u64, desk: Desk) -> Self {
        Self { place, rate, total, due: 0, said: 0, since: None, desk }
    }

    pub(super) async fn run(mut self) {
        let mut ticks = interval(Duration::from_secs(1) / self.rate as u32);
        // A kill takes a while: then it catches up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while self.desk.confirmed() < self.total {
            let _ = self.publish(&mut ticks).await;
            sleep(PAUSE).await;
        }
    }

    async fn publish(&mut self, ticks: &mut tokio::time::Interval) -> Result<(), BoxError> {
        let mut socket = connect(&self.place, "publisher", self.since.as_deref()).await?;
        for number in self.desk.confirmed() + 1..=self.said {
            socket.send(Message::text(number.to_string())).await?;
        }
        while self.desk.confirmed() < self.total {
            tokio::select! {
                _ = ticks.tick() => {
                    self.due = (self.due + 1).min(self.total);
                    while self.said < self.due && !self.desk.holds() {
                        self.said += 1;
                        socket.send(Message::text(self.said.to_string())).await?;
                    }
                }
                message = socket.next() => {
                    let Message::Text(text) = message.ok_or("the server hung up")?? else { continue };
                    if let Told::Said { at, number } = serde_json::from_str(&text)? {
                        self.since = Some(at);
                        self.desk.confirm(number);
                    }
                }
            }
        }
        Ok(())
    }
}

async fn connect(
    place: &Place,
    id: &str,
    since: Option<&str>,
) -> Result<WebSocketStream<TcpStream>, BoxError> {
    let address = address_of(place);
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    let url = format!("ws://{address}/parties/{PARTY}/{ROOM}?_pk={id}{since}");
    Ok(client_async(url, stream).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_listener_did_not_hear_is_counted() {
        let heard = Heard::default();
        for number in [1, 2, 5, 3, 5, 6] {
            heard.hear(&Told::Said { at: String::new(), number });
        }
        let mut found = Recovered::default();
        heard.add_to(&mut found, 8);
        assert_eq!((found.heard, found.lost, found.doubled, found.disordered), (6, 3, 1, 1));
        assert!(!found.is_whole());
    }
}
