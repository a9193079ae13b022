//! What happens to each server.

mod examples;
mod guide;
mod readme;

use partykit::testing::Step;

/// Tells the story of a server that is made by `Default`, or by the value that is given.
macro_rules! story {
    ($server:ty, $steps:expr) => {
        story!($server, <$server>::default(), $steps);
    };
    ($server:ty, $make:expr, $steps:expr) => {
        impl $crate::Story for $server {
            type Room = Self;

            fn rooms() -> partykit::testing::TestRoomBuilder<Self> {
                partykit::testing::TestRoomBuilder::new(|_| $make)
            }

            fn steps() -> Vec<partykit::testing::Step> {
                Vec::from($steps)
            }
        }
    };
}
pub(crate) use story;

/// Ada and Bob talk, and both leave, in the two ways that there are.
fn a_talk() -> [Step; 9] {
    [
        Step::connect("ada"),
        Step::connect("bob"),
        Step::say("ada", "hello"),
        Step::say("bob", vec![0, 0xFF]),
        Step::connect("ada"),
        Step::say("bob", "anybody else?"),
        Step::close("ada", 1000),
        Step::vanish("bob"),
        Step::connect("eve"),
    ]
}
