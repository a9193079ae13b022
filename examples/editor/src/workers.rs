//! The editor as a Worker, with its page: `cargo xtask workers build editor`.

use partykit::workers::Settings;

use crate::{Documents, page};

partykit::workers::export! {
    Documents as "main";
    Settings::new().fallback(async |request, _env| page::answer(&request))
}
