use std::fmt;

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{Difference, Step, TestRoomBuilder, transparency::tell};
use crate::Server;

/// The longest story, in steps.
const LONGEST: usize = 40;

/// Checks with random stories that sleep is invisible. So it also finds a forgotten field that your own
/// stories do not need. A story is up to 40 steps from `alphabet`, in any order. The same `seed` gives the
/// same stories.
///
/// A step that is not possible does nothing, for example a message of a client that is not connected. Each
/// step [may fail](Step::may_fail). A step that is in the alphabet twice comes twice as often.
///
/// ```
/// use partykit_core::{Connection, Message, Result, Room, Server};
/// use partykit_core::testing::{Step, TestRoomBuilder, transparency_random};
///
/// /// Forgets in its sleep how much of the password was said.
/// #[derive(Default)]
/// struct Door {
///     said: usize,
/// }
///
/// impl Server for Door {
///     async fn on_message(&mut self, _: &Room, sender: &Connection, message: Message) -> Result {
///         let is_next = message.as_text() == ["open", "sesame", "now"].get(self.said).copied();
///         self.said = if is_next { self.said + 1 } else { 0 };
///         if self.said == 3 {
///             sender.send("the door opens");
///         }
///         Ok(())
///     }
/// }
///
/// # futures_executor::block_on(async {
/// let alphabet = ["open", "sesame", "now", "hello", "bye"].map(|word| Step::say("ada", word));
/// let alphabet = [&alphabet[..], &[Step::connect("ada")]].concat();
/// let rooms = || TestRoomBuilder::new(|_| Door::default());
/// let story = transparency_random(rooms, &alphabet, 1, 1_000).await.unwrap_err();
/// let steps: Vec<String> = story.steps.iter().map(ToString::to_string).collect();
/// let least = ["ada connects", r#"ada says "open""#, r#"ada says "sesame""#, r#"ada says "now""#];
/// assert_eq!(steps, least);
/// # });
/// ```
///
/// # Errors
///
/// The shortest story that was found in which sleep is visible.
///
/// # Panics
///
/// When `alphabet` is empty, or when the room does not sleep because it keeps itself awake.
pub async fn transparency_random<S: Server>(
    rooms: impl Fn() -> TestRoomBuilder<S>,
    alphabet: &[Step],
    seed: u64,
    stories: usize,
) -> Result<(), Story> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let step = prop::sample::select(alphabet.to_vec());
    let any = prop::collection::vec(step, 1..=LONGEST);
    for number in 1..=stories {
        let mut tree = any.new_tree(&mut runner).expect("every story is one");
        let mut steps = tree.current();
        let Err(mut difference) = tell(&rooms, &steps, false).await else { continue };
        while tree.simplify() {
            loop {
                let shorter = tree.current();
                match tell(&rooms, &shorter, false).await {
                    Err(found) => {
                        (steps, difference) = (shorter, found);
                        break;
                    }
                    Ok(()) if tree.complicate() => {}
                    Ok(()) => break,
                }
            }
        }
        return Err(shorten(&rooms, Story { number, steps, difference }).await);
    }
    Ok(())
}

/// Leaves out every step that is not needed. Proptest alone stops too early.
async fn shorten<S: Server>(rooms: &impl Fn() -> TestRoomBuilder<S>, mut story: Story) -> Story {
    story.steps.truncate(story.difference.step + 1);
    let mut at = story.steps.len();
    while at > 0 {
        at -= 1;
        let mut shorter = story.steps.clone();
        shorter.remove(at);
        if let Err(difference) = tell(rooms, &shorter, false).await {
            shorter.truncate(difference.step + 1);
            (story.steps, story.difference) = (shorter, difference);
            at = story.steps.len();
        }
    }
    story
}

/// A story in which sleep is visible, found by [`transparency_random`].
///
/// ```
/// use partykit_core::testing::Story;
///
/// /// For a report: how short the story is, and where sleep shows.
/// fn summary(story: &Story) -> String {
///     format!("after {} steps: {}", story.steps.len(), story.difference)
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Story {
    /// How many stories were tried until this one was found.
    pub number: usize,
    /// The steps of the story, without those that are not needed.
    pub steps: Vec<Step>,
    /// The difference that sleep makes.
    pub difference: Difference,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "in story {}, shrunk to {} steps:", self.number, self.steps.len())?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{number}. {step}")?;
        }
        self.difference.fmt(f)
    }
}

impl std::error::Error for Story {}
