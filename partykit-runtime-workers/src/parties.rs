use std::{fmt, sync::Arc, time::Duration};

use partykit_core::{Options, RoomId, Server, runtime::front::AnyServer};

use crate::{Env, Settings};

/// Everything that one Worker serves. Made by [`export!`](crate::export).
#[derive(Debug)]
pub struct Parties {
    pub(crate) settings: Settings,
    parties: Vec<Arc<Party>>,
}

/// A kind of server under its name.
pub struct Party {
    name: &'static str,
    /// The name of its Durable Object's class, and of the binding to it.
    class: &'static str,
    options: Options,
    server: AnyServer<Env>,
}

impl Parties {
    /// Serves these parties. If two have the same name, the first one counts.
    pub fn new(settings: Settings, parties: Vec<Party>) -> Self {
        for name in settings.routes.special_parties() {
            if !parties.iter().any(|party| party.name == name) {
                tracing::error!(party = name, "a setting names a party that export! does not have");
            }
        }
        Self { settings, parties: parties.into_iter().map(Arc::new).collect() }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Party>> {
        self.parties.iter().find(|party| party.name == name)
    }

    pub(crate) fn of_class(&self, class: &str) -> Option<&Arc<Party>> {
        self.parties.iter().find(|party| party.class == class)
    }
}

impl Party {
    /// A party whose instances are made by `Default`.
    pub fn new<S: Server + Default>(name: &'static str, class: &'static str) -> Self {
        Self::with(name, class, |_: &RoomId, _: &Env| S::default())
    }

    /// A party whose instances are made by `make`.
    pub fn with<S: Server>(
        name: &'static str,
        class: &'static str,
        make: fn(&RoomId, &Env) -> S,
    ) -> Self {
        // The platform decides when an idle room leaves memory.
        let options = S::options().hibernate_after(Duration::MAX);
        Self { name, class, options, server: AnyServer::new(make) }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn class(&self) -> &'static str {
        self.class
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Its code.
    pub(crate) fn server(&self) -> &AnyServer<Env> {
        &self.server
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("name", &self.name).finish_non_exhaustive()
    }
}
