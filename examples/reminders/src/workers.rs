//! The reminders as a Worker, with their page: `cargo xtask workers build reminders`.

use partykit::workers::Settings;

use crate::{Reminders, page};

partykit::workers::export! {
    Reminders as "reminders";
    Settings::new().fallback(async |request, _env| page::answer(&request))
}
