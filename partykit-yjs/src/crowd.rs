//! The awareness of y-protocols: users and their cursors.
//!
//! The state of a connection is in its slot, which is kept as long as the socket, also while the room sleeps.
//! So the list is made from the open connections, and a user who has left is not in it.
//!
//! Clients repeat everything that they receive. Repetitions are dropped. Otherwise each move would come back
//! from all clients to all clients.

use std::collections::HashMap;

use partykit_core::{Connection, Room, StateError};
use serde::{Deserialize, Serialize};

use crate::wire::{self, Entry};

/// The name of our slot.
const SLOT: &str = "yjs";
/// How many Yjs clients one connection may speak for. Tabs of one browser share their states.
const CLIENTS: usize = 32;
/// The longest state, in bytes.
const STATE: usize = 64 << 10;
/// How many clients that have left are remembered in a slot.
const GONE: usize = 32;

/// What is kept with a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    /// The client that the connection spoke for first. It is the connection's own.
    own: Option<u64>,
    here: Vec<Here>,
    /// Clients that have left, with the clock of their last state. A late repetition of that state does not
    /// bring them back.
    gone: Vec<(u64, u32)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Here {
    client: u64,
    clock: u32,
    /// `None` if it is too long for the slot. Then it is only in memory.
    state: Option<String>,
}

/// The states of all slots together.
#[derive(Default)]
pub(crate) struct Crowd {
    known: Option<HashMap<u64, Known>>,
    /// States that are too long for a slot. After a sleep, their connections are asked for them.
    long: HashMap<u64, (u32, String)>,
}

enum Known {
    Here { owner: Connection, clock: u32 },
    Gone { clock: u32 },
}

impl Crowd {
    /// Drops what is in memory, because it may differ from the slots.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Handles the states that a client sends, its own and others'. New states go to all clients, also to the
    /// sender: y-websocket needs an answer to know that its connection is alive.
    pub(crate) fn hear(
        &mut self,
        room: &Room,
        sender: &Connection,
        entries: Vec<Entry>,
    ) -> Result<(), StateError> {
        let Some(first) = entries.first() else { return Ok(()) };
        let own = match read(sender).own {
            Some(own) => own,
            None => {
                // A provider sends its own state first, before it has heard of others.
                change(sender, |slot| slot.own = Some(first.client))?;
                first.client
            }
        };
        let mut known = self.known(room);
        let mut news = Vec::new();
        for entry in entries {
            if entry.state.as_ref().is_some_and(|state| state.len() > STATE) {
                continue;
            }
            let owner = match known.get(&entry.client) {
                Some(Known::Here { owner, clock }) => {
                    let is_filling = entry.clock == *clock
                        && entry.state.is_some()
                        && read(owner).is_long(entry.client)
                        && !self.long.contains_key(&entry.client);
                    let is_leaving = entry.clock == *clock && entry.state.is_none();
                    if entry.clock <= *clock && !is_leaving && !is_filling {
                        continue;
                    }
                    // A client that comes back has a new connection, while the old one may still be here.
                    // Other connections that speak for it only repeat its state.
                    if own == entry.client { sender.clone() } else { owner.clone() }
                }
                Some(Known::Gone { clock }) if entry.clock <= *clock => continue,
                _ if entry.state.is_none() => continue,
                _ => sender.clone(),
            };
            if let Some(Known::Here { owner: former, .. }) = known.get(&entry.client)
                && *former != owner
            {
                change(former, |slot| slot.here.retain(|here| here.client != entry.client))?;
            }
            if !self.write(&owner, &entry)? {
                continue;
            }
            let (client, clock) = (entry.client, entry.clock);
            let now = match entry.state {
                Some(_) => Known::Here { owner, clock },
                None => Known::Gone { clock },
            };
            known.insert(client, now);
            news.push(entry);
        }
        self.known = Some(known);
        if !news.is_empty() {
            room.broadcast(wire::awareness(news.iter())).send();
        }
        Ok(())
    }

