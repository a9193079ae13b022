use std::collections::BTreeMap;

use partykit_core::Message;
use serde_json::Value;

/// A list as npm `phoenix`'s `Presence` keeps it: what `syncState` and `syncDiff` do, without callbacks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phoenix {
    has_state: bool,
    users: BTreeMap<String, Vec<Value>>,
}

impl Phoenix {
    pub(crate) fn hear(&mut self, message: &Message) {
        let frame: Value = message.json().unwrap();
        if let Some(state) = frame.get("presence_state") {
            self.has_state = true;
            self.users = users(state);
        }
        // Before its first state, the class keeps diffs aside, and applies them to that: it makes no
        // difference here, since no diff comes before.
        if let Some(diff) = frame.get("presence_diff").filter(|_| self.has_state) {
            self.join(users(&diff["joins"]));
            self.leave(&users(&diff["leaves"]));
        }
    }

    fn join(&mut self, joins: BTreeMap<String, Vec<Value>>) {
        for (user, mut metas) in joins {
            let old = self.users.remove(&user).unwrap_or_default();
            let refs: Vec<Value> = metas.iter().map(|meta| meta["phx_ref"].clone()).collect();
            let old = old.into_iter().filter(|meta| !refs.contains(&meta["phx_ref"]));
            let old: Vec<Value> = old.collect();
            metas.splice(0..0, old);
            self.users.insert(user, metas);
        }
    }

    fn leave(&mut self, leaves: &BTreeMap<String, Vec<Value>>) {
        for (user, metas) in leaves {
            let Some(here) = self.users.get_mut(user) else { continue };
            here.retain(|old| metas.iter().all(|meta| meta["phx_ref"] != old["phx_ref"]));
            if here.is_empty() {
                self.users.remove(user);
            }
        }
    }

    /// What each user shows, without the refs, in no order.
    pub(crate) fn list(&self) -> BTreeMap<String, Vec<u64>> {
        let list = self.users.iter().map(|(user, metas)| {
            let mut shown: Vec<u64> =
                metas.iter().map(|meta| meta["n"].as_u64().unwrap()).collect();
            shown.sort_unstable();
            (user.clone(), shown)
        });
        list.collect()
    }
}

fn users(value: &Value) -> BTreeMap<String, Vec<Value>> {
    let users = value.as_object().unwrap().iter();
    users.map(|(user, entry)| (user.clone(), entry["metas"].as_array().unwrap().clone())).collect()
}
