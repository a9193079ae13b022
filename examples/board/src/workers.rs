//! The board as a Worker, with its page: `cargo xtask workers build board`.

use partykit::workers::Settings;

use crate::{Board, page};

partykit::workers::export! {
    Board as "board";
    Settings::new().fallback(async |request, _env| page::answer(&request))
}
