//! The chat as a Worker, with its page: `cargo xtask workers build chat`.

use partykit::workers::Settings;

use crate::{Chat, page};

partykit::workers::export! {
    Chat as "chat";
    Settings::new().fallback(async |request, _env| page::answer(&request))
}
