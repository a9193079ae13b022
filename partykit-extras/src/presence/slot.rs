//! What is kept with a connection.

use partykit_core::{Connection, JsonError, StateError};
use serde::{Deserialize, Serialize};

use super::frame::Metas;

/// The name of our slot.
const SLOT: &str = "partykit-presence";

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Slot {
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(super) here: Option<Here>,
    /// Who has left and was not told about yet. Of this connection, or of one that has ended.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gone: Vec<Gone>,
    /// The list is to be sent to this connection.
    #[serde(rename = "n", default, skip_serializing_if = "is_false")]
    pub(super) is_new: bool,
    /// It has got the list and is not in it.
    #[serde(rename = "w", default, skip_serializing_if = "is_false")]
    pub(super) is_watching: bool,
}

/// What a connection shows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Here {
    #[serde(rename = "u")]
    pub(super) user: String,
    /// A JSON object.
    #[serde(rename = "m")]
    pub(super) meta: String,
    /// What all refs of this join begin with.
    #[serde(rename = "b")]
    base: String,
    /// The number of the ref that `meta` has.
    #[serde(rename = "r")]
    number: u64,
    /// The number of the ref that was told. 0: none.
    #[serde(rename = "t", default)]
    told: u64,
}

/// What a connection has shown.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Gone {
    #[serde(rename = "u")]
    user: String,
    #[serde(rename = "m")]
    meta: String,
    #[serde(rename = "r")]
    reference: String,
}

/// The parts of a slot that say whether there is something to tell.
#[derive(Deserialize)]
struct News {
    #[serde(rename = "h", default)]
    here: Option<Numbers>,
    #[serde(rename = "g", default)]
    gone: Vec<serde::de::IgnoredAny>,
    #[serde(rename = "n", default)]
    is_new: bool,
}

#[derive(Deserialize)]
struct Numbers {
    #[serde(rename = "r")]
    number: u64,
    #[serde(rename = "t", default)]
    told: u64,
}

/// Whether the slot of a connection has something to tell.
pub(super) fn has_news(connection: &Connection) -> Result<bool, JsonError> {
    let Some(News { here, gone, is_new }) = connection.slot(SLOT)? else { return Ok(false) };
    Ok(is_new || !gone.is_empty() || here.is_some_and(|here| here.number != here.told))
}

impl Slot {
    pub(super) fn of(connection: &Connection) -> Result<Self, JsonError> {
        Ok(connection.slot(SLOT)?.unwrap_or_default())
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), StateError> {
        if self.here.is_none() && self.gone.is_empty() && !self.is_new && !self.is_watching {
            connection.clear_slot(SLOT);
            return Ok(());
        }
        connection.set_slot(SLOT, self)
    }

    /// Notes what there is to tell, which counts as told from then on; whether there was anything.
    pub(super) fn tell(&mut self, joins: &mut Metas, leaves: &mut Metas) -> bool {
        let mut is_changed = !self.gone.is_empty();
        self.gone.drain(..).for_each(|gone| gone.leave(leaves));
        if let Some(here) = self.here.as_mut().filter(|here| here.number != here.told) {
            is_changed = true;
            here.join(joins);
            if here.told > 0 {
                leaves.add(&here.user, "{}", &here.reference(here.told));
            }
            here.told = here.number;
        }
        is_changed
    }
}

impl Here {
    pub(super) fn new(user: &str, meta: String, random: [u8; 8]) -> Self {
        let base = format!("{:016x}", u64::from_le_bytes(random));
        Self { user: user.to_owned(), meta, base, number: 1, told: 0 }
    }

    /// Shows something else, which has a ref of its own.
    pub(super) fn show(&mut self, meta: String) {
        self.meta = meta;
        self.number += 1;
    }

    pub(super) fn join(&self, metas: &mut Metas) {
        metas.add(&self.user, &self.meta, &self.reference(self.number));
    }

    /// What is to be told when it goes. Of one that was never told: nothing.
    pub(super) fn go(self) -> Option<Gone> {
        let reference = (self.told > 0).then(|| self.reference(self.told))?;
        Some(Gone { user: self.user, meta: self.meta, reference })
    }

    fn reference(&self, number: u64) -> String {
        format!("{}-{number}", self.base)
    }
}

impl Gone {
    pub(super) fn leave(&self, leaves: &mut Metas) {
        leaves.add(&self.user, &self.meta, &self.reference);
    }

    pub(super) fn len(&self) -> usize {
        self.user.len() + self.meta.len() + self.reference.len()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
