use partykit::testing::Step;
use partykit_guide::{introduction, readme, web, workers};

use super::{a_talk, story};

story!(readme::Relay, a_talk());
story!(introduction::Relay, a_talk());
story!(workers::Relay, a_talk());
story!(web::Echo, a_talk());

story!(
    readme::Guestbook,
    readme::Guestbook,
    [
        Step::connect("ada"),
        Step::say("ada", "I was here"),
        Step::say("ada", "and again"),
        Step::say("ada", vec![0xFF]).may_fail(),
        Step::connect("bob"),
        Step::get(""),
        Step::close("ada", 1000),
        Step::vanish("bob"),
        Step::connect("eve"),
    ]
);