    /// Sends the states of all clients to a connection.
    pub(crate) fn tell(&mut self, room: &Room, connection: &Connection) {
        let mut entries = Vec::new();
        for other in room.connections().filter(|other| other != connection) {
            let mut is_asked = false;
            for Here { client, clock, state } in read(&other).here {
                let long = self.long.get(&client).filter(|(at, _)| *at == clock);
                match state.or_else(|| long.map(|(_, state)| state.clone())) {
                    Some(state) => entries.push(Entry { client, clock, state: Some(state) }),
                    None if is_asked => {}
                    None => {
                        is_asked = true;
                        other.send(wire::query());
                    }
                }
            }
        }
        if !entries.is_empty() {
            connection.send(wire::awareness(entries.iter()));
        }
    }

    /// Removes the clients of a connection that has ended.
    pub(crate) fn leave(&mut self, room: &Room, connection: &Connection) -> Result<(), StateError> {
        let slot = read(connection);
        // The clock stays the same: a client that comes back counts on from there.
        let left = slot.here.iter().map(|here| Entry {
            client: here.client,
            clock: here.clock,
            state: None,
        });
        let left: Vec<_> = left.collect();
        let mut gone = slot.gone;
        gone.extend(left.iter().map(|entry| (entry.client, entry.clock)));
        // Any other connection can remember them. If there is none, no client can repeat anything.
        if let Some(heir) = room.connections().next().filter(|_| !gone.is_empty()) {
            change(&heir, |slot| {
                slot.gone.extend(gone);
                slot.trim();
            })?;
        }
        for entry in &left {
            self.long.remove(&entry.client);
        }
        self.known = None;
        if !left.is_empty() {
            room.broadcast(wire::awareness(left.iter())).send();
        }
        Ok(())
    }

    /// Notes an entry in its owner's slot. `false` if there is no place for it.
    fn write(&mut self, owner: &Connection, entry: &Entry) -> Result<bool, StateError> {
        let &Entry { client, clock, .. } = entry;
        self.long.remove(&client);
        let mut slot = read(owner);
        slot.here.retain(|here| here.client != client);
        slot.gone.retain(|(gone, _)| *gone != client);
        match &entry.state {
            None => slot.gone.push((client, clock)),
            Some(_) if slot.here.len() >= CLIENTS => return Ok(false),
            Some(state) => {
                slot.here.push(Here { client, clock, state: Some(state.clone()) });
            }
        }
        slot.trim();
        match save(owner, &slot) {
            Err(StateError::TooLarge(_)) => {
                // The longest state leaves the slot first.
                slot.here.iter_mut().filter(|here| here.client == client).for_each(|here| {
                    if let Some(state) = here.state.take() {
                        self.long.insert(client, (clock, state));
                    }
                });
                save(owner, &slot)?;
            }
            saved => saved?,
        }
        Ok(true)
    }

    fn known(&mut self, room: &Room) -> HashMap<u64, Known> {
        if let Some(known) = self.known.take() {
            return known;
        }
        let mut known = HashMap::new();
        for connection in room.connections() {
            let slot = read(&connection);
            for (client, clock) in slot.gone {
                let entry = known.entry(client).or_insert(Known::Gone { clock });
                if let Known::Gone { clock: last } = entry {
                    *last = clock.max(*last);
                }
            }
            for Here { client, clock, .. } in slot.here {
                known.insert(client, Known::Here { owner: connection.clone(), clock });
            }
        }
        known
    }
}

impl Slot {
    fn is_long(&self, client: u64) -> bool {
        self.here.iter().any(|here| here.client == client && here.state.is_none())
    }

    /// Forgets the oldest ones.
    fn trim(&mut self) {
        let surplus = self.gone.len().saturating_sub(GONE);
        self.gone.drain(..surplus);
    }
}

fn read(connection: &Connection) -> Slot {
    connection.slot(SLOT).ok().flatten().unwrap_or_default()
}

fn save(connection: &Connection, slot: &Slot) -> Result<(), StateError> {
    connection.set_slot(SLOT, slot)
}

fn change(connection: &Connection, change: impl FnOnce(&mut Slot)) -> Result<(), StateError> {
    let mut slot = read(connection);
    change(&mut slot);
    save(connection, &slot)
}
