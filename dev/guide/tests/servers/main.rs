//! Every server of the README, the guide and the examples keeps the promises that the README makes: sleep is
//! invisible, and what a client sends wrongly is no failure of the server.
//!
//! `every_server!` makes tests of each server that there is. What happens in them stands in the folder
//! `stories`, and a server without a story does not compile.

mod junk;
mod log;
mod sockets;
mod stories;

use partykit::{
    Server,
    testing::{Step, TestRoomBuilder, transparency, transparency_random},
};
use std::{future::Future, time::Duration};

/// How a server is tried.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is shown to readers, and nobody has tried it",
    label = "has no story",
    note = "implement `Story` for it in dev/guide/tests/servers/stories"
)]
trait Story {
    /// The server of the rooms.
    type Room: Server;

    /// It is shown because sleep makes it forget.
    const FORGETS: bool = false;

    /// With this query it lets a client in.
    const QUERY: &str = "";

    /// The same, if it is not known before.
    fn query() -> String {
        Self::QUERY.to_owned()
    }

    /// The paths at which it answers requests.
    const PATHS: &[&str] = &[""];

    /// Rooms with all that the server asks of its surroundings.
    fn rooms() -> TestRoomBuilder<Self::Room>;

    /// What happens, so that everything is shown that the server remembers.
    fn steps() -> Vec<Step>;
}

fn sleep_is_invisible<S: Story>() {
    let mut steps = S::steps();
    let told = block_on(transparency(S::rooms, &steps));
    if S::FORGETS {
        let difference = told.expect_err("it forgets");
        return assert_eq!(difference.failed, None, "{difference}");
    }
    told.unwrap_or_else(|difference| panic!("{difference}"));
    steps.push(Step::advance(Duration::from_secs(11)));
    let told = block_on(transparency_random(S::rooms, &steps, 1, 100));
    told.unwrap_or_else(|story| panic!("{story}"));
}

/// Within Tokio, because some servers wait for threads of it.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers").block_on(future)
}

macro_rules! tests {
    ($($name:ident: $server:ty,)*) => {$(
        mod $name {
            #[test]
            fn sleep_is_invisible() {
                super::sleep_is_invisible::<$server>();
            }

            #[test]
            fn junk_is_no_failure() {
                super::junk::is_no_failure::<$server>();
            }
        }
    )*};
}
partykit_guide::every_server!(tests);
